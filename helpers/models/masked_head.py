"""A masked-language-model head for a BERT without one, as MiniLM is, whose [MASK] is random, too.
A checkpoint holds a head, that vector, and a low-rank change B A of each matrix (LoRA, Hu et al.
2022, arXiv 2106.09685), which `fill` adds to the matrix: the result is a plain BERT again.
Shapes: B texts, T positions, H hidden units, V tokens."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from helpers import require
from helpers.models import checkpoints
from helpers.models.pretrained import load_config, load_model, load_tokenizer
from helpers.models.softmax import softmax_cross_entropy
from helpers.text import IGNORED


class MaskedLM(nn.Module):
    """An encoder of the BERT family (an asset, a folder or a Hub id) and a head for masked tokens
    on its embedding matrix. A head that `name` lacks is random, with `pretrained=False` all is."""

    def __init__(self, name: str, pretrained: bool = True):
        super().__init__()
        if (kind := load_config(name).model_type) != "bert":
            raise ValueError(f"{name} is of the kind {kind}; take one of the kind bert")
        model, self.missing = load_model(AutoModelForMaskedLM, name, pretrained)
        self.encoder, self.head = model.bert, model.cls.predictions
        self.mask_id = load_tokenizer(name).mask_token_id
        words = self.encoder.get_input_embeddings().weight
        self.mask = nn.Parameter(words[self.mask_id].detach().clone())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask `(B, T)` -> the last hidden states `(B, T, H)`, for `loss` and `logits`."""
        masked = (input_ids == self.mask_id).unsqueeze(2)
        words = torch.where(masked, self.mask, self.encoder.get_input_embeddings()(input_ids))
        return self.encoder(inputs_embeds=words, attention_mask=attention_mask).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states `(…, H)` -> logits of all tokens `(…, V)`."""
        return self.head(hidden)

    def loss(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean nats a masked token; `batch["labels"]` `(B, T)` are the true, -100 elsewhere."""
        wanted = batch["labels"] != IGNORED
        states, truth = self.head.transform(hidden[wanted]), batch["labels"][wanted]
        weight, bias = self.head.decoder.weight, self.head.bias
        return softmax_cross_entropy(states, weight, bias, truth, pad_id=IGNORED)

    def start_from_frequencies(self, ids) -> None:
        """Set the bias to the log frequency of each token in `ids` `(N,)`, to learn faster."""
        counts = torch.bincount(torch.as_tensor(ids), minlength=len(self.head.bias)) + 0.1
        self.head.bias.data = (counts / counts.sum()).log().to(self.head.bias)

    def adapt(self, rank: int) -> None:
        """Freeze the encoder but for a low-rank change of each matrix of its layers (LoRA)."""
        peft, parts = require("peft", "lora"), ["query", "key", "value", "dense"]
        config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=parts)
        peft.inject_adapter_in_model(config, self.encoder)
        self.mask.requires_grad_(True)

    def save(self, name: str | Path, about: Mapping) -> None:
        """Write a checkpoint: head, [MASK], adapters, and `about` (where it comes from)."""
        head = self.head.state_dict().items()
        weights = {f"head.{key}": w for key, w in head if not key.startswith("decoder.")}  # tied
        weights["mask"] = self.mask.data
        for key, part in self.encoder.named_modules():
            if "default" in getattr(part, "lora_A", {}):
                weights[f"adapters.{key}.A"] = part.lora_A["default"].weight.data
                b, scale = part.lora_B["default"].weight.data, part.scaling["default"]
                weights[f"adapters.{key}.B"] = b * scale
        checkpoints.write(name, "masked_head", weights, {}, about)

    @torch.no_grad()
    def fill(self, name: str | Path) -> dict:
        """Take over what `save` wrote, the adapters added to the matrices; its `about`."""
        found = checkpoints.read(name, "masked_head")
        weights, words = found.weights, self.encoder.get_input_embeddings().weight
        matrices = {f"adapters.{key}.A": part.weight for key, part in self.encoder.named_modules()
                    if isinstance(part, nn.Linear) and key.startswith("encoder.")}  # fmt: skip
        with checkpoints.one_sentence(f"{found.file} is no head for this encoder, train one"):
            low = {key for key in weights if key.endswith(".A")}
            if low and low != matrices.keys():
                raise ValueError(f"it changes {len(low)} matrices, not {len(matrices)}")
            head = {k.removeprefix("head."): w for k, w in weights.items() if k.startswith("head.")}
            head |= {"decoder.weight": words, "decoder.bias": head["bias"]}
            checkpoints.fill(lambda: self.head, head, "its head")
            self.mask.copy_(weights["mask"])
            words[self.mask_id] = self.mask
            for key in low:
                matrices[key] += (weights[f"{key[:-1]}B"] @ weights[key]).to(matrices[key])
        return found.about


def load(name: str, checkpoint: str | Path | None = None) -> tuple[MaskedLM, dict]:
    """A masked language model in evaluation mode, and what is known of its head: the model's own,
    or else that of a `checkpoint` (a name or a path). `ValueError` if there is neither."""
    model, about = MaskedLM(name), {"head": "its own"}
    if model.missing:
        if checkpoint is None:
            raise ValueError(f"{name} has no trained head: name a checkpoint, or train one")
        about = model.fill(checkpoint)
    return model.eval(), about

"""A head that fills gaps, for a BERT that came without one, and what the encoder needs for it.

MiniLM learned to imitate another model's attention, and later to compare sentences. It never had to
fill a gap: it has no head for that, and its vector of [MASK] is still the noise that it began with.
A checkpoint of this file holds what turns such an encoder into a masked language model: the head,
the vector, and a low-rank change B A of each matrix (LoRA, Hu et al. 2022, arXiv 2106.09685), which
`load` adds to the matrix, so that what comes out is a plain BERT again.

Shapes: B texts, T positions, H hidden units, V pieces, N gaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, BertForMaskedLM

from helpers import assets
from helpers.models import checkpoints
from helpers.models.encoder import load_tokenizer, read_whole
from helpers.models.softmax import softmax_cross_entropy
from helpers.text import IGNORED

KIND = "masked_head"
MATRICES = ["query", "key", "value", "dense"]  # all of a layer, the two large ones are both `dense`


class MaskedLM(nn.Module):
    """An encoder and a head that guesses the pieces at masked positions.

    `name` is an offline model, a folder or a Hub id of the BERT family. The head starts from noise
    (its scores use the embedding matrix, as BERT's do), and with `pretrained=False` so does the
    encoder. `load` is the way to a trained one.
    """

    def __init__(self, name: str, pretrained: bool = True):
        super().__init__()
        place, self.mask_id = assets.resolve(name), load_tokenizer(name).mask_token_id
        config = AutoConfig.from_pretrained(place)
        if config.model_type != "bert":
            raise ValueError(
                f"{name} is of the kind {config.model_type}; take one of the kind bert"
            )
        self.missing: list[str] = []
        if pretrained:
            model, self.missing = read_whole(BertForMaskedLM, name)
        else:
            model = BertForMaskedLM(config)
        self.encoder, self.head = model.bert, model.cls.predictions
        self.mask = nn.Parameter(self._words.weight[self.mask_id].detach().clone())

    @property
    def _words(self) -> nn.Embedding:
        return self.encoder.embeddings.word_embeddings

    def forward(self, input_ids, attention_mask):
        """Ids and mask `(B, T)` -> the last hidden states `(B, T, H)`. Scores of all pieces at all
        positions would cost as much as the encoder; `loss` and `scores` take those at gaps."""
        gaps = (input_ids == self.mask_id).unsqueeze(2)
        words = torch.where(gaps, self.mask, self._words(input_ids))
        return self.encoder(inputs_embeds=words, attention_mask=attention_mask).last_hidden_state

    def scores(self, hidden):
        """Hidden states `(…, H)` -> scores of all pieces `(…, V)`."""
        return self.head(hidden)

    def loss(self, hidden, batch: dict) -> torch.Tensor:
        """Mean nats a gap, for `training.fit`: `batch["labels"]` `(B, T)` has the true pieces, and
        -100 where there is nothing to guess."""
        wanted = batch["labels"] != IGNORED
        guess, truth = self.head.transform(hidden[wanted]), batch["labels"][wanted]
        weight, bias = self.head.decoder.weight, self.head.bias
        return softmax_cross_entropy(guess, weight, bias, truth, pad_id=IGNORED)

    def start_from_frequencies(self, ids) -> None:
        """Set the bias to the log frequency of each piece in the text `ids` `(N,)`: a head that
        does not know better guesses by frequency, and has no need to learn that slowly."""
        counts = torch.bincount(torch.as_tensor(ids), minlength=len(self.head.bias)) + 0.1
        self.head.bias.data = (counts / counts.sum()).log().to(self.head.bias)

    def adapt(self, rank: int) -> None:
        """Freeze the encoder but for a low-rank change of each matrix of its layers (LoRA)."""
        from peft import LoraConfig, inject_adapter_in_model  # slow to import, only for training

        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=MATRICES)
        inject_adapter_in_model(config, self.encoder)
        self.mask.requires_grad_(True)

    def save(self, stem, about: Mapping) -> None:
        """Write a checkpoint (its name or path without ending): head, [MASK], adapters, sizes, and
        `about` (where it comes from, as numbers and texts)."""
        weights = {f"head.{name}": w for name, w in self.head.state_dict().items()}
        weights = {k: w for k, w in weights.items() if not k.startswith("head.decoder.")}  # tied
        weights["mask"] = self.mask.data
        for name, part in self.encoder.named_modules():
            if "default" in getattr(part, "lora_A", {}):
                weights[f"adapters.{name}.A"] = part.lora_A["default"].weight.data
                b, scale = part.lora_B["default"].weight.data, part.scaling["default"]
                weights[f"adapters.{name}.B"] = b * scale
        facts = {"sizes": list(self._words.weight.shape), "about": dict(about)}
        checkpoints.write(stem, KIND, weights, facts)

    def fill(self, stem) -> dict:
        """Take over what `save` wrote, the adapters added to the matrices; its `about`.

        Raises `ValueError` where it is something else or made for an encoder of other sizes.
        """
        facts, weights = checkpoints.read(stem, KIND)
        sizes = list(self._words.weight.shape)
        if facts["sizes"] != sizes:
            raise ValueError(f"{stem} is for an encoder of {facts['sizes']} pieces and units, and "
                             f"this one has {sizes}: train a head for it")  # fmt: skip
        adapters = {k[len("adapters.") : -len(".A")]: w for k, w in weights.items()
                    if k.startswith("adapters.") and k.endswith(".A")}  # fmt: skip
        ours = {name: part.weight for name, part in self.encoder.named_modules()
                if isinstance(part, nn.Linear) and name.startswith("encoder.")}  # fmt: skip
        if adapters and adapters.keys() != ours.keys():
            raise ValueError(f"{stem} changes {len(adapters)} matrices of an encoder, and this one "
                             f"has {len(ours)}: train a head for it")  # fmt: skip
        head = {k.removeprefix("head."): w for k, w in weights.items() if k.startswith("head.")}
        head |= {"decoder.weight": self._words.weight, "decoder.bias": head.get("bias")}
        checkpoints.fill(self.head, head, f"{stem}.safetensors")
        self.mask.data = weights["mask"]
        with torch.no_grad():
            self._words.weight[self.mask_id] = self.mask
            for name, low in adapters.items():
                ours[name] += weights[f"adapters.{name}.B"] @ low
        return facts["about"]


def load(name: str, checkpoint: str | Path | None = None) -> tuple[MaskedLM, dict]:
    """A masked language model in evaluation mode, and what is known of its head.

    The head is the model's own where it has one, and no checkpoint is looked for; else it is that
    of `checkpoint`, written by `MaskedLM.save`: a name of the series or a path, as
    `checkpoints.find` takes them. Raises `ValueError` or `FileNotFoundError` if there is neither.
    """
    model, about = MaskedLM(name), {"head": "its own"}
    if model.missing:
        if checkpoint is None:
            raise ValueError(f"{name} has no trained head: name a checkpoint, or train one")
        about = model.fill(checkpoint)
    return model.eval(), about

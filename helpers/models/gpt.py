"""GPT-2 (Radford et al. 2019) in one file, to be read from top to bottom, and what it generates.

Each position sees itself and the positions before it, and predicts the next token. Parameters have
GPT-2's names and layout, so the weights of a GPT-2 folder fit, with the same numbers.

Shapes: B texts, T tokens, P tokens in the cache, H units in A heads of D = H / A, V known tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D  # a linear layer whose matrix is (inputs, outputs)

from helpers.models import checkpoints
from helpers.models.pretrained import load_config, load_model
from helpers.models.softmax import softmax_cross_entropy
from helpers.text import IGNORED

KIND = "gpt"
Cache = list[tuple[Tensor, Tensor]]  # keys and values of each block, `(B, A, P, D)`


@dataclass(frozen=True)
class GPTConfig:
    """Sizes under GPT-2's names; the defaults are its smallest model, 124 M parameters."""

    vocab_size: int = 50_257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    dropout: float = 0.1
    layer_norm_epsilon: float = 1e-5


class CausalSelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(D)) V in A heads, where the future has no weight; then a linear map."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        if config.n_embd % config.n_head:
            raise ValueError("the width n_embd must be a multiple of the number of heads, n_head")
        self.n_head, self.dropout = config.n_head, nn.Dropout(config.dropout)
        self.c_attn = Conv1D(3 * config.n_embd, config.n_embd)  # query, key and value at once
        self.c_proj = Conv1D(config.n_embd, config.n_embd)

    def forward(self, x: Tensor, visible: Tensor | None, past: tuple | None):
        """`(B, T, H)`; `visible` `(B or 1, 1, T, P + T)` is true where a row may look, None means
        all of the past -> `(B, T, H)`, and keys and values of past and present."""
        heads = self.c_attn(x).unflatten(2, (3, self.n_head, -1))  # (B, T, 3, A, D)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, A, T, D) each
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        how = {"dropout_p": self.dropout.p if self.training else 0.0}
        how |= {"is_causal": True} if visible is None and past is None else {"attn_mask": visible}
        mixed = F.scaled_dot_product_attention(q, k, v, **how)
        return self.dropout(self.c_proj(mixed.transpose(1, 2).flatten(2))), (k, v)


class Block(nn.Module):
    """Attention, then a feed-forward network, each on normalised input and added to its input."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        width, epsilon = config.n_embd, config.layer_norm_epsilon
        self.ln_1, self.ln_2 = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)
        self.attn, self.dropout = CausalSelfAttention(config), nn.Dropout(config.dropout)
        wide = {"c_fc": Conv1D(4 * width, width), "c_proj": Conv1D(width, 4 * width)}
        self.mlp = nn.ModuleDict(wide)

    def forward(self, x: Tensor, visible: Tensor | None, past: tuple | None):
        """States `(B, T, H)` -> states, and keys and values."""
        mixed, present = self.attn(self.ln_1(x), visible, past)
        x = x + mixed
        wide = F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.dropout(self.mlp["c_proj"](wide)), present


class GPT(nn.Module):
    """`GPT(config)` has random weights; `GPT.load` reads a GPT-2 folder, `GPT.from_checkpoint` one
    of the series. Its head is the embedding matrix (tied weights)."""

    context = 1  # tokens that a window of `loss` has more than it has targets

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config, width = config, config.n_embd
        parts = {"wte": nn.Embedding(config.vocab_size, width)}
        parts |= {"wpe": nn.Embedding(config.n_positions, width)}
        parts |= {"h": nn.ModuleList(Block(config) for _ in range(config.n_layer))}
        parts |= {"ln_f": nn.LayerNorm(width, config.layer_norm_epsilon)}
        self.transformer, self.dropout = nn.ModuleDict(parts), nn.Dropout(config.dropout)
        self.lm_head = nn.Linear(width, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight
        deep = (2 * config.n_layer) ** -0.5  # so many outputs of c_proj add up
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02 * (deep if "c_proj" in name else 1))

    def states(self, input_ids: Tensor, attention_mask: Tensor | None = None,
               cache: Cache | None = None) -> tuple[Tensor, Cache]:  # fmt: skip
        """Ids `(B, T)`, mask `(B, P + T)` with 0 at padding -> the last states `(B, T, H)`, and the
        cache for the next call. A text's first real token has position 0, whatever its padding."""
        past, length = cache[0][0].size(2) if cache else 0, input_ids.size(1)
        total, visible = past + length, None
        if total > self.config.n_positions:
            raise ValueError(f"a text of {total} tokens is too long: this model reads "
                             f"{self.config.n_positions}")  # fmt: skip
        positions = torch.arange(past, total, device=input_ids.device)
        if attention_mask is not None or (past and length > 1):
            everything = torch.ones(total, total, dtype=torch.bool, device=input_ids.device)
            visible = everything.tril()[None, None, past:]
        if attention_mask is not None:  # padding sees itself, so that no row is empty
            itself = everything.tril().triu()[past:]
            visible = visible & (attention_mask[:, None, None, :].bool() | itself)
            positions = (attention_mask.cumsum(1) - 1).clamp(min=0)[:, past:]
        body, present = self.transformer, []
        x = self.dropout(body["wte"](input_ids) + body["wpe"](positions))
        for block, before in zip(body["h"], cache or [None] * len(body["h"]), strict=True):
            x, kept = block(x, visible, before)
            present.append(kept)
        return body["ln_f"](x), present

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Ids and mask `(B, T)` -> logits of the next token at each position, `(B, T, V)`."""
        return self.lm_head(self.states(input_ids, attention_mask)[0])

    def loss(self, tokens: Tensor, state: None = None) -> tuple[Tensor, Tensor, None]:
        """Windows `(B, T + 1)`, each token but the first a target -> mean nats a token, for
        `training.fit_language_model`, and the same detached. A window knows nothing of the last."""
        hidden = self.states(tokens[:, :-1])[0]
        nats = self.token_loss(hidden, tokens[:, 1:])
        return nats, nats.detach(), None

    def token_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """States `(B, T, H)`, the tokens that follow `(B, T)`, -100 where none counts -> nats."""
        weight = self.lm_head.weight
        flat, zero = hidden.flatten(0, 1), weight.new_zeros(len(weight))
        return softmax_cross_entropy(flat, weight, zero, targets.flatten(), pad_id=IGNORED)

    @torch.no_grad()
    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, *,
                 max_new_tokens: int = 50, stop: int | None = None, use_cache: bool = True,
                 generator: torch.Generator | None = None, **how) -> Tensor:  # fmt: skip
        """Prompts `(B, T)`, padded on the left where the mask is 0 -> prompts with what follows.

        A text that came to the token `stop` repeats it to the end. `how` is that of `choose`.
        Raises `ValueError` for an empty prompt, and for more tokens than the model reads.
        """
        length, longest = input_ids.size(1), self.config.n_positions
        if length + max_new_tokens > longest:
            raise ValueError(f"this model reads {longest} tokens: a prompt of {length} and "
                             f"{max_new_tokens} new ones are too many, shorten one")  # fmt: skip
        if not length or (attention_mask is not None and not attention_mask[:, -1].all()):
            raise ValueError("a prompt is empty or padded on the right: pad on the left")
        ids, mask, new, cache = input_ids, attention_mask, input_ids, None
        done = torch.zeros_like(ids[:, 0], dtype=torch.bool)
        for _ in range(max_new_tokens):
            hidden, present = self.states(new, mask, cache)
            seen = ids if mask is None else ids.where(mask.bool(), ids[:, -1:])
            token = choose(self.lm_head(hidden[:, -1]), seen, generator=generator, **how)
            if stop is not None:
                token = token.masked_fill(done, stop)
                done = token == stop
            ids = torch.cat([ids, token[:, None]], dim=1)
            mask = None if mask is None else F.pad(mask, (0, 1), value=1)
            new, cache = (ids[:, -1:], present) if use_cache else (ids, None)
            if done.all():
                break
        return ids

    @classmethod
    def load(cls, name: str) -> GPT:
        """A GPT-2 in transformers' format (a folder, a Hub id) in evaluation mode. Raises
        `ValueError` for another kind of model, and as `pretrained.load_model` does."""
        theirs = load_config(name)
        if theirs.model_type != "gpt2":
            raise ValueError(f"{name} is of the kind {theirs.model_type}, and this file reads "
                             "decoders of the kind gpt2")  # fmt: skip
        usual = {"activation_function": "gelu_new", "n_inner": 4 * theirs.n_embd}
        usual |= {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}
        usual |= {"tie_word_embeddings": True}
        for setting, value in usual.items():
            if (other := getattr(theirs, setting)) not in (None, value):
                raise ValueError(f"{name} has {setting}={other}, and this file reads {value}")
        sizes = {key: getattr(theirs, key) for key in asdict(GPTConfig()) if key != "dropout"}
        config = GPTConfig(**sizes, dropout=theirs.resid_pdrop)
        weights = load_model(GPT2LMHeadModel, name)[0].state_dict()
        return checkpoints.fill(lambda: cls(config), weights, name)

    def save(self, name: str | Path, tokenizer: Any, about: Mapping) -> None:
        """Write a checkpoint (weights, sizes, `about`) and beside it its `tokenizers.Tokenizer`."""
        weights = self.state_dict()
        del weights["lm_head.weight"]  # the embedding matrix once more
        checkpoints.write(name, KIND, weights, asdict(self.config), about)
        checkpoints.place(name).with_suffix(".json").write_text(tokenizer.to_str(), "utf-8")

    @classmethod
    def from_checkpoint(cls, name: str | Path) -> tuple[GPT, Any, dict]:
        """Model (float32, evaluation mode), tokenizer (as transformers has it) and `about` of what
        `save` wrote. Raises as `checkpoints.read`, and `ValueError` where they do not fit."""
        found = checkpoints.read(name, KIND, GPTConfig)
        config, words = found.configuration, found.file.with_suffix(".json")
        with checkpoints.one_sentence(f"{words} is no tokenizer"):
            end = {f"{kind}_token": "<|endoftext|>" for kind in ("bos", "eos", "pad")}
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(words), **end,
                                                model_max_length=config.n_positions)  # fmt: skip
        if len(tokenizer) != config.vocab_size:
            raise ValueError(f"{words} has {len(tokenizer)} tokens, its model {config.vocab_size}")
        tied = {"lm_head.weight": found.weights.get("transformer.wte.weight")}
        model = checkpoints.fill(lambda: cls(config), found.weights | tied, found.file)
        return model, tokenizer, found.about


def choose(logits: Tensor, seen: Tensor | None = None, *, temperature: float = 0.0, top_k: int = 0,
           top_p: float = 1.0, repetition_penalty: float = 1.0,
           generator: torch.Generator | None = None) -> Tensor:  # fmt: skip
    """The next tokens `(B,)` by logits `(B, V)`: the likeliest at temperature 0, else a draw.

    repetition_penalty: makes each token of `seen` `(B, N)` less likely (Keskar et al. 2019).
    temperature: divides the logits; below 1 it favours what is likely.
    top_k: the draw is among so many tokens; 0: all.
    top_p: the draw is among the fewest tokens that have this probability (Holtzman et al. 2020).
    """
    if temperature < 0 or top_k < 0 or not 0 < top_p <= 1 or repetition_penalty <= 0:
        raise ValueError(f"temperature is {temperature}, top_k {top_k}, top_p {top_p}, "
                         f"repetition_penalty {repetition_penalty}: take 0 or more, 0 or more, "
                         "above 0 to 1, above 0")  # fmt: skip
    if temperature == 0 and (top_k or top_p < 1):
        raise ValueError("top_k and top_p shape a draw: give a temperature above 0")
    if repetition_penalty != 1 and seen is not None:
        old = logits.gather(1, seen)
        old = torch.where(old < 0, old * repetition_penalty, old / repetition_penalty)
        logits = logits.scatter(1, seen, old)
    if temperature == 0:
        return logits.argmax(1)
    logits = logits / temperature
    if 0 < top_k < logits.size(1):
        least = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p < 1:
        sorted_, order = logits.softmax(1).sort(1, descending=True)
        outside = sorted_.cumsum(1) - sorted_ >= top_p  # the likelier ones have it already
        logits = logits.masked_fill(outside.scatter(1, order, outside), -torch.inf)
    return torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]

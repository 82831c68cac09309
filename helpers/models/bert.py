"""BERT (Devlin et al. 2018, aclanthology.org/N19-1423) in one file, to be read from top to bottom.

An encoder: every position sees every other, in both directions, through `n_layers` layers of
self-attention. Two heads serve its two training tasks, the masked language model and next-sentence
prediction. Weights of any BERT in transformers' format go in, and the same numbers come out.

Shapes: B texts, T positions (word pieces), H hidden units in A heads of D = H / A, V pieces.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, BertForPreTraining

from helpers import assets
from helpers.models.encoder import read_whole


class Embeddings(nn.Module):
    """Sum of three vectors: which piece it is, where it stands, and in which of two segments."""

    def __init__(self, config):
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.segment = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids, token_type_ids=None):
        """Ids `(B, T)`, segments `(B, T)` of 0 and 1 (all 0 if not given) -> `(B, T, H)`."""
        longest, length = self.position.num_embeddings, input_ids.size(1)
        if length > longest:
            raise ValueError(f"{length} positions are too many: this BERT has {longest}")
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        place = torch.arange(length, device=input_ids.device)
        total = self.word(input_ids) + self.segment(token_type_ids) + self.position(place)
        return self.dropout(self.norm(total))


class SelfAttention(nn.Module):
    """Each position asks (query) all positions (keys) and takes the mean of their values, weighted
    by how well query and key agree: softmax(Q K^T / sqrt(D)) V, in A heads side by side."""

    def __init__(self, config):
        super().__init__()
        if config.hidden_size % config.num_attention_heads:
            raise ValueError("the hidden size must be a multiple of the number of heads")
        self.heads = config.num_attention_heads
        self.query, self.key, self.value, self.output = (
            nn.Linear(config.hidden_size, config.hidden_size) for _ in range(4)
        )
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, x, attention_mask):
        """`(B, T, H)`, mask `(B, T)` with 0 at padding -> `(B, T, H)`, weights `(B, A, T, T)`."""
        q, k, v = (f(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, A, T, D)
                   for f in (self.query, self.key, self.value))  # fmt: skip
        scores = q @ k.transpose(2, 3) / k.size(3) ** 0.5  # (B, A, T, T): row asks, column answers
        unseen = attention_mask[:, None, None, :] == 0
        scores = scores.masked_fill(unseen, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=3)
        mixed = self.dropout(weights) @ v  # (B, A, T, D)
        return self.output(mixed.transpose(1, 2).flatten(2)), weights


class Layer(nn.Module):
    """Attention between positions, then two linear maps within each; both on a residual path."""

    def __init__(self, config):
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.inner = nn.Linear(config.hidden_size, config.intermediate_size)
        self.outer = nn.Linear(config.intermediate_size, config.hidden_size)
        self.outer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x, attention_mask):
        mixed, weights = self.attention(x, attention_mask)
        x = self.attention_norm(x + self.dropout(mixed))
        return self.outer_norm(x + self.dropout(self.outer(F.gelu(self.inner(x))))), weights


class Bert(nn.Module):
    """The encoder and its heads. `Bert(config)` starts from random weights, `Bert.load` from
    trained ones; `config` is a `transformers.BertConfig`."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.masked = MaskedHead(config, self.embeddings.word)
        self.next_sentence = nn.Linear(config.hidden_size, 2)
        self.apply(self._start)

    def _start(self, part):
        """Weights as the paper has them: normal with 0.02, biases 0."""
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=self.config.initializer_range)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        """Ids and mask `(B, T)` -> the hidden states of all layers, embeddings first, as a list of
        `(B, T, H)`, and the attention weights of all layers, a list of `(B, A, T, T)`."""
        states, attentions = [self.embeddings(input_ids, token_type_ids)], []
        for layer in self.layers:
            state, weights = layer(states[-1], attention_mask)
            states.append(state)
            attentions.append(weights)
        return states, attentions

    def pooled(self, state):
        """The last state `(B, T, H)` -> `(B, H)`: the first position through a layer with tanh."""
        return self.pooler(state[:, 0]).tanh()

    def guess(self, input_ids, attention_mask, token_type_ids=None):
        """Masked language model: scores of all pieces at all positions, `(B, T, V)`."""
        return self.masked(self(input_ids, attention_mask, token_type_ids)[0][-1])

    def follows(self, input_ids, attention_mask, token_type_ids):
        """Next-sentence prediction, `(B, 2)`: scores of *is the next* (0) and *is not* (1)."""
        states, _ = self(input_ids, attention_mask, token_type_ids)
        return self.next_sentence(self.pooled(states[-1]))

    @classmethod
    def load(cls, name: str, heads: bool = False) -> Bert:
        """A BERT in transformers' format: `minilm`, a folder or a Hub id; in evaluation mode.

        `heads=True` demands trained heads as well; without it they may be random. Raises
        `ValueError` if it is another kind of model, or lacks them or weights of the encoder.
        """
        place = assets.resolve(name)
        config = AutoConfig.from_pretrained(place)
        if config.model_type != "bert" or config.hidden_act != "gelu":
            kind = f"{config.model_type} with {getattr(config, 'hidden_act', 'unknown')}"
            raise ValueError(f"{name} is {kind}; this file reads bert with gelu")
        theirs, missing = read_whole(BertForPreTraining, name)
        if heads and missing:
            raise ValueError(f"{name} has no trained heads: {', '.join(missing)} are not in it")
        model = cls(config)
        model.load_state_dict(translate(theirs.state_dict()))
        return model.eval()


class MaskedHead(nn.Module):
    """A layer, then scores of all pieces by the embedding matrix itself, plus a bias for each."""

    def __init__(self, config, word: nn.Embedding):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.scores = nn.Linear(config.hidden_size, config.vocab_size)
        self.scores.weight = word.weight  # one matrix for reading and for guessing

    def forward(self, state):
        return self.scores(self.norm(F.gelu(self.dense(state))))


NAMES = {  # transformers' name of a part -> ours, replaced from top to bottom
    "bert.embeddings.word_embeddings": "embeddings.word",
    "bert.embeddings.position_embeddings": "embeddings.position",
    "bert.embeddings.token_type_embeddings": "embeddings.segment",
    "bert.embeddings.LayerNorm": "embeddings.norm",
    "bert.encoder.layer": "layers",
    "bert.pooler.dense": "pooler",
    "cls.predictions.transform.dense": "masked.dense",
    "cls.predictions.transform.LayerNorm": "masked.norm",
    "cls.predictions.decoder": "masked.scores",
    "cls.predictions.bias": "masked.scores.bias",
    "cls.seq_relationship": "next_sentence",
    "attention.self": "attention",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "inner",
    "output.dense": "outer",
    "output.LayerNorm": "outer_norm",
}


def translate(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of transformers' `BertForPreTraining` under the names of this file."""
    found = {}
    for key, tensor in weights.items():
        if key.endswith("position_ids"):  # a constant of older files
            continue
        for theirs, ours in NAMES.items():
            key = key.replace(theirs, ours, 1)
        found[key] = tensor
    return found

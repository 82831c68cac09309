"""The encoder of BERT (Devlin et al. 2019, aclanthology.org/N19-1423): every position sees every
other through layers of self-attention. The weights of a BERT with GELU in transformers' format fit.
Shapes: B texts, T positions (tokens), H hidden units in A heads of D = H / A."""

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from helpers.models.pretrained import load_config, load_model


class SelfAttention(nn.Module):
    """Multi-head self-attention: softmax(Q K^T / sqrt(D)) V in A heads, then one linear map. Each
    position takes the mean of all values, weighted by how well their keys match its query."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.heads, size = config.num_attention_heads, config.hidden_size
        self.query, self.key, self.value, self.output = (nn.Linear(size, size) for _ in range(4))
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, x: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, T, H)`, mask `(B, T)` with 0 at padding -> `(B, T, H)`, weights `(B, A, T, T)`,
        which are equal in a text without any real token."""
        q, k, v = (f(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, A, T, D)
                   for f in (self.query, self.key, self.value))  # fmt: skip
        scores = q @ k.transpose(2, 3) / k.size(3) ** 0.5  # (B, A, T, T): row asks, column answers
        padding = attention_mask[:, None, None, :] == 0
        weights = scores.masked_fill(padding, torch.finfo(scores.dtype).min).softmax(dim=3)
        mixed = self.dropout(weights) @ v  # (B, A, T, D)
        return self.output(mixed.transpose(1, 2).flatten(2)), weights


class Layer(nn.Module):
    """One encoder block: self-attention and a feed-forward network, each with a residual
    connection around it and a layer normalisation after it."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        sizes = config.hidden_size, config.intermediate_size
        self.feed_forward = nn.Sequential(nn.Linear(*sizes), nn.GELU(), nn.Linear(*sizes[::-1]))
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """States `(B, T, H)`, mask `(B, T)` -> states and attention weights `(B, A, T, T)`."""
        attended, weights = self.attention(x, attention_mask)
        x = self.attention_norm(x + self.dropout(attended))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x))), weights


class Bert(nn.Module):
    """Embeddings and layers: `Bert(config)` with random weights, `Bert.load` with trained."""

    def __init__(self, config: BertConfig):
        super().__init__()
        size = config.hidden_size
        self.word = nn.Embedding(config.vocab_size, size, config.pad_token_id)
        self.position = nn.Embedding(config.max_position_embeddings, size)
        self.segment = nn.Embedding(config.type_vocab_size, size)
        self.norm = nn.LayerNorm(size, config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        for name, weights in self.named_parameters():  # the paper's start
            if "norm" not in name:  # biases are 0
                nn.init.normal_(weights, std=config.initializer_range * (weights.dim() > 1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor,
                token_type_ids: Tensor | None = None) -> tuple[list, list]:  # fmt: skip
        """Ids and mask `(B, T)`, segments `(B, T)` of 0 and 1 (None: all 0) -> states `(B, T, H)`
        of the embeddings and of each layer, and attention weights `(B, A, T, T)` of each layer."""
        if (length := input_ids.size(1)) > (longest := self.position.num_embeddings):
            raise ValueError(f"{length} positions are too many: this BERT has {longest}")
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        positions = torch.arange(length, device=input_ids.device)
        total = self.word(input_ids) + self.segment(segments) + self.position(positions)
        states, attentions = [self.dropout(self.norm(total))], []
        for layer in self.layers:
            state, weights = layer(states[-1], attention_mask)
            states.append(state)
            attentions.append(weights)
        return states, attentions

    @classmethod
    def load(cls, name: str) -> "Bert":
        """A BERT in transformers' format (`minilm`, a folder, a Hub id) in evaluation mode."""
        config = load_config(name)
        if config.model_type != "bert" or config.hidden_act != "gelu":
            kind = f"{config.model_type} with {getattr(config, 'hidden_act', 'unknown')}"
            raise ValueError(f"{name} is {kind}; this file reads bert with gelu")
        model = cls(config)
        model.load_state_dict(translate(load_model(BertModel, name)[0].state_dict()))
        return model.eval()


NAMES = {  # transformers' name of a part -> ours, replaced from top to bottom
    "embeddings.word_embeddings": "word", "embeddings.position_embeddings": "position",
    "embeddings.token_type_embeddings": "segment", "embeddings.LayerNorm": "norm",
    "encoder.layer": "layers", "attention.self": "attention",
    "attention.output.dense": "attention.output", "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "feed_forward.0", "output.dense": "feed_forward.2",
    "output.LayerNorm": "feed_forward_norm",
}  # fmt: skip


def translate(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of transformers' `BertModel` under the names of this file, without the pooler."""
    found = {}
    for key, tensor in weights.items():
        for theirs, ours in NAMES.items():
            key = key.replace(theirs, ours)
        found[key] = tensor
    return {key: tensor for key, tensor in found.items() if not key.startswith("pooler.")}

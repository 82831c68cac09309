"""AWD-LSTM (Merity et al. 2018, arXiv 1708.02182): LSTM layers with five kinds of dropout, and
ULMFiT's language model and classifier on them (Howard & Ruder 2018, aclanthology.org/P18-1031).
Shapes: B texts side by side, T positions, V words, E = embedding, H = hidden, C classes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers.models import checkpoints
from helpers.models.softmax import softmax_cross_entropy
from helpers.text import Vocabulary

State = list[tuple[Tensor, Tensor]]  # h and c of each layer, (1, B, units)
DROPOUTS = ("output", "hidden", "input", "embedding", "weight")
ALPHA, BETA = 2.0, 1.0  # weights of activation and temporal activation regularisation


@dataclass(frozen=True)
class AWDLSTMConfig:
    """Sizes and dropouts, by default those of ULMFiT's language model (1152 units as in fastai; the
    paper has 1150). `multiplier` scales all five dropouts."""

    n_words: int
    embedding: int = 400
    hidden: int = 1152
    layers: int = 3
    output_dropout: float = 0.1
    hidden_dropout: float = 0.15
    input_dropout: float = 0.25
    embedding_dropout: float = 0.02
    weight_dropout: float = 0.2
    multiplier: float = 1.0
    pad_id: int = 0

    def dropout(self, name: str) -> float:
        """The share that one of `DROPOUTS` drops."""
        return self.multiplier * getattr(self, f"{name}_dropout")

    def for_classifier(self) -> "AWDLSTMConfig":
        """The same network with the classifier's dropouts of ULMFiT."""
        return replace(self, output_dropout=0.4, hidden_dropout=0.3, input_dropout=0.4,
                       embedding_dropout=0.05, weight_dropout=0.5, multiplier=0.5)  # fmt: skip


def variational_dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Dropout of `x` (B, T, features), one mask for all positions (Gal & Ghahramani 2016)."""
    return x * F.dropout(x.new_ones(x.size(0), 1, x.size(2)), p=p) if training and p else x


class WeightDropLSTM(nn.Module):
    """One LSTM layer; each call in training drops other recurrent weights (Wan et al. 2013)."""

    def __init__(self, n_in: int, n_out: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.weight_ih = nn.Parameter(torch.empty(4 * n_out, n_in))
        self.weight_hh = nn.Parameter(torch.empty(4 * n_out, n_out))
        self.bias_ih, self.bias_hh = (nn.Parameter(torch.empty(4 * n_out)) for _ in range(2))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(n_out**-0.5), n_out**-0.5)

    def forward(self, x: Tensor, state: tuple) -> tuple[Tensor, tuple]:
        """`x` (B, T, in), state `(h, c)` of (1, B, out) each -> (B, T, out), state."""
        dropped = F.dropout(self.weight_hh, p=self.dropout, training=self.training)
        weights = [self.weight_ih, dropped, self.bias_ih, self.bias_hh]
        backward = torch.is_grad_enabled()
        out, *state = torch.lstm(x, state, weights, True, 1, 0.0, backward, False, True)
        return out, tuple(state)


class AWDLSTM(nn.Module):
    """The encoder: embeddings and LSTM layers of the sizes E -> H -> … -> H -> E."""

    def __init__(self, config: AWDLSTMConfig):
        super().__init__()
        self.config, size = config, config.embedding
        self.embedding = nn.Embedding(config.n_words, size, config.pad_id)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        sizes = pairwise([size, *[config.hidden] * (config.layers - 1), size])
        self.layers = nn.ModuleList(WeightDropLSTM(*s, config.dropout("weight")) for s in sizes)

    def start(self, n: int) -> State:
        """The state before the first word of `n` texts: zeros."""
        like, sizes = self.embedding.weight, [layer.weight_hh.size(1) for layer in self.layers]
        return [(like.new_zeros(1, n, size), like.new_zeros(1, n, size)) for size in sizes]

    def forward(self, input_ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Ids (B, T) and the state after the words before them, if any -> outputs of the last layer
        (B, T, E), before any dropout, and the state, detached."""
        state, after = state or self.start(len(input_ids)), []
        x = self.embed(input_ids)
        for depth, layer in enumerate(self.layers):
            p = self.config.dropout("hidden" if depth else "input")
            x, (h, c) = layer(variational_dropout(x, p, self.training), state[depth])
            after.append((h.detach(), c.detach()))
        return x, after

    def embed(self, input_ids: Tensor) -> Tensor:
        """Ids (B, T) -> vectors (B, T, E); dropout drops a word at all its positions."""
        vectors, p = self.embedding(input_ids), self.config.dropout("embedding")
        if not self.training or not p:
            return vectors
        kept = F.dropout(vectors.new_ones(self.embedding.num_embeddings, 1), p=p)
        return vectors * kept[input_ids]  # the same as dropping the matrix's rows first

    def layer_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by depth, from the words up."""
        parts = {"embeddings": self.embedding}
        parts |= {f"LSTM {i}": layer for i, layer in enumerate(self.layers, 1)}
        return {name: list(part.parameters()) for name, part in parts.items()}


class LanguageModel(nn.Module):
    """Predicts each next word; embedding and decoder are one matrix (Press & Wolf 2017)."""

    context = 1  # words that a window of `loss` has more than it has targets

    def __init__(self, config: AWDLSTMConfig):
        super().__init__()
        self.config = config
        self.encoder = AWDLSTM(config)
        self.decoder = nn.Linear(config.embedding, config.n_words)
        self.decoder.weight = self.encoder.embedding.weight
        nn.init.zeros_(self.decoder.bias)

    def forward(self, input_ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Ids (B, T) -> logits of the next word (B, T, V), state."""
        raw, state = self.encoder(input_ids, state)
        return self.decoder(self._drop(raw)), state

    def loss(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, Tensor, State]:
        """Windows (B, T + 1) of ids, each word but the first a target -> the loss, its mean
        negative log-likelihood in nats a word (detached) and the state. In training, the loss says
        as well that outputs should be small (dropped) and change slowly (Merity et al. 2017)."""
        raw, state = self.encoder(tokens[:, :-1], state)
        dropped = self._drop(raw)
        hidden, targets = dropped.flatten(0, 1), tokens[:, 1:].flatten()
        weight, bias, pad_id = self.decoder.weight, self.decoder.bias, self.config.pad_id
        loss = nll = softmax_cross_entropy(hidden, weight, bias, targets, pad_id)
        if self.training:
            loss = loss + ALPHA * dropped.square().mean()
            if raw.size(1) > 1:
                loss = loss + BETA * (raw[:, 1:] - raw[:, :-1]).square().mean()
        return loss, nll.detach(), state

    def _drop(self, raw):
        return variational_dropout(raw, self.config.dropout("output"), self.training)

    def layer_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by depth, for `transfer`; the tied matrix is in the embeddings."""
        return self.encoder.layer_groups() | {"head": [self.decoder.bias]}

    def with_vocabulary(self, old: Sequence[str], new: Sequence[str]) -> "LanguageModel":
        """A copy for the words `new`: those of `old` keep their rows, the others get the mean."""
        place, device = {word: row for row, word in enumerate(old)}, self.decoder.bias.device
        rows = [place.get(word, self.config.n_words) for word in new]
        model, weights = LanguageModel(replace(self.config, n_words=len(new))), self.state_dict()
        for name in ("encoder.embedding.weight", "decoder.weight", "decoder.bias"):
            mean = weights[name].mean(0, keepdim=True)
            weights[name] = torch.cat([weights[name], mean])[rows]
        model.load_state_dict(weights)
        return model.to(device).train(self.training)

    def save(self, name: str | Path, vocabulary: Vocabulary, about: Mapping) -> None:
        """Write a checkpoint: weights, sizes, words, and `about` (where the model comes from)."""
        if len(vocabulary) != self.config.n_words:
            raise ValueError(f"{len(vocabulary)} words are not the model's {self.config.n_words}")
        weights = self.state_dict()
        del weights["decoder.weight"]  # the embedding matrix once more
        checkpoints.write(name, "awd_lstm", weights, asdict(self.config), about, vocabulary.words)

    @classmethod
    def from_checkpoint(cls, name: str | Path) -> "tuple[LanguageModel, Vocabulary, dict]":
        """Model (evaluation mode), vocabulary and `about` of what `save` wrote."""
        found = checkpoints.read(name, "awd_lstm", AWDLSTMConfig)
        if (table := "encoder.embedding.weight") in found.weights:
            found.weights["decoder.weight"] = found.weights[table]
        model = checkpoints.fill(partial(cls, found.configuration), found.weights, found.file)
        return model, found.vocabulary, found.about


class _BatchNorm(nn.BatchNorm1d):
    """As PyTorch's; a batch of one text, which has no spread, is normalised as in evaluation."""

    def forward(self, x):
        known = self.running_mean, self.running_var, self.weight, self.bias
        return super().forward(x) if len(x) > 1 else F.batch_norm(x, *known)


class Classifier(nn.Module):
    """The encoder, its outputs pooled (`"concat"`: the last one, maximum and mean; `"last"`: that
    alone), and two layers on top. The state is carried from one window of `window` words to the
    next; to save memory, gradients do not cross windows and stop `max_length` words back."""

    def __init__(self, config: AWDLSTMConfig, n_classes: int, *, pooling: str = "concat",
                 window: int = 70, max_length: int = 1400):  # fmt: skip
        super().__init__()
        if pooling not in ("concat", "last"):
            raise ValueError(f"pooling is {pooling!r}, but must be concat or last")
        self.encoder, self.pooling = AWDLSTM(config), pooling
        self.window, self.tracked = window, max(1, max_length // window)
        size = config.embedding * (3 if pooling == "concat" else 1)
        first = [_BatchNorm(size), nn.Dropout(config.dropout("output")), nn.Linear(size, 50)]
        second = [_BatchNorm(50), nn.Dropout(0.1), nn.Linear(50, n_classes)]
        self.head = nn.Sequential(*first, nn.ReLU(), *second)

    @classmethod
    def from_language_model(cls, model: LanguageModel, n_classes: int, **options) -> "Classifier":
        """A classifier on a copy of the encoder, with the dropouts of `config`, if it is given."""
        classifier = cls(options.pop("config", model.config.for_classifier()), n_classes, **options)
        classifier.encoder.load_state_dict(model.encoder.state_dict())
        return classifier.to(model.decoder.bias.device)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask (B, T), padding at the end -> logits (B, C)."""
        return self.head(self.features(input_ids, attention_mask))

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The pooled outputs (B, 3 E), or the last (B, E); an empty text is one word of padding."""
        if (attention_mask.long().diff(dim=1) > 0).any():
            raise ValueError("padding must stand behind a text's words, not before or among them")
        lengths = attention_mask.sum(1).clamp(min=1)
        windows = -(-lengths // self.window)
        order = windows.argsort(descending=True, stable=True)
        return self._read(input_ids[order], lengths[order], windows[order])[order.argsort()]

    def _read(self, ids, lengths, windows):
        """Texts by falling number of windows: they end together, so gradients reach each end."""
        n_texts, most = len(ids), int(windows[0])
        state, total, highest = self.encoder.start(n_texts), 0.0, None
        within = torch.arange(self.window, device=ids.device)
        for step in range(most):
            number = windows - most + step  # of the window that a text is at; below 0: not begun
            n = int((number >= 0).sum())
            place = number[:n, None] * self.window + within
            real = place < lengths[:n, None]
            width = int(real.sum(1).max())
            place, real = place[:, :width], real[:, :width, None]  # (n, width), (n, width, 1)
            words = ids[:n].gather(1, place.clamp(max=ids.size(1) - 1))
            rest = (0, 0, 0, n_texts - n)  # rows of the texts that have not begun
            tracked = torch.is_grad_enabled() and step >= most - self.tracked
            with torch.set_grad_enabled(tracked):
                out, after = self.encoder(words, [(h[:, :n], c[:, :n]) for h, c in state])
                out = out.to(self.encoder.embedding.weight.dtype)  # autocast made it shorter
                state = [(F.pad(h, rest), F.pad(c, rest)) for h, c in after]
                total = total + F.pad((out * real).sum(1), rest)
                peak = F.pad(out.masked_fill(~real, -torch.inf).amax(1), rest, value=-torch.inf)
                highest = peak if highest is None else torch.maximum(highest, peak)
        last = out[torch.arange(n_texts, device=ids.device), real.sum(1)[:, 0] - 1]
        parts = [last, highest, total / lengths[:, None]]
        return last if self.pooling == "last" else torch.cat(parts, dim=1)

    def layer_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by depth, for `transfer`."""
        return self.encoder.layer_groups() | {"head": list(self.head.parameters())}

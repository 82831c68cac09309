"""ELMo (Peters et al. 2018, aclanthology.org/N18-1202): a word's characters go through a CNN, the
words through two stacks of LSTMs, one predicts the next word, one the word before. Each task learns
its own mix of all layers. The official files fit, with the original implementation's numbers.
Shapes: B sentences, T words, C characters, H hidden units, P units after their projection. An LSTM
reads (2, T, B, P): two directions, each in its own order of reading, one step of both at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import require
from helpers.models import checkpoints
from helpers.models.softmax import softmax_cross_entropy

BOS, EOS, BOW, EOW, PAD = 256, 257, 258, 259, 260  # "characters" beside the 256 bytes
MARKERS = {"<S>": [BOS], "</S>": [EOS]}  # begin and end of a sentence are words of their own
N_CHARACTERS = 262  # all of them plus 1, as row 0 stands for no word at all
SPAN = 256  # time steps whose input products are made at once
CHUNK = 512  # words in a call of the character network
State = list[tuple[Tensor, Tensor]]  # of each layer: h (2, B, P), c (2, B, H)
Layers = tuple[list[Tensor], State]


def character_ids(words: Sequence[str], max_characters: int = 50) -> np.ndarray:
    """Words as `(T, C)` int64: begin of word, its first bytes in UTF-8, end of word, padding."""
    ids = np.full((len(words), max_characters), PAD, dtype=np.int64)
    for row, word in zip(ids, words, strict=True):
        inner = MARKERS.get(word) or [*word.encode("utf-8", "ignore")[: max_characters - 2]]
        row[: len(inner) + 2] = [BOW, *inner, EOW]
    return ids + 1


@dataclass(frozen=True)
class ElmoConfig:
    """The sizes of an ELMo, by default the official "original" one's. `filters` are pairs of (width
    in characters, number); `skip` adds a layer's input to its output from the second layer on."""

    dim: int = 4096
    projection: int = 512
    n_layers: int = 2
    character_dim: int = 16
    filters: tuple = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
    n_highway: int = 2
    max_characters: int = 50
    cell_clip: float = 3.0
    projection_clip: float = 3.0
    skip: bool = True
    dropout: float = 0.1

    def __post_init__(self):
        object.__setattr__(self, "filters", tuple((int(w), int(n)) for w, n in self.filters))


class Highway(nn.Module):
    """`(N, F)` -> `(N, F)`: a gate says how much of each unit is transformed, the rest stays."""

    def __init__(self, size: int):
        super().__init__()
        self.carry, self.transform = nn.Linear(size, size), nn.Linear(size, size)
        nn.init.constant_(self.carry.bias, -2.0)  # at first most of it stays

    def forward(self, x: Tensor) -> Tensor:
        gate = self.carry(x).sigmoid()
        return gate * F.relu(self.transform(x)) + (1 - gate) * x


class CharacterCNN(nn.Module):
    """The spelling of words `(N, C)` -> their vectors `(N, P)`, whatever the context."""

    def __init__(self, config: ElmoConfig):
        super().__init__()
        size, dim = sum(count for _, count in config.filters), config.character_dim
        self.embedding = nn.Embedding(N_CHARACTERS, dim, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, n, width) for width, n in config.filters)
        self.highways = nn.Sequential(*(Highway(size) for _ in range(config.n_highway)))
        self.projection = nn.Linear(size, config.projection)

    def forward(self, ids: Tensor) -> Tensor:
        """The maximum of each filter; windows of padding characters count."""
        x = self.embedding(ids).transpose(1, 2)  # (N, d, C)
        matches = [F.relu(conv(x).max(dim=2).values) for conv in self.convolutions]
        return self.projection(self.highways(torch.cat(matches, dim=1)))


class LSTM(nn.Module):
    """LSTMs side by side, one a direction; their output is projected, clipped and fed back."""

    def __init__(self, n_inputs: int, n_hidden: int, n_outputs: int, cell_clip=3.0, clip=3.0):
        super().__init__()
        self.cell_clip, self.clip = cell_clip, clip
        fan = n_inputs + n_outputs + 4 * n_hidden
        self.input = _uniform(fan, 2, n_inputs, 4 * n_hidden)
        self.recurrent = _uniform(fan, 2, n_outputs, 4 * n_hidden)
        self.bias = nn.Parameter(torch.zeros(2, 4 * n_hidden))
        self.projection = _uniform(n_hidden + n_outputs, 2, n_hidden, n_outputs)
        nn.init.ones_(self.bias[:, n_hidden : 2 * n_hidden].data)  # at first it forgets little

    def forward(self, x, state=None, lengths=None):
        """`(2, T, B, inputs)`, the first state (h, c) -> `(2, T, B, outputs)`, the last one. After
        a row's `lengths` `(B,)` its state stays as it is, and its outputs mean nothing."""
        (_, steps, batch, _), (_, hidden, outputs) = x.shape, self.projection.shape
        h, c = state or (x.new_zeros(2, batch, size) for size in (outputs, hidden))
        found, shortest = [], steps if lengths is None else int(lengths.min())
        for span in x.split(SPAN, dim=1):
            each = zip(span.flatten(1, 2), self.input, self.bias, strict=True)
            inputs = torch.stack([F.linear(x, weight.t(), bias) for x, weight, bias in each])
            for gates in inputs.unflatten(1, (-1, batch)).unbind(1):  # (D, B, 4 H)
                before = h, c
                gates = torch.baddbmm(gates, h, self.recurrent)  # input, forget, output, candidate
                i, f, o = gates[..., : 3 * hidden].sigmoid().chunk(3, dim=2)
                c = torch.addcmul(f * c, i, gates[..., 3 * hidden :].tanh())
                c = c.clamp(-self.cell_clip, self.cell_clip)
                h = torch.bmm(o * c.tanh(), self.projection).clamp(-self.clip, self.clip)
                if len(found) >= shortest:
                    real = (lengths > len(found))[:, None]
                    h, c = torch.where(real, h, before[0]), torch.where(real, c, before[1])
                found.append(h)
        return torch.stack(found, dim=1), (h, c)


def _uniform(fan: int, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-1, 1) * (6 / fan) ** 0.5)  # Glorot's


class Elmo(nn.Module):
    """Sentences in, all layers out; `load` gives official weights, `from_checkpoint` our own."""

    def __init__(self, config: ElmoConfig):
        super().__init__()
        self.config = config
        self.characters = CharacterCNN(config)
        size, clips = config.projection, (config.cell_clip, config.projection_clip)
        layers = (LSTM(size, config.dim, size, *clips) for _ in range(config.n_layers))
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(config.dropout)
        ends = torch.from_numpy(character_ids(["<S>", "</S>"], config.max_characters))
        self.register_buffer("ends", ends, persistent=False)

    def forward(self, character_ids: Tensor, mask: Tensor, state: State | None = None) -> Layers:
        """Characters `(B, T, C)`, mask `(B, T)` with 0 at padding, which comes last -> the layers,
        `n_layers + 1` of `(B, T, 2 P)` with zeros at padding (the first is the word vector, twice),
        and the state, for the next call. Begin and end of a sentence are read, not returned."""
        if (mask.long().diff(dim=1) > 0).any():
            raise ValueError("padding must come after a sentence's words, not before or between")
        rows, lengths = torch.arange(len(mask), device=mask.device), mask.long().sum(dim=1)
        framed = F.pad(character_ids, (0, 0, 1, 1))  # (B, T + 2, C)
        framed[:, 0], framed[rows, lengths + 1] = self.ends
        words = self.embed(framed).transpose(0, 1)
        lengths = torch.where(lengths > 0, lengths + 2, 0)
        step = torch.arange(len(words), device=mask.device)[:, None]
        mirror = torch.where(step < lengths, lengths - 1 - step, step)  # (T + 2, B), twice is none
        both = torch.stack([words, words[mirror, rows]])  # backwards from each row's own last word
        layers, state = self.run(both, state, lengths)
        layers = [torch.cat([ahead, back[mirror, rows]], dim=2) for ahead, back in layers]
        return [layer[1:-1].transpose(0, 1) * mask.unsqueeze(2) for layer in layers], state

    def embed(self, character_ids: Tensor) -> Tensor:
        """Word vectors `(…, P)` of characters `(…, C)`, each word computed once."""
        words, where = character_ids.flatten(0, -2).unique(dim=0, return_inverse=True)
        table = torch.cat([self.characters(part) for part in words.split(CHUNK)])
        return F.embedding(where, table).view(*character_ids.shape[:-1], -1)

    def run(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> Layers:
        """The LSTMs over word vectors `(2, T, B, P)`: the vectors and each layer's output."""
        outputs, after = [x], []
        for depth, layer in enumerate(self.layers):
            inputs = self.dropout(outputs[-1])
            found, carried = layer(inputs, state and state[depth], lengths)
            outputs.append(found + inputs if depth and self.config.skip else found)
            after.append(carried)
        return outputs, after

    @classmethod
    def load(cls, options: str | Path, weights: str | Path) -> "Elmo":
        """An official model in evaluation mode, by its `options.json` and HDF5 file."""
        config = official_config(options)
        return checkpoints.fill(partial(cls, config), official_weights(weights, config), weights)

    @classmethod
    def from_checkpoint(cls, name: str | Path) -> "tuple[Elmo, dict]":
        """What `BidirectionalLM.save` wrote, in evaluation mode, and its `about`."""
        found = checkpoints.read(name, "elmo", ElmoConfig)
        own = {key.removeprefix("elmo."): tensor for key, tensor in found.weights.items()}
        return checkpoints.fill(partial(cls, found.configuration), own, found.file), found.about


class ScalarMix(nn.Module):
    """gamma * sum of softmax(w)_k h_k: L layers of one shape -> one, at first the layers' mean."""

    def __init__(self, n_layers: int):
        super().__init__()
        self.w, self.gamma = nn.Parameter(torch.zeros(n_layers)), nn.Parameter(torch.ones(()))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        return self.gamma * sum(w * h for w, h in zip(self.w.softmax(0), layers, strict=True))


class BidirectionalLM(nn.Module):
    """ELMo's training task: predict each word from those before it, and from those after it. Of
    `words`, the first `n_softmax` can be predicted; others count as unknown, but are spelled."""

    context = 2  # words of a window that are no targets: its first and its last

    def __init__(self, config: ElmoConfig, words: Sequence[str], n_softmax: int):
        super().__init__()
        self.vocabulary = list(words[:n_softmax])
        self.elmo = Elmo(config)
        self.softmax = nn.Linear(config.projection, n_softmax)
        spelling = character_ids(words, config.max_characters).astype(np.int16)
        self.register_buffer("characters", torch.from_numpy(spelling), persistent=False)

    def contexts(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Ids of word types `(B, T + 2)` -> `(2, B, T, P)`, what the words before and those after
        say of each word between two others, and the state."""
        types, where = tokens.t().unique(return_inverse=True)
        words = F.embedding(where, self.elmo.embed(self.characters[types].long()))  # (T + 2, B, P)
        layers, state = self.elmo.run(torch.stack([words[:-2], words[2:].flip(0)]), state)
        before, after = self.elmo.dropout(layers[-1])
        return torch.stack([before, after.flip(0)]).transpose(1, 2), state

    def loss(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, Tensor, State]:
        """A window of a running text, `(B, T + 2)` ids of word types -> the loss, its value in nats
        a word (mean over T words and both directions, detached) and the state. The next window
        begins with this one's last two words, so each word is predicted once. The forward state
        goes on; the backward one starts afresh, as the text after it is unread."""
        outputs, state = self.contexts(tokens, state)
        keep = torch.tensor([1.0, 0.0], device=tokens.device)[:, None, None]
        state = [tuple(part.detach() * keep for part in layer) for layer in state]
        wanted = tokens[:, 1:-1].expand(2, -1, -1).flatten()
        wanted = torch.where(wanted < len(self.vocabulary), wanted, 1)
        weights = self.softmax.weight, self.softmax.bias
        loss = softmax_cross_entropy(outputs.flatten(0, 2), *weights, wanted, pad_id=-1)
        return loss, loss.detach(), state

    def save(self, name: str | Path, about: Mapping) -> None:
        """Write a checkpoint for `Elmo`: weights without softmax, sizes, vocabulary, `about`."""
        weights = {f"elmo.{key}": tensor for key, tensor in self.elmo.state_dict().items()}
        checkpoints.write(name, "elmo", weights, asdict(self.elmo.config), about, self.vocabulary)


def official_config(file: str | Path) -> ElmoConfig:
    """The sizes in an official `options.json`."""
    with checkpoints.one_sentence(f"{file} does not describe an ELMo"):
        options = json.loads(Path(file).read_text(encoding="utf-8"))
        lstm, cnn = options["lstm"], options["char_cnn"]
        if (kind := (cnn["activation"], cnn["n_characters"])) != ("relu", N_CHARACTERS):
            raise ValueError(f"{kind} in it is not relu on {N_CHARACTERS} characters")
        return ElmoConfig(
            lstm["dim"], lstm["projection_dim"], lstm["n_layers"], cnn["embedding"]["dim"],
            cnn["filters"], cnn["n_highway"], cnn["max_characters_per_token"], lstm["cell_clip"],
            lstm["proj_clip"], lstm["use_skip_connections"])  # fmt: skip


def official_weights(file: str | Path, config: ElmoConfig) -> dict[str, Tensor]:
    """The arrays of an official HDF5 file under the names and in the layout of `Elmo`."""
    h5py, names, found = require("h5py", "elmo"), [], {}
    with checkpoints.one_sentence(f"{file} is no readable HDF5"), h5py.File(file, "r") as content:
        content.visit(names.append)
        left = {name: torch.tensor(content[name][()]) for name in names
                if isinstance(content[name], h5py.Dataset)}  # fmt: skip
    parts = {"projection": "CNN_proj/{}_proj"}
    parts |= {f"convolutions.{k}": f"CNN/{{}}_cnn_{k}" for k in range(len(config.filters))}
    parts |= {f"highways.{k}.{gate}": f"CNN_high_{k}/{{}}_{gate}"
              for k in range(config.n_highway) for gate in ("carry", "transform")}  # fmt: skip
    with checkpoints.one_sentence(f"{file} does not fit its options"):
        found["characters.embedding.weight"] = F.pad(left.pop("char_embed"), (0, 0, 1, 0))
        for ours, theirs in parts.items():
            weight = left.pop(theirs.format("W"))  # (inputs, outputs), (1, width, inputs, outputs)
            weight = weight.view(weight.shape[-3:])
            found[f"characters.{ours}.weight"] = weight.permute(*range(weight.dim())[::-1])
            found[f"characters.{ours}.bias"] = left.pop(theirs.format("b"))
        for k in range(config.n_layers):
            cells = [f"RNN_{d}/RNN/MultiRNNCell/Cell{k}/LSTMCell/" for d in (0, 1)]
            bias, both, out = (torch.stack([left.pop(cell + name) for cell in cells])
                               for name in ("B", "W_0", "W_P_0"))  # fmt: skip
            found[f"layers.{k}.bias"], found[f"layers.{k}.projection"] = _gates(bias, 1.0), out
            found[f"layers.{k}.input"] = _gates(both[:, : config.projection])
            found[f"layers.{k}.recurrent"] = _gates(both[:, config.projection :])
    return found | left  # what is left has no place in the model, and `fill` says so


def _gates(weights: Tensor, forget: float = 0.0) -> Tensor:
    """TensorFlow's input, candidate, forget, output -> our input, forget, output, candidate; the 1
    that TensorFlow adds to the forget gate as it goes is part of our bias."""
    i, j, f, o = weights.chunk(4, dim=-1)
    return torch.cat([i, f + forget, o, j], dim=-1)

"""Converter: the official files of an ELMo, options (JSON) and weights (HDF5), for `elmo.Elmo`."""

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers import require
from helpers.models.checkpoints import one_sentence


def read_options(options: str | Path | Mapping, n_characters: int) -> dict:
    """The fields of an `ElmoConfig`, by an official `options.json` or what it says."""
    if not isinstance(options, Mapping):
        with one_sentence(f"{options} is not readable JSON"):
            options = json.loads(Path(options).read_text(encoding="utf-8"))
    try:
        lstm, cnn = options["lstm"], options["char_cnn"]
        kind = f"{cnn['activation']} on {cnn['n_characters']} characters"
        fields = {
            "dim": lstm["dim"], "projection": lstm["projection_dim"], "n_layers": lstm["n_layers"],
            "cell_clip": lstm["cell_clip"], "projection_clip": lstm["proj_clip"],
            "skip": lstm["use_skip_connections"], "character_dim": cnn["embedding"]["dim"],
            "filters": cnn["filters"], "n_highway": cnn["n_highway"],
            "max_characters": cnn["max_characters_per_token"],
        }  # fmt: skip
    except (KeyError, TypeError) as missing:
        raise ValueError(f"the options are not an ELMo's: they lack {missing}") from None
    if kind != f"relu on {n_characters} characters":
        raise ValueError(f"the options say {kind}; this series reads relu on {n_characters}")
    return fields


def read_hdf5(file: str | Path) -> dict[str, np.ndarray]:
    """All arrays of an HDF5 file by their full names."""
    h5py, names = require("h5py", "elmo"), []
    with one_sentence(f"{file} is no readable HDF5"), h5py.File(file, "r") as opened:
        opened.visit(names.append)
        return {name: opened[name][()] for name in names if hasattr(opened[name], "shape")}


def translate(weights: Mapping[str, np.ndarray], config) -> dict[str, Tensor]:
    """Official weights under the names and in the layout of `Elmo`."""
    left, found = {name: torch.tensor(array) for name, array in weights.items()}, {}
    maps = {"projection": ("CNN_proj", "proj")}
    for k, gate in product(range(config.n_highway), ("carry", "transform")):
        maps[f"highways.{k}.{gate}"] = (f"CNN_high_{k}", gate)
    try:
        found["characters.embedding.weight"] = F.pad(left.pop("char_embed"), (0, 0, 1, 0))
        for k in range(len(config.filters)):
            kernel = left.pop(f"CNN/W_cnn_{k}")[0]  # (width, d, number)
            found[f"characters.convolutions.{k}.weight"] = kernel.permute(2, 1, 0)
            found[f"characters.convolutions.{k}.bias"] = left.pop(f"CNN/b_cnn_{k}")
        for ours, (part, name) in maps.items():
            found[f"characters.{ours}.weight"] = left.pop(f"{part}/W_{name}").t()
            found[f"characters.{ours}.bias"] = left.pop(f"{part}/b_{name}")
        for k in range(config.n_layers):
            cells = [f"RNN_{d}/RNN/MultiRNNCell/Cell{k}/LSTMCell/" for d in (0, 1)]
            bias, both, out = (torch.stack([left.pop(cell + name) for cell in cells])
                               for name in ("B", "W_0", "W_P_0"))  # fmt: skip
            found[f"layers.{k}.bias"] = _gates(bias, forget=1.0)
            found[f"layers.{k}.input"] = _gates(both[:, : config.projection])
            found[f"layers.{k}.recurrent"] = _gates(both[:, config.projection :])
            found[f"layers.{k}.projection"] = out
    except KeyError as missing:
        raise ValueError(f"the weights lack {missing}, which the options speak of") from None
    except (IndexError, RuntimeError, TypeError) as error:
        raise ValueError(f"the weights have not an ELMo's shapes: {error}") from None
    if left:
        raise ValueError(f"the weights have {min(left)}, of which the options know nothing")
    return found


def _gates(weights: Tensor, forget: float = 0.0) -> Tensor:
    """TensorFlow's input, candidate, forget, output -> our input, forget, output, candidate; the 1
    that TensorFlow adds to the forget gate as it goes is part of our bias."""
    i, j, f, o = weights.chunk(4, dim=-1)
    return torch.cat([i, f + forget, o, j], dim=-1)

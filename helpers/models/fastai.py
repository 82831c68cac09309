"""Converter: language models of fastai, of 2018 and 2019, as an `awd_lstm.LanguageModel`.

ULMFiT's authors published theirs, pre-trained on WikiText-103, in this format. Nothing but tensors,
lists and texts is unpickled.
"""

import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.models.awd_lstm import AWDLSTMConfig, LanguageModel, check_count
from helpers.models.checkpoints import fill, one_sentence
from helpers.text import PAD, UNKNOWN, Vocabulary

File = str | Path
SPECIAL = {PAD: ("xxpad", "_pad_"), UNKNOWN: ("xxunk", "_unk_")}  # ours: theirs of 2019, of 2018


def load(weights: File, words: File | Sequence[str]) -> tuple[LanguageModel, Vocabulary]:
    """Model (evaluation mode) and vocabulary out of the file of tensors (`.pth` or `.h5`, perhaps
    `{"model": …, "opt": …}`) and the words, a list or the pickled list beside it.

    Padding and the unknown word move to rows 0 and 1; other special tokens (`xxbos`, …) stay words.
    Raises `ValueError` for a damaged file, and for tensors or words that are missing or do not fit.
    """
    named = _translate(_tensors(weights), weights)
    words = list(words) if isinstance(words, list | tuple) else _pickled_words(words)
    rows, table = _rows(words), named["encoder.embedding.weight"]
    check_count(words, len(table), f"the list beside {weights}")
    if not torch.equal(named["decoder.weight"], table):
        raise ValueError(f"{weights} scores words by another matrix than it embeds them with")
    for name in ("encoder.embedding.weight", "decoder.weight", "decoder.bias"):
        named[name] = named[name][rows]
    layers = sum(name.endswith("weight_hh") for name in named)
    hidden = len(named["encoder.layers.0.bias_ih"]) // 4
    config = AWDLSTMConfig(len(rows), table.size(1), hidden, layers)
    words = Vocabulary([PAD, UNKNOWN, *(words[row] for row in rows[2:])])
    return fill(lambda: LanguageModel(config), named, weights), words


def _rows(words: list[str]) -> list[int]:
    """Their rows in our order: padding, the unknown word, all others but a second of either."""
    firsts = []
    for ours, theirs in SPECIAL.items():
        if not (there := [token for token in theirs if token in words]):
            raise ValueError(f"the words lack {' and '.join(theirs)}, one of which becomes {ours}")
        firsts.append(words.index(there[0]))
    return firsts + [i for i, word in enumerate(words) if i not in firsts and word not in SPECIAL]


def _translate(found: dict[str, Tensor], file: File) -> dict[str, Tensor]:
    """Their tensors under the names of `LanguageModel`; what they hold twice is taken once."""
    names = {"encoder.embedding.weight": ["0.encoder.weight"]}
    names |= {"decoder.weight": ["1.decoder.weight"]}
    numbers = [int(n) for key in found for n in re.findall(r"^0\.rnns\.(\d{1,2})\.", key)]
    for depth in range(1 + max(numbers, default=0)):
        theirs, ours = f"0.rnns.{depth}.", f"encoder.layers.{depth}."
        for name in ("weight_ih", "bias_ih", "bias_hh"):
            names[ours + name] = [f"{theirs}module.{name}_l0"]
        raw = [f"{theirs}weight_hh_l0_raw", f"{theirs}module.weight_hh_l0_raw"]
        names[f"{ours}weight_hh"] = raw  # of 2019, of 2018
    named = {}
    for ours, theirs in names.items():
        if not (there := [key for key in theirs if key in found]):
            lacks = " and no ".join(theirs)
            raise ValueError(f"{file} is no AWD-LSTM of fastai: it has no {lacks}")
        named[ours] = found[there[0]]
        if named[ours].dim() != (1 if "bias" in ours else 2):
            raise ValueError(f"{file}: {there[0]} has the shape {tuple(named[ours].shape)}")
    table = named["encoder.embedding.weight"]  # the files of 2018 have no bias
    return named | {"decoder.bias": found.get("1.decoder.bias", table.new_zeros(len(table)))}


def _tensors(file: File) -> dict[str, Tensor]:
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception:  # PyTorch's own text tells how to run what is in the file
        raise ValueError(f"{file} is damaged or holds more than tensors: it is not read") from None
    found = found.get("model", found) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not all(map(torch.is_tensor, found.values())):
        raise ValueError(f"{file} is no dictionary of tensors")
    return found


class _Words(pickle.Unpickler):
    """Reads what needs no class and no function."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _pickled_words(file: File) -> list[str]:
    with open(file, "rb") as content, one_sentence(f"{file} is no pickled list of words"):
        words = _Words(content).load()
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("it holds something else")
    return words

"""Language models of fastai, of 2018 and of 2019, as an `awd_lstm.LanguageModel`: those that
ULMFiT's authors pre-trained on WikiText-103, or one's own.

Tensors are found by their names. Nothing but tensors, lists and texts is unpickled.
"""

from __future__ import annotations

import pickle

import torch

from helpers.models.awd_lstm import AWDLSTMConfig, LanguageModel, check_count
from helpers.models.checkpoints import fill
from helpers.text import PAD, UNKNOWN, Vocabulary

MARKS = {PAD: ("xxpad", "_pad_"), UNKNOWN: ("xxunk", "_unk_")}  # ours: theirs of 2019, of 2018


def load(weights, words) -> tuple[LanguageModel, Vocabulary]:
    """Model (evaluation mode) and vocabulary.

    `weights` is the file of tensors (`.pth` or `.h5`, perhaps `{"model": …, "opt": …}`), `words` a
    list or the pickled list beside it. Padding and the unknown word move to rows 0 and 1; the other
    marks (`xxbos`, …) stay words. Raises `ValueError` if a tensor is missing or has another size
    than the others say, or if the words do not fit.
    """
    found = _tensors(weights)
    words = list(words) if isinstance(words, list | tuple) else _pickled_words(words)
    rows = _rows(words)
    named = _translate(found, weights)
    table = named["encoder.embedding.weight"]
    check_count(words, len(table), f"the list beside {weights}")
    if not torch.equal(named["decoder.weight"], table):
        raise ValueError(f"{weights} scores words by another matrix than it embeds them with")
    for name in ("encoder.embedding.weight", "decoder.weight", "decoder.bias"):
        named[name] = named[name][rows]
    layers = sum(name.endswith("weight_hh") for name in named)
    hidden = len(named["encoder.layers.0.bias_ih"]) // 4
    model = LanguageModel(AWDLSTMConfig(len(rows), table.size(1), hidden, layers))
    words = Vocabulary([PAD, UNKNOWN, *(words[row] for row in rows[2:])])
    return fill(model, named, f"{weights}"), words


def _rows(words: list[str]) -> list[int]:
    """Their rows in our order: padding, the unknown word, all others but a second of either."""
    firsts = []
    for ours, theirs in MARKS.items():
        places = [words.index(mark) for mark in theirs if mark in words]
        if not places:
            raise ValueError(f"the words lack {' and '.join(theirs)}, one of which becomes {ours}")
        firsts.append(places[0])
    return firsts + [i for i, word in enumerate(words) if i not in firsts and word not in MARKS]


def _translate(found: dict[str, torch.Tensor], file) -> dict[str, torch.Tensor]:
    """Their tensors under the names of `LanguageModel`; what they hold twice is taken once."""
    named = {
        "encoder.embedding.weight": ["0.encoder.weight"],
        "decoder.weight": ["1.decoder.weight"],
    }
    numbers = [key.split(".")[2] for key in found if key.startswith("0.rnns.")]
    for depth in range(1 + max(map(int, numbers), default=0)):
        theirs, ours = f"0.rnns.{depth}", f"encoder.layers.{depth}"
        for name in ("weight_ih", "bias_ih", "bias_hh"):
            named[f"{ours}.{name}"] = [f"{theirs}.module.{name}_l0"]
        raw = [f"{theirs}.weight_hh_l0_raw", f"{theirs}.module.weight_hh_l0_raw"]
        named[f"{ours}.weight_hh"] = raw  # of 2019, of 2018
    for ours, names in named.items():
        named[ours] = next((found[name] for name in names if name in found), None)
        if named[ours] is None:
            raise ValueError(f"{file} is no AWD-LSTM of fastai: it has no {' and no '.join(names)}")
    bias = found.get("1.decoder.bias")  # the files of 2018 have none
    table = named["encoder.embedding.weight"]
    return named | {"decoder.bias": table.new_zeros(len(table)) if bias is None else bias}


def _tensors(file) -> dict[str, torch.Tensor]:
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{file} holds more than tensors, so it is not read") from error
    found = found.get("model", found) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not all(map(torch.is_tensor, found.values())):
        raise ValueError(f"{file} is no dictionary of tensors")
    return found


class _Words(pickle.Unpickler):
    """Reads what needs no class and no function."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _pickled_words(file) -> list[str]:
    try:
        with open(file, "rb") as content:
            words = _Words(content).load()
    except (pickle.UnpicklingError, EOFError, ValueError, LookupError) as error:
        raise ValueError(f"{file} is no pickled list of words: {error}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{file} is no pickled list of words: it holds something else")
    return words

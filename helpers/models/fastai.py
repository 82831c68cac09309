"""Converter: language models of fastai, of 2018 and 2019, as an `awd_lstm.LanguageModel`. ULMFiT's
authors published theirs in this format. Nothing but tensors, lists and texts is unpickled."""

import pickle
import re
from pathlib import Path

import torch

from helpers.models.awd_lstm import AWDLSTMConfig, LanguageModel
from helpers.models.checkpoints import fill, one_sentence
from helpers.text import PAD, UNKNOWN, Vocabulary

NAMES = {  # theirs, of 2019 or of 2018: ours; what they hold twice is taken once
    r"0\.encoder\.weight": "encoder.embedding.weight",
    r"0\.rnns\.(\d)\.module\.(weight_ih|bias_ih|bias_hh)_l0": r"encoder.layers.\1.\2",
    r"0\.rnns\.(\d)\.(?:module\.)?weight_hh_l0_raw": r"encoder.layers.\1.weight_hh",
    r"1\.decoder\.(weight|bias)": r"decoder.\1",
}


class _Words(pickle.Unpickler):
    """Reads what needs no class and no function."""

    def find_class(self, module: str, name: str) -> type:
        raise pickle.UnpicklingError(f"the list names {module}.{name}")


def load(weights: str | Path, words: str | Path) -> tuple[LanguageModel, Vocabulary]:
    """Model (evaluation mode) and vocabulary out of the file of tensors (`.pth` or `.h5`, perhaps
    `{"model": …, "opt": …}`) and the pickled list of words beside it. Padding and the unknown word
    move to rows 0 and 1; other special tokens (`xxbos`, …) stay words."""
    with open(weights, "rb") as file, open(words, "rb") as content:
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # PyTorch's own text tells how to run what is in the file
            raise ValueError(f"{weights} is damaged or holds more than tensors") from None
        with one_sentence(f"{words} is no pickled list of words"):
            listed = list(map(str, _Words(content).load()))
    with one_sentence(f"{weights} with {words} is no AWD-LSTM of fastai"):
        named = {}
        for key, tensor in found.get("model", found).items():
            for theirs, ours in NAMES.items():
                if match := re.fullmatch(theirs, key):
                    named[match.expand(ours)] = tensor
        special = ("xxpad", "xxunk") if "xxpad" in listed else ("_pad_", "_unk_")
        rows = [listed.index(word) for word in special]
        rows += [i for i, word in enumerate(listed) if word not in (*special, PAD, UNKNOWN)]
        table, bias = named["encoder.embedding.weight"], named["encoder.layers.0.bias_ih"]
        layers = sum(name.endswith("weight_hh") for name in named)
        config = AWDLSTMConfig(len(rows), table.size(1), len(bias) // 4, layers)
        named.setdefault("decoder.bias", table.new_zeros(len(table)))  # those of 2018 have none
        if not torch.equal(named["decoder.weight"], table):
            raise ValueError("it scores words by another matrix than it embeds them with")
        if len(listed) != len(table):
            raise ValueError(f"the list has {len(listed):,} words, the model {len(table):,}")
        for name in ("encoder.embedding.weight", "decoder.weight", "decoder.bias"):
            named[name] = named[name][rows]
    vocabulary = Vocabulary([PAD, UNKNOWN, *(listed[row] for row in rows[2:])])
    return fill(lambda: LanguageModel(config), named, weights), vocabulary

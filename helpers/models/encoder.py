"""A classifier on a pre-trained encoder: mean of the token vectors, dropout, one linear layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from helpers import assets
from helpers.text import Encoded

SAFE = {"use_safetensors": True, "output_loading_info": True}  # no pickles, and what was missing


class EncoderClassifier(nn.Module):
    """Token ids in, class scores out.

    `name` is an offline model (`minilm`), a folder or a Hub id. With `pretrained=False` the same
    architecture starts from random weights: the control of every transfer experiment. Raises
    `ValueError` if the files do not hold the whole encoder.
    """

    def __init__(self, name: str, n_classes: int, dropout: float = 0.1, pretrained: bool = True):
        super().__init__()
        place = assets.resolve(name)
        if pretrained:
            with quiet():
                self.encoder, info = AutoModel.from_pretrained(place, **SAFE)
            missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
            if missing:
                raise ValueError(f"{name} lacks weights of its encoder: {', '.join(missing[:3])}")
        else:
            self.encoder = AutoModel.from_config(AutoConfig.from_pretrained(place))
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # it feeds on the first token alone and is not used here
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.config.hidden_size, n_classes)

    def features(self, input_ids, attention_mask):
        """Mean of the last layer over the real tokens, `(batch, hidden)`."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        real = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (batch, time, 1)
        return (hidden * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)

    def forward(self, input_ids, attention_mask):
        """Scores `(batch, classes)`."""
        return self.head(self.dropout(self.features(input_ids, attention_mask)))


def load_tokenizer(name: str):
    """The tokenizer of an offline model, a folder or a Hub id."""
    return AutoTokenizer.from_pretrained(assets.resolve(name))


def read_whole(kind, name: str):
    """A transformers model of the class `kind` with the weights of `name` (a name as above), and
    the keys of the heads that it lacks. Raises `ValueError` if the encoder itself lacks any."""
    with quiet():
        model, info = kind.from_pretrained(assets.resolve(name), **SAFE)
    missing = sorted(info["missing_keys"])
    heads = [key for key in missing if key.startswith("cls.")]
    lost = [key for key in missing if key not in heads and not key.startswith("bert.pooler.")]
    if lost:
        raise ValueError(f"{name} lacks weights of its encoder: {', '.join(lost[:3])}")
    return model, heads


def encode_texts(tokenizer, texts, labels=None, max_length: int = 128) -> Encoded:
    """Texts as word-piece ids with the model's special tokens, cut at `max_length` pieces."""
    pieces = tokenizer(list(texts), truncation=True, max_length=max_length, verbose=False)
    ids = [torch.tensor(row).numpy() for row in pieces["input_ids"]]
    return Encoded(ids, labels)


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bar for reading a file, which takes a blink, and without its warnings:
    whoever loads a model that lacks a part says so."""
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()

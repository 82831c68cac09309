"""Training an AWD-LSTM language model: `fit_language_model` against fastai's module where it is
installed, else against a plain PyTorch loop with the same regularisers. And the memory of the
softmax: in chunks against all scores at once.

    python language_models.py chunks|whole N V E    one process that reports its memory in bytes
"""

import re
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import torch
from timing import figure, interleaved, ratios, seconds
from torch import nn
from torch.nn import functional as F

from helpers.models.awd_lstm import ALPHA, BETA, AWDLSTMConfig, LanguageModel
from helpers.models.softmax import softmax_cross_entropy
from helpers.training.language_models import fit_language_model, windows
from helpers.training.precision import choose

BATCH, LENGTH, LR, CLIP = 64, 70, 1e-3, 0.25


class PlainModel(nn.Module):
    """AWD-LSTM as one would write it: modules, autograd and all scores at once."""

    def __init__(self, config: AWDLSTMConfig):
        super().__init__()
        self.config = config
        sizes = [config.embedding, *[config.hidden] * (config.layers - 1), config.embedding]
        self.embedding = nn.Embedding(config.n_words, config.embedding, config.pad_id)
        self.layers = nn.ModuleList(nn.LSTM(*pair, batch_first=True) for pair in pairwise(sizes))
        self.raw = nn.ParameterList(nn.Parameter(layer.weight_hh_l0.data) for layer in self.layers)
        for layer in self.layers:
            del layer.weight_hh_l0
        self.decoder = nn.Linear(config.embedding, config.n_words)
        self.decoder.weight = self.embedding.weight
        self.state = [None] * config.layers

    def locked(self, x, name):
        p = self.config.dropout(name)
        return x * x.new_empty(x.size(0), 1, x.size(2)).bernoulli_(1 - p).div_(1 - p)

    def forward(self, ids):
        weight, p = self.embedding.weight, self.config.dropout("embedding")
        mask = weight.new_empty(len(weight), 1).bernoulli_(1 - p).div_(1 - p)
        x = F.embedding(ids, weight * mask, self.config.pad_id)
        for i, layer in enumerate(self.layers):
            x = self.locked(x, "hidden" if i else "input")
            layer.weight_hh_l0 = F.dropout(self.raw[i], self.config.dropout("weight"))
            x, state = layer(x, self.state[i])
            self.state[i] = tuple(part.detach() for part in state)
        dropped = self.locked(x, "output")
        return self.decoder(dropped), x, dropped


def fastai_model(config: AWDLSTMConfig) -> nn.Module:
    from fastai.text.models import AWD_LSTM, get_language_model

    names = {"output": "output_p", "hidden": "hidden_p", "input": "input_p",
             "embedding": "embed_p", "weight": "weight_p"}  # fmt: skip
    sizes = {"emb_sz": config.embedding, "n_hid": config.hidden, "n_layers": config.layers}
    dropouts = {theirs: config.dropout(ours) for ours, theirs in names.items()}
    fixed = {"pad_token": config.pad_id, "bidir": False, "tie_weights": True, "out_bias": True}
    return get_language_model(AWD_LSTM, config.n_words, sizes | dropouts | fixed)


def plain_loop(model: nn.Module, ids, steps: int, precision: str) -> None:
    """AdamW on the loss with its regularisers, window after window, the state inside the model."""
    optimizer = torch.optim.AdamW(model.parameters(), LR, (0.8, 0.99), fused=True)
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    model.train()
    for _, tokens in zip(range(steps), windows(ids, BATCH, LENGTH, 1), strict=False):
        with half:
            scores, raw, dropped = model(tokens[:, :-1])
            loss = F.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())
            loss = loss + ALPHA * dropped.pow(2).mean()
            loss = loss + BETA * (raw[:, 1:] - raw[:, :-1]).pow(2).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()


def our_loop(model: LanguageModel, ids, steps: int, precision: str) -> None:
    options = {"batch_size": BATCH, "length": LENGTH, "random_lengths": False, "progress": False}
    options |= {"precision": precision}
    fit_language_model(model, ids, steps=steps, lr=LR, clip=CLIP, **options)


def throughput(
    pairs: int, steps: int = 4, n_words: int = 20_000, embedding: int = 256, hidden: int = 512
) -> list[dict]:
    """Words a second of training on random words, a fresh model for each measurement: in the
    precision that "auto" chooses against the reference in float32 and, where that is bf16, in it.
    """
    config = AWDLSTMConfig(n_words, embedding, hidden)
    text = np.random.default_rng(0).integers(1, n_words, BATCH * LENGTH * steps + 1)
    reference, build = "a plain loop", PlainModel
    if find_spec("fastai"):
        reference, build = "fastai's module", fastai_model

    def rate(build, loop, precision) -> float:
        model = build(config)
        loop(model, text, 1, precision)  # the first step of a process is slower
        return steps * BATCH * LENGTH / seconds(lambda: loop(model, text, steps, precision))

    modes = list(dict.fromkeys(["float32", choose("auto", "cpu")]))
    sides = {}
    for mode in modes:
        ours, theirs = f"fit_language_model, {mode}", f"{reference}, {mode}"
        sides[ours] = lambda m=mode: rate(LanguageModel, our_loop, m)
        sides[theirs] = lambda m=mode: rate(build, plain_loop, m)
    rates = interleaved(sides, pairs)
    note = (f"{BATCH} streams by {LENGTH} words, {n_words:,} words in the vocabulary, three "
            f"layers, embedding {embedding}, hidden {hidden}, all five dropouts, both activation "
            f"regularisations, fused AdamW, gradient norm clipped, {steps} steps.")  # fmt: skip
    figures = []
    for theirs in modes:
        both = {name: rates[name] for name in
                (f"fit_language_model, {modes[-1]}", f"{reference}, {theirs}")}  # fmt: skip
        key = "awd_lstm_training" if theirs == "float32" else "awd_lstm_training_bf16"
        what = (f"AWD-LSTM {embedding}/{hidden} training in {modes[-1]}, words a second, over "
                f"{reference} in {theirs}")  # fmt: skip
        bar = ">= 1.3" if theirs == "float32" else ">= 1.0"
        figures.append(figure(key, what, bar, ratios(*both.values()), both, "words/s", note))
    return figures


def softmax_memory(n: int = BATCH * LENGTH, n_words: int = 20_000, size: int = 256) -> list[dict]:
    """Bytes that the softmax takes at most, forwards and backwards, each side in its process."""
    sides = {}
    for how in ("chunks", "whole"):
        command = [sys.executable, __file__, how, *map(str, (n, n_words, size))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        sides[how] = [int(done.stdout) / 1e6]
    return [
        figure(
            "softmax_in_chunks",
            "memory of the softmax and its gradients, over that with all scores at once",
            "<= 0.3",
            ratios(*sides.values()),
            sides,
            "MB",
            f"{n:,} positions of {size} numbers, {n_words:,} words.",
        )
    ]


def measure_memory(how: str, n: int, n_words: int, size: int) -> int:
    """How far the process grows at most while it computes loss and gradients once."""
    hidden = torch.randn(n, size, requires_grad=True)
    decoder, targets = nn.Linear(size, n_words), torch.randint(1, n_words, (n,))
    before = psutil.Process().memory_info().rss
    if how == "chunks":
        loss = softmax_cross_entropy(hidden, decoder.weight, decoder.bias, targets)
    else:
        loss = F.cross_entropy(decoder(hidden), targets)
    loss.backward()
    return peak() - before


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: what getrusage says would include the parent's memory
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) * 1024
    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):  # Windows
        return info.peak_wset
    import resource  # bytes on macOS

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(measure_memory(sys.argv[1], *map(int, sys.argv[2:])))

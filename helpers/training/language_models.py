"""Training a language model on a running text, and how well it guesses one.

For any model with a method `loss(tokens, state) -> loss, nats a word (detached), state` and the
number `context` of words that a window has more than targets: 1 where each word is guessed from
those before it (`awd_lstm.LanguageModel`), 2 where it is guessed from both sides
(`elmo.BidirectionalLM`). `state` is what a model knows of the text so far, None at its start.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from tqdm.auto import tqdm

from helpers.training.kernels import fast_cpu
from helpers.training.loop import Run, constant, own_randomness
from helpers.training.precision import autocast, choose


def streams(ids, batch_size: int, context: int) -> np.ndarray:
    """A text `(N,)` cut into pieces of one length that overlap, `(batch_size, n + context)`.

    The words 1 to batch_size x n are a target in one piece each; after them fewer than `batch_size`
    that could be one are left out. Raises `ValueError` for a text too short.
    """
    ids = np.asarray(ids)
    n, least = (len(ids) - context) // batch_size, batch_size + context
    if n < 1:
        raise ValueError(f"{len(ids):,} words are too few for {batch_size} streams: give {least:,}")
    return np.lib.stride_tricks.sliding_window_view(ids, n + context)[::n][:batch_size]


def spans(n: int, length: int, seed=None) -> list[tuple[int, int]]:
    """Begin and end of consecutive windows on `n` targets, each of `length`, the last maybe less.

    With a `seed` the lengths are random, so that each epoch cuts the text elsewhere: normal around
    `length` with a deviation of 5, one time in twenty around half of it (Merity et al. 2017).
    """
    if length < 1:
        raise ValueError(f"windows of length {length} hold no word: give 1 or more")
    rng, found, begin = np.random.default_rng(seed), [], 0
    while begin < n:
        size = length
        if seed is not None:
            middle = length if rng.random() < 0.95 else length / 2
            size = max(min(5, length), int(rng.normal(middle, 5)))
        found.append((begin, min(begin + size, n)))
        begin += size
    return found


def windows(ids, batch_size: int, length: int, context: int, seed=None) -> Iterator[torch.Tensor]:
    """The windows of a text in their order, `(batch_size, T + context)` int64: rows as `streams`
    cuts them, T as `spans` does."""
    text = streams(ids, batch_size, context)
    for begin, end in spans(text.shape[1] - context, length, seed):
        yield _window(text, begin, end + context)


def _window(text: np.ndarray, begin: int, end: int) -> torch.Tensor:
    return torch.from_numpy(text[:, begin:end].astype(np.int64))


@dataclass
class LanguageFit:
    """`history` has the columns `step`, `words` (targets so far), `train_loss` (nats a word since
    the row before, without regularisation), `validation_perplexity`, `words_per_second`, `seconds`
    (of training alone). `finished` is false where `max_seconds` came first."""

    history: pd.DataFrame
    seconds: float
    finished: bool
    precision: str = "float32"


def fit_language_model(
    model: nn.Module,
    train_ids,
    validation_ids=None,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 64,
    length: int = 70,
    random_lengths: bool = True,
    lr: float = 1e-3,
    groups: Sequence[dict] | None = None,
    betas: tuple[float, float] = (0.8, 0.99),
    weight_decay: float = 0.01,
    schedule: Callable[[int, int], float] = constant,
    clip: float = 0.25,
    report_every: int | None = None,
    checkpoint: str | Path | None = None,
    save_every_seconds: float = 300,
    max_seconds: float | None = None,
    callbacks: Sequence[Callable[[nn.Module, int], None]] = (),
    precision: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> LanguageFit:
    """Train `model` in place with AdamW on the text `train_ids` `(N,)`, for `epochs` or `steps`.

    Parameters
    ----------
    validation_ids: a text whose perplexity goes into every row of the history.
    batch_size, length: streams that are read side by side, and words of a window.
    random_lengths: as `spans` draws them; the rate is scaled by a window's share of `length`.
    groups, schedule, clip: as of `training.fit`.
    report_every: steps from one row of the history to the next; one row an epoch by default.
    checkpoint: a file written every `save_every_seconds` and at the end. Where it exists, training
        goes on from it and ends with the same weights as a run that nothing stopped; it is refused
        if it belongs to other settings or another text.
    max_seconds: stop before the first step after so long, so that a run can be made in pieces.
    callbacks: called as `callback(model, step)` before each step, steps counted from 0.
    seed: of the windows and the dropout; the global random state is left as it was. On a CPU the
        same seed gives the same weights to the bit.
    """
    called, accelerator = time.perf_counter(), Accelerator(mixed_precision="no")
    mode = choose(precision, accelerator.device)
    if accelerator.num_processes > 1:
        raise ValueError("the text's state is carried on within one process: start only one")
    text = streams(train_ids, batch_size, model.context)
    plan = _plan(text.shape[1] - model.context, length, random_lengths, seed, epochs, steps)
    groups = groups or [{"params": [p for p in model.parameters() if p.requires_grad]}]
    optimizer = torch.optim.AdamW(groups, lr, betas, weight_decay=weight_decay, fused=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    shares = [schedule(step, len(plan)) for step in range(len(plan))]
    settings = [plan, shares, rates, betas, weight_decay, clip, seed, text.shape, _hash(text), mode]
    settings = repr([*settings, getattr(model, "config", model)])
    model, optimizer = accelerator.prepare(model, optimizer)
    run, place = _Progress(mode), (checkpoint, model, optimizer, _hash(settings.encode()))
    run.load(*place)
    run.state, saved = send_to_device(run.state, accelerator.device), called
    limit = np.inf if max_seconds is None else called + max_seconds
    bar = tqdm(total=len(plan), initial=run.step, disable=not progress, leave=False)
    with bar, own_randomness(), fast_cpu():
        while run.step < len(plan) and time.perf_counter() < limit:
            begin, end = plan[run.step]
            run.state = run.state if begin else None
            for callback in callbacks:
                callback(model, run.step)
            torch.manual_seed(seed * 1_000_003 + run.step)  # so that a resumed step draws the same
            share = shares[run.step] * (end - begin) / length
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
            window = _window(text, begin, end + model.context)
            run.learn(model, window.to(accelerator.device), optimizer, clip, accelerator)
            due = run.step % report_every if report_every else plan[run.step % len(plan)][0]
            if due == 0 or run.step == len(plan):
                run.report(model, validation_ids, batch_size, length)
                bar.set_postfix(loss=f"{run.rows[-1]['train_loss']:.3f}")
            bar.update()
            if time.perf_counter() - saved > save_every_seconds:
                run.save(*place)
                saved = time.perf_counter()
    run.save(*place)
    model.eval()
    return LanguageFit(pd.DataFrame(run.rows), run.seconds, run.step == len(plan), mode)


def _plan(n, length, random_lengths, seed, epochs, steps) -> list[tuple[int, int]]:
    """The windows of all steps; one that begins at 0 begins an epoch."""
    if (epochs is None) == (steps is None):
        raise ValueError("say for how many epochs or for how many steps to train, one of the two")
    numbers = count() if epochs is None else range(epochs)
    cuts = (spans(n, length, (seed, epoch) if random_lengths else None) for epoch in numbers)
    return list(islice(chain.from_iterable(cuts), steps))


def _hash(data) -> str:
    return hashlib.sha256(np.ascontiguousarray(data)).hexdigest()


class _Progress(Run):
    """Where a run stands between two steps; `Run` writes all of it to a checkpoint."""

    def __init__(self, precision):
        super().__init__(metric=None, patience=None, precision=precision)
        self.step, self.words, self.loss, self.state = 0, 0, 0.0, None

    def learn(self, model, tokens, optimizer, clip, accelerator) -> None:
        """One step on a window."""
        began, words = time.perf_counter(), len(tokens) * (tokens.size(1) - model.context)
        model.train()
        with autocast(self.precision, accelerator.device):
            loss, nats, self.state = model.loss(tokens, self.state)
        accelerator.backward(loss)
        if clip:
            accelerator.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        self.loss = self.loss + words * nats.double()
        self.step, self.words = self.step + 1, self.words + words
        self.seconds += time.perf_counter() - began

    def report(self, model, validation_ids, batch_size, length) -> None:
        """Add a row to the history."""
        before = self.rows[-1] if self.rows else {"words": 0, "seconds": 0.0}
        words, seconds = self.words - before["words"], self.seconds - before["seconds"]
        row = {"step": self.step, "words": self.words, "train_loss": float(self.loss) / words}
        if not np.isfinite(row["train_loss"]):
            raise ValueError(f"the loss is not finite at step {self.step}: take a lower rate")
        if validation_ids is not None:
            sizes = {"batch_size": batch_size, "length": length, "precision": self.precision}
            found = perplexity(model, validation_ids, **sizes)
            row["validation_perplexity"] = found
        self.rows.append(row | {"words_per_second": words / seconds, "seconds": self.seconds})
        self.loss = 0.0


@torch.no_grad()
def perplexity(
    model: nn.Module, ids, *, batch_size: int = 64, length: int = 70, precision: str = "auto"
) -> float:
    """exp of the mean nats a word on the text `ids` `(N,)`, in evaluation mode, the state carried
    on. Each of the streams, `batch_size` or as many as fill a window, begins without a past."""
    was_training, device = model.training, next(model.parameters()).device
    batch_size = max(1, min(batch_size, (len(ids) - model.context) // length))
    state, total, n, mode = None, 0.0, 0, choose(precision, device)
    model.eval()
    with fast_cpu():
        for tokens in windows(ids, batch_size, length, model.context):
            with autocast(mode, device):
                _, nats, state = model.loss(tokens.to(device), state)
            words = len(tokens) * (tokens.size(1) - model.context)
            total, n = total + words * nats.double(), n + words
    model.train(was_training)
    return float(torch.exp(total / n))

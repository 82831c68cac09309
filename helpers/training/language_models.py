"""Training a language model on a running text, and how well it guesses one. A model has a method
`loss(tokens, state) -> loss, nats a word (detached), state`, where `state` is what it knows of the
text so far, None at its start, and `context`: how many words more than targets a window has, 1
where a word is guessed from those before it, 2 where from both sides."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from helpers.training.loop import constant
from helpers.training.precision import autocast, choose, flush_denormals
from helpers.training.runs import Run, own_groups, own_randomness


def streams(ids, batch_size: int, context: int) -> np.ndarray:
    """A text `(N,)` cut into pieces that overlap, `(batch_size, n + context)`: each word is one's
    target, but for the first and at most `batch_size` at the end. `ValueError` if too short."""
    ids = np.asarray(ids)
    n, least = (len(ids) - context) // batch_size, batch_size + context
    if n < 1:
        raise ValueError(f"{len(ids):,} words are too few for {batch_size} streams: give {least:,}")
    return np.lib.stride_tricks.sliding_window_view(ids, n + context)[::n][:batch_size]


def spans(n: int, length: int, seed=None) -> list[tuple[int, int]]:
    """Begin and end of consecutive windows on `n` targets, each of `length`, the last maybe less.
    With a `seed` lengths are random, so that each epoch cuts the text elsewhere: normal around
    `length` with a deviation of 5, one time in twenty around half of it (Merity et al. 2017)."""
    if length < 1:
        raise ValueError(f"windows of length {length} hold no word: give 1 or more")
    rng, ends = np.random.default_rng(seed), [0]
    while ends[-1] < n:
        size = length
        if seed is not None:
            middle = length if rng.random() < 0.95 else length / 2
            size = max(min(5, length), int(rng.normal(middle, 5)))
        ends.append(min(ends[-1] + size, n))
    return list(pairwise(ends))


def windows(ids, batch_size: int, length: int, context: int, seed=None) -> Iterator[torch.Tensor]:
    """A text's windows, `(batch_size, T + context)` int64: rows of `streams`, T as `spans` cuts."""
    text = streams(ids, batch_size, context)
    for begin, end in spans(text.shape[1] - context, length, seed):
        yield torch.from_numpy(text[:, begin : end + context].astype(np.int64))


@dataclass
class LanguageFit:
    """`history` has the columns `step`, `words` (targets so far), `train_loss` (nats a word since
    the row before, without regularisation), `validation_perplexity`, `words_per_second`, `seconds`
    (of training alone). `finished` is false where `max_seconds` came first."""

    history: pd.DataFrame
    seconds: float
    finished: bool
    precision: str = "float32"


def fit_language_model(model: nn.Module, train_ids, validation_ids=None, *,
                       epochs: int | None = None, steps: int | None = None, batch_size: int = 64,
                       length: int = 70, random_lengths: bool = True, lr: float | None = None,
                       groups: Sequence[dict] | None = None, weight_decay: float = 0.01,
                       schedule: Callable[[int, int], float] = constant, clip: float = 0.25,
                       report_every: int | None = None, checkpoint: str | Path | None = None,
                       max_seconds: float | None = None, precision: str = "auto", seed: int = 0,
                       progress: bool = True) -> LanguageFit:  # fmt: skip
    """Train `model` in place with AdamW on the text `train_ids` `(N,)`, for `epochs` or `steps`.
    What is not told here is as in `training.fit`.

    validation_ids: a text whose perplexity goes into every row of the history.
    batch_size, length: streams that are read side by side, and words of a window.
    random_lengths: as `spans` draws them; the learning rate follows a window's share of `length`.
    report_every: steps from one row of the history to the next; one row an epoch by default.
    checkpoint: as of `training.fit`, but written with every row of the history.
    max_seconds: stop before the first step after so long, so that a run can be made in pieces."""
    if (epochs is None) == (steps is None):
        raise ValueError("say for how many epochs or for how many steps to train, one of the two")
    limit = time.perf_counter() + (math.inf if max_seconds is None else max_seconds)
    text = streams(train_ids, batch_size, model.context)
    cuts = (spans(text.shape[1] - model.context, length, (seed, epoch) if random_lengths else None)
            for epoch in (count() if epochs is None else range(epochs)))  # fmt: skip
    plan = list(islice(chain.from_iterable(cuts), steps))  # what begins at 0 begins an epoch
    shares = [schedule(step, len(plan)) * (end - begin) / length
              for step, (begin, end) in enumerate(plan)]  # fmt: skip
    make = partial(torch.optim.AdamW, betas=(0.8, 0.99), weight_decay=weight_decay, fused=True)
    run = Run(model, make(own_groups(model, groups, lr)), shares, clip, precision)
    now = SimpleNamespace(rows=[], step=0, seconds=0.0, nats=[], state=None)
    run.resume(checkpoint, now, {"windows": plan, "seed": seed, "training text": text,
        "validation text": validation_ids, "report_every": report_every})  # fmt: skip
    judge = partial(perplexity, batch_size=batch_size, length=length, precision=run.precision)
    bar = tqdm(total=len(plan), initial=now.step, disable=not progress, leave=False)
    with bar, own_randomness(), flush_denormals():
        while now.step < len(plan) and time.perf_counter() < limit:
            begin, end = plan[now.step]
            now.state = now.state if begin else None  # an epoch begins without a past
            torch.manual_seed(seed * 1_000_003 + now.step)  # so that a resumed step draws the same
            _read(run, now, text[:, begin : end + model.context])
            due = now.step % report_every if report_every else plan[now.step % len(plan)][0]
            if due == 0 or now.step == len(plan):
                _report(now, None if validation_ids is None else judge(model, validation_ids))
                bar.set_postfix(loss=f"{now.rows[-1]['train_loss']:.3f}")
                run.save()
            bar.update()
    run.save()
    model.eval()
    return LanguageFit(pd.DataFrame(now.rows), now.seconds, now.step == len(plan), run.precision)


def _read(run: Run, now, window: np.ndarray) -> None:
    began, tokens = time.perf_counter(), torch.from_numpy(window.astype(np.int64)).to(run.device)
    run.model.train()
    with autocast(run.precision, run.device):
        loss, nats, now.state = run.model.loss(tokens, now.state)
    run.update(now.step, loss)
    now.nats.append((tokens[:, run.model.context :].numel(), nats))
    now.step, now.seconds = now.step + 1, now.seconds + (time.perf_counter() - began)


def _report(now, validation_perplexity: float | None) -> None:
    before = now.rows[-1] if now.rows else {"words": 0, "seconds": 0.0}
    words, loss = sum(words for words, _ in now.nats), _mean(now.nats)
    if not math.isfinite(loss):
        raise ValueError(f"the loss is not finite at step {now.step}: take a lower learning rate")
    row = {"step": now.step, "words": before["words"] + words, "train_loss": loss}
    if validation_perplexity is not None:
        row["validation_perplexity"] = validation_perplexity
    speed = words / (now.seconds - before["seconds"])
    now.rows.append(row | {"words_per_second": speed, "seconds": now.seconds})
    now.nats = []


@torch.no_grad()
def perplexity(model: nn.Module, ids, *, batch_size: int = 64, length: int = 70,
               precision: str = "auto") -> float:  # fmt: skip
    """exp of the mean nats a word on the text `ids` `(N,)`, in `batch_size` streams or fewer."""
    was_training, device = model.training, next(model.parameters()).device
    batch_size = max(1, min(batch_size, (len(ids) - model.context) // length))
    state, found, mode = None, [], choose(precision, device)
    model.eval()
    with flush_denormals():
        for tokens in windows(ids, batch_size, length, model.context):
            with autocast(mode, device):
                _, nats, state = model.loss(tokens.to(device), state)
            found.append((tokens[:, model.context :].numel(), nats))
    model.train(was_training)
    return float(torch.tensor(_mean(found), dtype=torch.float64).exp())


def _mean(nats: list[tuple[int, torch.Tensor]]) -> float:
    """Nats a word, in the float64 of Python: not every device has one."""
    return sum(words * float(each) for words, each in nats) / sum(words for words, _ in nats)

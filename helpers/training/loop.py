"""One training loop and one prediction loop, on Hugging Face Accelerate.

The same `fit` runs on a CPU, on one GPU, and on many with `accelerate launch`. It trains any model
that takes `(input_ids, attention_mask)` and returns logits, or an object with `.logits`.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler
from tqdm.auto import tqdm

from helpers.text import Encoded, LengthBatches
from helpers.training.kernels import fast_cpu
from helpers.training.precision import autocast, choose

IGNORED = -100  # the label of a position that has none


@dataclass
class Fit:
    """What `fit` reports: `history` has one row an epoch, `best` is the value of the metric at
    `best_epoch` (counted from 1), whose weights the model has; `seconds` excludes validation;
    `precision` is what was computed in, "bf16" or "float32"."""

    history: pd.DataFrame
    best: float
    best_epoch: int
    seconds: float
    precision: str = "float32"


# --- schedules: a function of (step, total steps) that gives the share of the highest rate --------


def constant(step: int, total: int) -> float:
    """The highest rate throughout."""
    return 1.0


def linear(warmup: float = 0.1) -> Callable[[int, int], float]:
    """Up from zero over the share `warmup` of the steps, then straight down to zero (BERT)."""

    def rate(step: int, total: int) -> float:
        rising = max(1.0, warmup * total)
        return min((step + 1) / rising, max(0.0, (total - step) / max(1.0, total - rising)))

    return rate


# --- losses and metrics ---------------------------------------------------------------------------


def cross_entropy(weight: Sequence[float] | None = None, smoothing: float = 0.0) -> Callable:
    """The loss of `(…, classes)` logits against `(…)` labels, positions labelled -100 left out;
    `weight` is one factor a class, against imbalance."""
    weight = None if weight is None else torch.as_tensor(weight, dtype=torch.float32)

    def loss(output, batch: dict) -> torch.Tensor:
        flat, labels = _logits(output).flatten(0, -2), batch["labels"].flatten()
        each = None if weight is None else weight.to(flat)
        return F.cross_entropy(
            flat, labels, weight=each, ignore_index=IGNORED, label_smoothing=smoothing
        )

    return loss


def measure(metric, labels, logits) -> float:
    """`metric` of predictions: "accuracy", "macro_f1", "loss", or a function of (labels, logits).

    Labels are `(n,)` with logits `(n, classes)`, or lists of `(T,)` with lists of `(T, classes)`.
    """
    if callable(metric):
        return float(metric(labels, logits))
    labels = np.concatenate(labels) if isinstance(labels, list) else np.asarray(labels)
    logits = np.concatenate(logits) if isinstance(logits, list) else logits
    labels, logits = labels[labels != IGNORED], logits[labels != IGNORED]
    if metric == "loss":
        return float(F.cross_entropy(torch.as_tensor(logits), torch.as_tensor(labels)))
    if metric == "accuracy":
        return float((logits.argmax(-1) == labels).mean())
    if metric == "macro_f1":
        from sklearn.metrics import f1_score

        return float(f1_score(labels, logits.argmax(-1), average="macro", zero_division=0))
    raise ValueError(f"unknown metric {metric!r}: accuracy, macro_f1, loss or a function")


# --- fit ------------------------------------------------------------------------------------------


def fit(
    model: nn.Module,
    train: Encoded,
    validation: Encoded | None = None,
    *,
    epochs: int,
    batch_size: int = 32,
    lr: float = 1e-3,
    groups: Sequence[dict] | None = None,
    weight_decay: float = 0.01,
    schedule: Callable[[int, int], float] = constant,
    clip: float = 1.0,
    loss: Callable | None = None,
    optimizer: Callable | None = None,
    batches: Sampler | None = None,
    metric: str | Callable = "accuracy",
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    callbacks: Sequence[Callable[[nn.Module, int], None]] = (),
    precision: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Fit:
    """Train `model` in place with AdamW and return the history.

    Parameters
    ----------
    train, validation: with labels. With `validation`, the weights of the epoch that is best by
        `metric` are restored at the end; without, those of the last epoch stay.
    groups: parameter groups with rates of their own, `[{"params": …, "lr": …}, …]` (see
        `transfer.parameter_groups`); by default one group of all trainable parameters at `lr`.
    schedule: a function of (step, steps in all) that gives the share of each group's rate.
    clip: the largest norm of the gradient; 0 leaves it alone.
    loss: a function of (what the model returns, batch); cross entropy by default.
    optimizer: a function of the parameter groups; by default a fused AdamW with `weight_decay`.
    batches: a batch sampler with `set_epoch`; by default `LengthBatches` of `batch_size`.
    patience: stop after so many epochs without a better `metric` (higher is better, except for
        "loss"). Needs `validation`.
    checkpoint: a file written after every epoch. Where it exists, training goes on from it and
        ends with the same weights as a run that nothing stopped; it is refused if it belongs to
        other settings.
    callbacks: called as `callback(model, epoch)` before each epoch, epochs counted from 0.
    precision: "float32", "bf16", or "auto", which takes bf16 where it is native and faster.
    seed: of the batches and the dropout; the global random state is left as it was. On a CPU the
        same seed gives the same weights to the bit.
    """
    if not len(train):
        raise ValueError("no training examples")
    if patience is not None and validation is None:
        raise ValueError("early stopping (patience) needs validation examples")
    accelerator = Accelerator(mixed_precision="no")  # only our own autocast acts
    mode = choose(precision, accelerator.device)
    batches = batches or LengthBatches(train.lengths, batch_size, shuffle=True, seed=seed)
    loader = DataLoader(train, batch_sampler=batches, collate_fn=train.collate)
    groups = groups or [{"params": [p for p in model.parameters() if p.requires_grad], "lr": lr}]
    make = optimizer or partial(torch.optim.AdamW, weight_decay=weight_decay, fused=True)
    optimizer = make(groups)
    optimizer.zero_grad()  # whatever the caller computed before
    wrapped, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for group in optimizer.param_groups:
        group["highest"] = group["lr"]
    total, run = epochs * len(loader), Run(metric, patience, mode)
    loss = loss or cross_entropy()
    settings = f"{epochs} epochs of {len(train)} examples by {batch_size}, seed {seed}, {mode}"
    start = run.load(checkpoint, model, optimizer, settings)
    bar = tqdm(total=total, initial=start * len(loader), disable=not progress, leave=False)
    with bar, own_randomness(), fast_cpu():
        for epoch in range(start, epochs):
            if run.stopped:
                break
            torch.manual_seed(seed * 1_000_003 + epoch)  # so that a resumed epoch draws the same
            loader.set_epoch(epoch)
            for callback in callbacks:
                callback(model, epoch)
            began, losses = time.perf_counter(), []
            wrapped.train()
            for step, batch in enumerate(loader, start=epoch * len(loader)):
                for group in optimizer.param_groups:
                    group["lr"] = group["highest"] * schedule(step, total)
                losses.append(_step(wrapped, batch, loss, optimizer, clip, accelerator, mode))
                bar.update()
            row = {"train_loss": torch.stack(losses).mean().item()}
            run.seconds += time.perf_counter() - began
            run.end(epoch, row, model, validation, batch_size)
            bar.set_postfix({k: f"{v:.3f}" for k, v in row.items() if k != "epoch"})
            if accelerator.is_main_process:
                run.save(checkpoint, model, optimizer, settings)
    return run.finish(model)


def _step(model, batch, loss, optimizer, clip, accelerator, mode) -> torch.Tensor:
    with autocast(mode, accelerator.device):
        output = loss(_call(model, batch), batch)
    accelerator.backward(output)
    if clip:
        accelerator.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad()
    return output.detach()


class Run:
    """What a training run knows between epochs: history, best weights, patience, checkpoint."""

    def __init__(self, metric, patience, precision):
        self.metric, self.patience, self.precision = metric, patience, precision
        self.sign = -1.0 if metric == "loss" else 1.0
        self.rows: list[dict] = []
        self.best, self.best_epoch, self.weights = float("nan"), 0, None
        self.seconds = 0.0

    @property
    def stopped(self) -> bool:
        waited = len(self.rows) - self.best_epoch
        return self.patience is not None and bool(self.rows) and waited >= self.patience

    def end(self, epoch, row, model, validation, batch_size) -> None:
        """Close an epoch: measure it, keep its weights if they are the best so far."""
        if validation is not None:
            size, mode = 2 * batch_size, self.precision
            logits = predict_logits(model, validation, batch_size=size, precision=mode)
            value = measure(self.metric, validation.labels, logits)
            row[f"validation_{getattr(self.metric, '__name__', self.metric)}"] = value
            if not self.best_epoch or self.sign * value > self.sign * self.best:
                self.best, self.best_epoch = value, epoch + 1
                self.weights = copy.deepcopy(model.state_dict())
        self.rows.append({"epoch": epoch + 1, **row, "seconds": round(self.seconds, 2)})

    def save(self, file, model, optimizer, settings) -> None:
        if file is None:
            return
        state = {
            k: v
            for k, v in vars(self).items()
            if k not in ("metric", "patience", "sign", "precision")
        }
        state |= {"settings": settings, "model": model.state_dict()}
        state["optimizer"] = optimizer.state_dict()
        part = Path(f"{file}.part")  # written beside, then renamed: never half a checkpoint
        part.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, part)
        os.replace(part, file)

    def load(self, file, model, optimizer, settings) -> int:
        """Go back to a saved state; the number of epochs that it has behind it."""
        if file is None or not Path(file).exists():
            return 0
        state = torch.load(file, map_location="cpu", weights_only=True)
        if state.pop("settings") != settings:
            raise ValueError(
                f"{file} is from a run with other settings: remove it, or name another"
            )
        model.load_state_dict(state.pop("model"))
        optimizer.load_state_dict(state.pop("optimizer"))
        vars(self).update(state)
        return len(self.rows)

    def finish(self, model) -> Fit:
        if self.weights is not None:
            model.load_state_dict(self.weights)
        model.eval()
        rows = pd.DataFrame(self.rows)
        return Fit(rows, self.best, self.best_epoch, self.seconds, self.precision)


# --- predict --------------------------------------------------------------------------------------


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    data: Encoded,
    *,
    batch_size: int = 64,
    forward: Callable | None = None,
    precision: str = "auto",
    progress: bool = False,
) -> np.ndarray | list[np.ndarray]:
    """Outputs of `model` in evaluation mode, in the order of `data`.

    Examples of like length share a batch. Returns `(n, …)` float32, or a list of `(T, classes)`
    without the padding where the model answers per token (labels are lists, or none are given and
    the output has three dimensions). `forward` replaces the model's call, e.g. `model.features`.
    """
    accelerator = Accelerator(mixed_precision="no")
    was_training, device = model.training, next(model.parameters()).device
    mode = choose(precision, device)
    batches = list(LengthBatches(data.lengths, batch_size, shuffle=False, seed=0))
    found = []
    model.eval()
    with accelerator.split_between_processes(batches) as mine, fast_cpu():
        for rows in tqdm(mine, disable=not progress, leave=False):
            batch = data.collate([data[i] for i in rows])
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            with autocast(mode, device):
                output = _logits(_call(forward or model, batch)).float().cpu().numpy()
            found += zip(rows, output, strict=True)
    model.train(was_training)
    found = sorted(gather_object(found), key=lambda pair: pair[0])
    outputs = [output for _, output in found]
    if outputs and outputs[0].ndim == 2:
        lengths = data.lengths
        return [output[: lengths[i]] for i, output in enumerate(outputs)]
    return np.stack(outputs) if outputs else np.zeros((0, 0), np.float32)


def predict(model: nn.Module, data: Encoded, **options) -> np.ndarray | list[np.ndarray]:
    """Labels: the class with the highest logit, `(n,)`, or for taggers a list of `(T,)`."""
    logits = predict_logits(model, data, **options)
    return [row.argmax(-1) for row in logits] if isinstance(logits, list) else logits.argmax(-1)


def predict_proba(model: nn.Module, data: Encoded, **options) -> np.ndarray | list[np.ndarray]:
    """Probabilities: the softmax of `predict_logits`."""
    logits = predict_logits(model, data, **options)
    rows = logits if isinstance(logits, list) else [logits]
    found = [torch.as_tensor(row).softmax(-1).numpy() for row in rows]
    return found if isinstance(logits, list) else found[0]


def extract_features(model: nn.Module, data: Encoded, **options) -> np.ndarray | list[np.ndarray]:
    """What the model's head sees: `model.features` of each example, `(n, hidden)`."""
    return predict_logits(model, data, forward=model.features, **options)


def _call(model, batch):
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])


def _logits(output) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.logits


@contextmanager
def own_randomness() -> Iterator[None]:
    """Seed freely inside; the caller's random state is untouched outside."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield

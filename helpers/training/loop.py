"""Training and prediction of any model that takes `(input_ids, attention_mask)` and returns logits,
or an object with `.logits`: on a CPU, on one GPU, and on many with `accelerate launch`."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch import nn
from torch.utils.data import Sampler
from tqdm.auto import tqdm

from helpers.models import crf
from helpers.text import IGNORED, Encoded, LengthBatches
from helpers.training.precision import autocast, choose, flush_denormals
from helpers.training.runs import Run, own_groups, own_randomness

METRICS = ("accuracy", "macro_f1", "loss")


@dataclass
class Fit:
    """`history` has one row an epoch. The model has the weights of `best_epoch` (from 1), whose
    metric is `best`; without validation 0, the last. `seconds` exclude validation; `precision`
    is "bf16" or "float32"."""

    history: pd.DataFrame
    best: float
    best_epoch: int
    seconds: float
    precision: str = "float32"


def constant(step: int, total: int) -> float:
    """A schedule, (step, steps in all) -> share of the learning rate: all of it throughout."""
    return 1.0


def linear(warmup: float = 0.1) -> Callable[[int, int], float]:
    """A schedule: up from near zero over the share `warmup` of the steps, then straight down."""

    def share(step: int, total: int) -> float:
        rising = max(1.0, warmup * total)
        return min((step + 1) / rising, max(0.0, (total - step) / max(1.0, total - rising)))

    return share


def cross_entropy(output, batch: dict, **options) -> torch.Tensor:
    """The loss of `(…, classes)` logits against `(…)` labels, positions labelled -100 left out.
    `partial` gives it PyTorch's `weight` (a tensor, one factor a class) or `label_smoothing`."""
    logits, labels = logits_of(output).flatten(0, -2), batch["labels"].flatten()
    if (labels == IGNORED).all():
        return 0.0 * logits.sum()  # nothing to learn from, and the mean of nothing is no number
    if (weight := options.get("weight")) is not None:
        options["weight"] = weight.to(logits.device)
    return nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, **options)


def measure(metric: str | Callable, y_true, logits) -> float:
    """`metric` of predictions, one of `METRICS` or a function of (y_true, logits): labels `(n,)`
    with logits `(n, classes)`, or lists of `(T,)` with lists of `(T, classes)`."""
    if callable(metric):
        return float(metric(y_true, logits))
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}: take {', '.join(METRICS)}, or a function")
    if isinstance(y_true, list):
        y_true, logits = np.concatenate(y_true), np.concatenate(logits)
    kept = y_true != IGNORED
    y_true, logits = y_true[kept], logits[kept]
    if metric == "loss":
        return nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(y_true)).item()
    if metric == "macro_f1":
        from sklearn.metrics import f1_score  # slow to import

        return float(f1_score(y_true, logits.argmax(-1), average="macro"))
    return float((logits.argmax(-1) == y_true).mean())


def fit(model: nn.Module, train: Encoded, validation: Encoded | None = None, *, epochs: int,
        batch_size: int = 32, lr: float | None = None, groups: Sequence[dict] | None = None,
        weight_decay: float = 0.01, schedule: Callable[[int, int], float] = constant,
        clip: float = 1.0, loss: Callable | None = None, optimizer: Callable | None = None,
        batches: Sampler | None = None, metric: str | Callable = "accuracy",
        patience: int | None = None, checkpoint: str | Path | None = None, precision: str = "auto",
        seed: int = 0, callbacks: Sequence[Callable[[nn.Module, int], None]] = (),
        progress: bool = True) -> Fit:  # fmt: skip
    """Train `model` in place. With `validation`, it ends with the weights of the best epoch by
    `metric`, else with those of the last. Raises `ValueError` for what does not fit before it
    trains, later for a loss or metric that is no number.

    batch_size: examples of a step, which several processes share.
    lr: the highest learning rate; by default 0.001, or what an `optimizer` of your own has.
    groups: parameter groups (see `parameter_groups`); those without `lr` take `lr`. By default one.
    schedule: a function of (step, steps in all): the share of each group's learning rate.
    clip: the largest norm of the gradient; 0 leaves it alone.
    loss: a function of (what the model returns, batch); `cross_entropy` by default.
    optimizer: a function of the parameter groups; by default a fused AdamW with `weight_decay`.
    batches: a batch sampler with `set_epoch`; by default `LengthBatches` of `batch_size`.
    metric: "accuracy", "macro_f1", "loss" (the mean cross entropy, lower for better), or a function
        of (y_true, logits) that is higher for better.
    patience: stop after so many epochs without a better `metric`; needs `validation`.
    checkpoint: a file, written after every epoch, from which training goes on to the weights it
        would have had unstopped. Refused where settings, data or starting weights are others.
    callbacks: called as `callback(model, epoch)` before each epoch, epochs counted from 0.
    precision: "float32", "bf16", or "auto", which takes bf16 where it is native and faster.
    seed: of batches and dropout, not of the global random state; weights repeat on a CPU."""
    with own_randomness():
        _check(model, train, validation, loss, metric, patience)
    batches = batches or LengthBatches(train.lengths, batch_size, shuffle=True, seed=seed)
    make = optimizer or partial(torch.optim.AdamW, weight_decay=weight_decay, fused=True)
    total, loss = epochs * len(batches), loss or cross_entropy
    shares = [schedule(step, total) for step in range(total)]
    run = Run(model, make(own_groups(model, groups, lr)), shares, clip, precision)
    now = SimpleNamespace(rows=[], best=math.nan, best_epoch=0, weights=None, seconds=0.0)
    run.resume(checkpoint, now, {"epochs": epochs, "seed": seed, "batches": batches,
        "training data": train, "validation data": validation, "loss": loss, "metric": metric,
        "patience": patience,
        "callbacks": [getattr(one, "__qualname__", type(one)) for one in callbacks]})  # fmt: skip
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", str(metric))
    sign, start, rank = -1 if metric == "loss" else 1, len(now.rows), run.accelerator.process_index
    bar = tqdm(total=total, initial=start * len(batches), disable=not progress, leave=False)
    with bar, own_randomness(), flush_denormals():
        for epoch in range(start, epochs):
            if patience is not None and 0 < epoch >= now.best_epoch + patience:
                break
            # A resumed epoch draws the same; each process draws dropout of its own.
            torch.manual_seed(seed * 1_000_003 + epoch + (rank << 40))
            batches.set_epoch(epoch)
            for callback in callbacks:
                callback(model, epoch)
            row = {"train_loss": _learn(run, now, epoch, train, batches, loss, bar)}
            if validation is not None:
                logits = predict_logits(model, validation, batch_size=2 * batch_size,
                                        precision=run.precision)  # fmt: skip
                value = row[f"validation_{name}"] = measure(metric, validation.labels, logits)
                if not math.isnan(value) and not sign * value <= sign * now.best:
                    now.best, now.best_epoch = value, epoch + 1
                    now.weights = copy.deepcopy(model.state_dict())
            now.rows.append({"epoch": epoch + 1, **row, "seconds": round(now.seconds, 2)})
            bar.set_postfix({key: f"{value:.3f}" for key, value in row.items()})
            run.save()
    if validation is not None and now.rows and not now.best_epoch:
        raise ValueError(f"the validation {name} was no number in any epoch: mend the metric, or "
                         "take a lower learning rate")  # fmt: skip
    if now.weights is not None:
        model.load_state_dict(now.weights)
    model.eval()
    return Fit(pd.DataFrame(now.rows), now.best, now.best_epoch, now.seconds, run.precision)


def _learn(run: Run, now, epoch: int, train, batches, loss, bar) -> float:
    """Train for an epoch; its mean loss."""
    began, losses = time.perf_counter(), []
    run.wrapped.train()
    for step, (batch, factor) in enumerate(run.batches(train, batches), epoch * len(batches)):
        with autocast(run.precision, run.device):
            value = loss(call(run.wrapped, batch), batch)
        losses.append(run.update(step, factor * value))
        bar.update()
    mean = run.accelerator.reduce(torch.stack(losses).mean(), "mean").item()
    now.seconds += time.perf_counter() - began
    if not math.isfinite(mean):
        raise ValueError(f"the loss is not finite in epoch {epoch + 1}: take a lower learning rate")
    return mean


def _check(model, train, validation, loss, metric, patience) -> None:
    """Refuse what would fail, or pass unseen, in training."""
    if not len(train):
        raise ValueError("there are no training examples")
    if patience is not None and validation is None:
        raise ValueError("early stopping (patience) needs validation examples")
    if validation is not None and not len(validation):
        raise ValueError("there are no validation examples")
    if not callable(metric):
        measure(metric, np.zeros(1, int), np.zeros((1, 1)))  # refuses one that it does not know
    classes, standard = None, getattr(loss, "func", loss) in (None, cross_entropy)
    if train.labels is not None and (standard or getattr(model, "crf", None)):
        classes = predict_logits(model, Encoded(train.ids[:1]), precision="float32")[0].shape[-1]
    for name, data in (("training", train), ("validation", validation)):
        if data is not None and data.labels is not None:
            check_labels(f"the {name} labels", data.labels, classes)
        elif data is validation is not None or (loss is None and "labels" not in train[0]):
            raise ValueError(f"the {name} examples have no labels: give Encoded(ids, labels)")


def check_labels(name: str, labels, classes: int | None) -> None:
    flat = np.concatenate(labels) if isinstance(labels, list) else np.asarray(labels)
    flat = flat[flat != IGNORED]
    if not len(flat):
        raise ValueError(f"{name} are all {IGNORED}, which is left out: at least one must count")
    if flat.min() < 0 or (classes is not None and flat.max() >= classes):
        known = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise ValueError(f"{name} are {flat.min()} to {flat.max()}, but must be {known}")


@torch.inference_mode()
def predict_logits(model: nn.Module, data: Encoded, *, forward: Callable | None = None,
                   batch_size: int = 64, precision: str = "auto") -> np.ndarray | list:  # fmt: skip
    """What `model`, or `forward` (e.g. `model.features`), gives in evaluation mode for each row:
    `(n, …)` float32, or a list of `(T, classes)` without padding. Processes share the batches."""
    accelerator, found = Accelerator(), []
    was_training, device = model.training, next(model.parameters()).device
    batches, mode = list(LengthBatches(data.lengths, batch_size)), choose(precision, device)
    model.eval()
    try:
        with flush_denormals(), autocast(mode, device):  # around all: weights are cast once
            for rows in batches[accelerator.process_index :: accelerator.num_processes]:
                batch = send_to_device(data.collate([data[i] for i in rows]), device)
                output = logits_of(call(forward or model, batch))
                found += zip(rows, output.float().cpu().numpy(), strict=True)
    finally:
        model.train(was_training)
    outputs = [output for _, output in sorted(gather_object(found), key=lambda pair: pair[0])]
    if outputs and outputs[0].ndim == 2:
        return [output[:n] for output, n in zip(outputs, data.lengths, strict=True)]
    return np.stack(outputs) if outputs else np.zeros((0, 0), np.float32)


def predict(model: nn.Module, data: Encoded, **options) -> np.ndarray | list:
    """The likeliest class of each row, `(n,)`; of a tagger a list of `(T,)`, decoded by its CRF. Of
    one that reads subwords: `crf.decode(model, words_from_subwords(…))`, as notebook 10 does."""
    logits = predict_logits(model, data, **options)
    if isinstance(logits, list):
        return crf.decode(model, logits)
    return logits.argmax(-1) if len(logits) else np.zeros(0, int)


def predict_proba(model: nn.Module, data: Encoded, **options) -> np.ndarray | list:
    """The softmax, `(n, classes)`; of a tagger a list of `(T, classes)`, its CRF's marginals."""
    logits = predict_logits(model, data, **options)
    if isinstance(logits, list):
        return crf.probabilities(model, logits)
    return torch.as_tensor(logits).softmax(-1).numpy()


def extract_features(model: nn.Module, data: Encoded, **options) -> np.ndarray:
    """What the model's head sees: `model.features` of each example, `(n, hidden)`."""
    return predict_logits(model, data, forward=model.features, **options)


def call(model: Callable, batch: dict):
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    low = isinstance(output, torch.Tensor) and output.dtype == torch.bfloat16
    return output.float() if low else output  # losses and CRFs compute in float32


def logits_of(output) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.logits

"""Scores with intervals: a difference without one is an anecdote. `y_true` is `(n,)`, whole numbers
or texts; `y_pred` is `(n,)`, or `(runs, n)` of several training runs (seeds); few runs make an
interval a little too narrow. The metric is "accuracy", "macro_f1" or "entity_f1"; then `y_true` has
a list of BIO tags a sentence, `y_pred` such lists for each run."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.evaluation.entities import entity_f1

Metric = Callable[[np.ndarray], np.ndarray]  # weights (k, n), see `bootstrap`, to values (runs, k)


class Interval(NamedTuple):
    """A value and the ends of its interval, in the unit of the metric."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def points(self) -> str:
        """A difference in percentage points, for a sentence: `+4.2 points [+1.0, +7.3]`."""
        return "{:+.1f} points [{:+.1f}, {:+.1f}]".format(*(100 * number for number in self))

    @property
    def verdict(self) -> str:
        """What a difference may be called: `better`, `worse`, or `not distinguishable`."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not distinguishable"

    @property
    def said(self) -> str:
        """Points and verdict, for a sentence in Markdown."""
        return f"{self.points}, *{self.verdict}*"


def scores(y_true: ArrayLike, y_pred: ArrayLike) -> dict[str, float]:
    """Accuracy and macro-F1 (0 to 1), the mean over runs when there are several."""
    once = np.ones((1, len(y_true)))
    return {name: float(_metric(y_true, y_pred, name)(once).mean()) for name in METRICS}


def interval(y_true: ArrayLike, y_pred: ArrayLike, metric: str = "accuracy", **options) -> Interval:
    """`Interval` of a metric over test examples and runs; `options` are those of `bootstrap`."""
    return bootstrap(_metric(y_true, y_pred, metric), n=len(y_true), **options)


def difference(y_true: ArrayLike, first: ArrayLike, second: ArrayLike, metric: str = "accuracy",
               **options) -> Interval:  # fmt: skip
    """Paired `Interval` of metric(first) - metric(second): both are scored on the same resampled
    examples and runs, so what makes one hard for both cancels out (Koehn 2004)."""
    both = [_metric(y_true, y_pred, metric) for y_pred in (first, second)]
    return bootstrap(*both, n=len(y_true), **options)


def bootstrap(*metrics: Metric, n: int, samples: int = 1000, seed: int = 0) -> Interval:
    """95 % `Interval` of a metric, or of the first of two less the second, by the percentile
    bootstrap on two levels, test examples and runs (Efron & Tibshirani 1993, chapter 13). Weights
    say how often each of n examples is drawn; they are made in blocks of 24 MB."""
    whole = [metric(np.ones((1, n))) for metric in metrics]
    runs, others = len(whole[0]), len(whole[-1])
    if runs != others:
        raise ValueError(f"{runs} runs cannot be paired with {others}: give both the same seeds")
    if not n or not runs:
        raise ValueError("no examples or no predictions: an interval needs some of both")
    rng, block, parts = np.random.default_rng(seed), max(1, 2_000_000 // n), []
    for begin in range(0, samples, block):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(block, samples - begin))
        parts.append([metric(weights.astype(np.float32)) for metric in metrics])
    picks = rng.integers(runs, size=(1, runs, samples))
    drawn = np.take_along_axis(np.concatenate(parts, axis=2), picks, axis=1).mean(1)
    signs = np.array([1.0, -1.0])[: len(metrics)]
    low, high = np.quantile(signs @ drawn, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return Interval(float(signs @ [each.mean() for each in whole]), float(low), float(high))


def equivalent_labels(counts: Sequence[int], values: Sequence[float], target: float) -> float:
    """Labels that a curve, straight over log counts, needs to reach `target`, or `inf`."""
    reached = np.maximum.accumulate(np.asarray(values, float))
    above = int(np.searchsorted(reached, target))
    if above in (0, len(reached)):
        return float("inf") if above else float(counts[0])
    share = (target - reached[above - 1]) / (reached[above] - reached[above - 1])
    low, high = np.log(counts[above - 1]), np.log(counts[above])
    return float(np.exp(low + share * (high - low)))


def _macro_f1(y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """scikit-learn's: the mean over classes in a resample's labels or in a run's predictions."""
    total = present = np.zeros((len(y_pred), len(weights)), weights.dtype)
    for c in np.union1d(y_true, y_pred):
        true, found = y_true == c, y_pred == c
        either = found @ weights.T + true @ weights.T
        total = total + 2 * ((found & true) @ weights.T) / np.maximum(either, 1)
        present = present + (either > 0)
    return total / present


METRICS = {
    "accuracy": lambda y_true, y_pred, weights: (y_pred == y_true) @ weights.T / weights.sum(1),
    "macro_f1": _macro_f1,
}


def _metric(y_true, y_pred, metric: str) -> Metric:
    if metric == "entity_f1":
        return entity_f1(y_true, y_pred)
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}: one of {', '.join(METRICS)}, entity_f1")
    true, pred = _labels(y_true, "y_true"), np.atleast_2d(_labels(y_pred, "y_pred"))
    if true.ndim != 1 or pred.ndim != 2 or pred.shape[1] != len(true):
        shapes = f"y_true has the shape {true.shape}, y_pred the shape {pred.shape}"
        raise ValueError(f"{shapes}: give (n,), and (n,) or (runs, n)")
    if (true.dtype.kind == "U") != (pred.dtype.kind == "U"):
        raise TypeError("y_true and y_pred are numbers and texts: give labels of one kind")
    return partial(METRICS[metric], true, pred)


def _labels(values: ArrayLike, name: str) -> np.ndarray:
    if (found := np.asarray(values)).dtype.kind in "biu":
        return found
    if not found.size:
        raise ValueError(f"{name} is empty: give at least one label")
    found = np.asarray(values, dtype=object)  # numpy makes texts of the numbers in [0, "a"]
    if (kind := pd.api.types.infer_dtype(found.ravel(), skipna=False)) != "string":
        if kind == "integer":
            return found.astype(np.int64)
        has = f"{name} has {kind} values such as {[*found.flat][:1]}"
        raise TypeError(f"{has}: labels are whole numbers or texts, of one kind")
    return found.astype(str)

"""Scores with intervals: a difference without one is an anecdote.

`y_true` is `(n,)`, whole numbers or texts. `y_pred` is `(n,)`, or `(runs, n)` when several training
runs (seeds) predicted the same test examples. Intervals then cover both sources of chance, the
sample of test examples and the sample of runs: a two-level percentile bootstrap (Efron &
Tibshirani 1993, chapter 13). Few runs make their part a little too narrow; say how many there were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

METRICS = ("accuracy", "macro_f1")


class Interval(NamedTuple):
    """A value and the ends of its interval, in the unit of the metric."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    @property
    def points(self) -> str:
        """A difference in percentage points, for a sentence: `+4.2 points [+1.0, +7.3]`."""
        value, low, high = (100 * number for number in self)
        return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"

    @property
    def verdict(self) -> str:
        """What a difference may be called: `better`, `worse`, or `not distinguishable`."""
        if not self.excludes_zero:
            return "not distinguishable"
        return "better" if self.low > 0 else "worse"

    @property
    def said(self) -> str:
        """Points and verdict, for a sentence in Markdown."""
        return f"{self.points}, *{self.verdict}*"


def scores(y_true: ArrayLike, y_pred: ArrayLike) -> dict[str, float]:
    """Accuracy and macro-F1 (0 to 1), the mean over runs when there are several."""
    once = np.ones((1, len(y_true)))
    return {m: float(_metric(y_true, y_pred, m)[0](once).mean()) for m in METRICS}


def interval(y_true: ArrayLike, y_pred: ArrayLike, metric: str = "accuracy", **options) -> Interval:
    """Bootstrap `Interval` of one method's metric over test examples and runs; `options` are
    `level`, `samples` and `seed` of `bootstrap`."""
    scored, runs = _metric(y_true, y_pred, metric)
    return bootstrap(len(y_true), runs, scored, **options)


def difference(
    y_true: ArrayLike, first: ArrayLike, second: ArrayLike, metric: str = "accuracy", **options
) -> Interval:
    """Paired bootstrap `Interval` of metric(first) - metric(second), `options` as in `interval`.

    Both are scored on the same resampled examples and the same resampled runs, so what makes an
    example or a set of labels hard for both cancels out (Koehn 2004).
    """
    (one, runs), (other, others) = (_metric(y_true, y, metric) for y in (first, second))
    if runs != others:
        raise ValueError(f"{runs} runs cannot be paired with {others}: give both the same seeds")
    return bootstrap(len(y_true), runs, one, other, **options)


def bootstrap(
    n: int, runs: int, *metrics: Callable[[np.ndarray], np.ndarray],
    level: float = 0.95, samples: int = 1000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Two-level bootstrap `Interval` of a metric, or of the first of two metrics less the second.

    Each metric maps weights `(k, n)`, how often each of n examples is drawn, to `(runs, k)`. The
    weights are drawn in blocks of two million numbers, 24 MB, whatever n and `samples` are.
    """
    if not n or not runs:
        raise ValueError("no examples or no predictions: an interval needs some of both")
    rng, block, parts = np.random.default_rng(seed), max(1, 2_000_000 // n), []
    for begin in range(0, samples, block):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=min(block, samples - begin))
        parts.append([metric(weights.astype(np.float32)) for metric in metrics])
    picks = rng.integers(runs, size=(runs, samples))
    value, drawn = 0.0, np.zeros(samples)
    for sign, metric, part in zip((1, -1), metrics, zip(*parts, strict=True), strict=False):
        value += sign * metric(np.ones((1, n))).mean()
        drawn += sign * np.take_along_axis(np.concatenate(part, axis=1), picks, axis=0).mean(0)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def equivalent_labels(counts: Sequence[int], values: Sequence[float], target: float) -> float:
    """How many labels a learning curve needs to reach `target`, straight lines between the points
    on a logarithmic axis of label counts; `inf` when its last point is still below."""
    reached = np.maximum.accumulate(np.asarray(values, float))
    if target <= reached[0]:
        return float(counts[0])
    if target > reached[-1]:
        return float("inf")
    above = int(np.searchsorted(reached, target))
    share = (target - reached[above - 1]) / (reached[above] - reached[above - 1])
    low, high = np.log(counts[above - 1]), np.log(counts[above])
    return float(np.exp(low + share * (high - low)))


def _metric(y_true, y_pred, metric: str) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """The metric as a function of weights `(k, n)`, see `bootstrap`, and the number of runs."""
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}: one of {', '.join(METRICS)}")
    true, pred = labels(y_true, "y_true"), np.atleast_2d(labels(y_pred, "y_pred"))
    if true.ndim != 1:
        raise ValueError(f"y_true has the shape {true.shape}: give one label an example, (n,)")
    if pred.ndim != 2:
        raise ValueError(f"y_pred has the shape {pred.shape}: give (n,) or (runs, n)")
    if pred.shape[1] != len(true):
        raise ValueError(f"{pred.shape[1]} predictions for {len(true)} labels: one for each")
    if (true.dtype.kind == "U") != (pred.dtype.kind == "U"):
        raise TypeError("y_true and y_pred are numbers and texts: give labels of one kind")
    return partial(_accuracy if metric == "accuracy" else _macro_f1, true, pred), len(pred)


def labels(values: ArrayLike, name: str) -> np.ndarray:
    """Labels as an array of whole numbers or of texts; `TypeError` for anything else."""
    try:
        found = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} has rows of different lengths: one label an example") from None
    if found.dtype.kind in "UOT":  # numpy makes texts of the numbers in [0, "a"]
        each = np.asarray(values, dtype=object)
        found = found.astype(str) if all(isinstance(v, str) for v in each.flat) else each
    if not found.size:
        raise ValueError(f"{name} is empty: give at least one label")
    if found.dtype.kind not in "biuU":
        odd = next((v for v in found.flat if not isinstance(v, str)), found.dtype)
        raise TypeError(f"{name} holds {odd!r}: labels are whole numbers or texts, of one kind")
    return found


def _accuracy(y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (y_pred == y_true) @ weights.T / weights.sum(1)


def _macro_f1(y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """As scikit-learn has it: the mean over the classes that occur in the resample's labels or in
    this run's predictions of it."""
    total = present = np.zeros((len(y_pred), len(weights)), weights.dtype)
    for c in np.union1d(y_true, y_pred):
        true, found = y_true == c, y_pred == c
        either = found @ weights.T + true @ weights.T
        total = total + 2 * ((found & true) @ weights.T) / np.maximum(either, 1)
        present = present + (either > 0)
    return total / present

"""Scores with intervals: a difference without one is an anecdote.

Labels are an int array `(n,)`. Predictions are `(n,)`, or `(seeds, n)` when the same test examples
were predicted by several training runs; intervals then cover both sources of chance, the sample of
test examples and the sample of seeds (a two-level percentile bootstrap, Efron & Tibshirani 1993,
chapter 13). Few seeds make the seed part a little too narrow; say how many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

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


def scores(labels, predictions) -> dict[str, float]:
    """Accuracy and macro-F1 (0 to 1), the mean over seeds when there are several."""
    labels, predictions = _aligned(labels, predictions)
    once = np.ones((1, len(labels)))
    return {name: float(_values(labels, predictions, once, name).mean()) for name in METRICS}


def interval(labels, predictions, metric="accuracy", *, level=0.95, samples=1000, seed=0):
    """Bootstrap `Interval` of one method's metric over test examples and seeds."""
    labels, predictions = _aligned(labels, predictions)
    return _bootstrap(labels, [predictions], metric, level, samples, seed)


def difference(labels, first, second, metric="accuracy", *, level=0.95, samples=1000, seed=0):
    """Paired bootstrap `Interval` of metric(first) - metric(second).

    Both methods are scored on the same resampled examples and the same resampled seeds, so what
    makes an example or a label subset hard for both cancels out (Koehn 2004).
    """
    labels, first = _aligned(labels, first)
    _, second = _aligned(labels, second)
    if first.shape != second.shape:
        raise ValueError(f"cannot pair {first.shape} predictions with {second.shape}: same seeds")
    return _bootstrap(labels, [first, second], metric, level, samples, seed)


def entity_scores(tags: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> dict:
    """Entity-level precision, recall and F1 of BIO tags by seqeval in strict mode (IOB2)."""
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    options = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    measures = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    rows = [list(row) for row in tags], [list(row) for row in predictions]
    return {name: float(measure(*rows, **options)) for name, measure in measures.items()}


def equivalent_labels(counts, values, target: float) -> float:
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


def _aligned(labels, predictions) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.asarray(labels), np.atleast_2d(np.asarray(predictions))
    if not len(labels) or predictions.shape[1] != len(labels):
        raise ValueError(f"{predictions.shape[1]} predictions for {len(labels)} labels")
    return labels, predictions


def _values(labels, predictions, counts, metric) -> np.ndarray:
    """The metric `(seeds, samples)` when example i is drawn `counts[sample, i]` times."""
    if metric == "accuracy":
        return (predictions == labels) @ counts.T / counts.sum(1)
    if metric != "macro_f1":
        raise ValueError(f"unknown metric {metric!r}: one of {', '.join(METRICS)}")
    f1 = []
    for c in np.union1d(labels, predictions):
        both = ((predictions == c) & (labels == c)) @ counts.T
        either = (predictions == c) @ counts.T + (labels == c) @ counts.T
        f1.append(2 * both / np.maximum(either, 1))
    return np.mean(f1, axis=0)


def _bootstrap(labels, methods, metric, level, samples, seed) -> Interval:
    rng, n, n_seeds = np.random.default_rng(seed), len(labels), len(methods[0])
    counts = rng.multinomial(n, np.full(n, 1 / n), size=samples).astype(np.float32)
    picks = rng.integers(n_seeds, size=(n_seeds, samples))
    once = np.ones((1, n))
    value, drawn = 0.0, np.zeros(samples)
    for sign, predictions in zip((1, -1), methods, strict=False):
        value += sign * _values(labels, predictions, once, metric).mean()
        by_seed = _values(labels, predictions, counts, metric)
        drawn += sign * np.take_along_axis(by_seed, picks, axis=0).mean(0)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))

"""Scores with intervals, figures and records."""

from helpers.evaluation.records import Recorder
from helpers.evaluation.scores import (
    Interval,
    difference,
    entity_scores,
    equivalent_labels,
    interval,
    scores,
)

__all__ = [
    "Interval",
    "Recorder",
    "difference",
    "entity_scores",
    "equivalent_labels",
    "interval",
    "scores",
]

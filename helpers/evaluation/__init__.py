"""Scores with intervals, entities, retrieval, tables, figures and records."""

from helpers import lazily
from helpers.evaluation.scores import Interval, difference, equivalent_labels, interval, scores

_contents = {
    "entities": "entity_html",
    "finished_runs": "FinishedRuns",
    "plots": "escape styled",
    "records": "Recorder",
    "retrieval": "target_ranks",
}
__getattr__, __dir__, _lazy = lazily(__name__, _contents)
__all__ = ["Interval", "difference", "equivalent_labels", "interval", "scores", *_lazy]

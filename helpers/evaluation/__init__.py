"""Scores with intervals, entities, retrieval, tables, figures and records."""

from importlib import import_module

from helpers.evaluation.scores import Interval, difference, equivalent_labels, interval, scores

_CONTENTS = {
    "entities": "entity_difference entity_errors entity_html entity_interval entity_scores",
    "records": "Recorder",
    "retrieval": "target_ranks",
    "tables": "escape styled",
}
_PARTS = {name: part for part, names in _CONTENTS.items() for name in names.split()}
__all__ = ["Interval", "difference", "equivalent_labels", "interval", "scores", *_PARTS]


def __getattr__(name: str):
    """Import what is asked for, so that a part costs only what it needs (PEP 562)."""
    if name in _PARTS:
        return getattr(import_module(f"{__name__}.{_PARTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

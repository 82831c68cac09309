"""Named entities out of BIO tags: where they are, how a tagger errs, intervals, text in colours.

Tags are lists of lists of names, one a word. An entity begins with its B- and goes on with I- of
the same kind (IOB2, as seqeval's strict mode has it): an I- that nothing began is no entity.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.evaluation.scores import Interval, Metric, bootstrap

Tags = Sequence[Sequence[str]]
Runs = Sequence[Tags]  # predictions of the same sentences, one a training run
ERRORS = ("correct", "boundary", "type", "boundary and type", "missing", "spurious")  # MUC's words
COLOURS = {"PER": "#ffd9b3", "LOC": "#c9e8c9", "ORG": "#cfe0ff", "MISC": "#f3d4f0"}
OTHERS = ("#fff3a8", "#d5f0f0", "#e6e0d0", "#ffd6d6")  # for other kinds, by their spelling


class Span(NamedTuple):
    """An entity: its first word, the word after its last, what it is."""

    start: int
    end: int
    kind: str


def spans(tags: Sequence[str]) -> list[Span]:
    """The entities of one sentence, from left to right."""
    found, start = [], None
    for i, tag in enumerate([*tags, "O"]):
        if start is not None and tag != f"I-{tags[start][2:]}":
            found.append(Span(start, i, tags[start][2:]))
            start = None
        if tag.startswith("B-"):
            start = i
    return found


def entity_errors(y_true: Tags, y_pred: Tags) -> pd.DataFrame:
    """What became of each entity: a row for each that stays alone, *missing* (true) or *spurious*
    (predicted), and for each pair that overlaps. Pairs are found in the order of `ERRORS`, the
    larger overlap first. The columns are sentence, error, true, predicted."""
    rows = []
    for number, (true, found) in enumerate(_entities(y_true, y_pred)):
        pairs = []
        for t, p in product(true, found):
            if (shared := min(t.end, p.end) - max(t.start, p.start)) > 0:
                pairs.append(((t[:2] != p[:2]) + 2 * (t.kind != p.kind), -shared, t, p))
        for error, _, t, p in sorted(pairs):
            if t in true and p in found:
                rows.append((number, ERRORS[error], t, p))
                true.remove(t)
                found.remove(p)
        rows += [(number, "missing", t, None) for t in true]
        rows += [(number, "spurious", None, p) for p in found]
    return pd.DataFrame(rows, columns=["sentence", "error", "true", "predicted"])


def _entities(y_true: Tags, y_pred: Tags) -> list[tuple[list[Span], list[Span]]]:
    """The true and the predicted entities of each sentence; refuses tags that do not fit."""
    if [*map(len, y_true)] != [*map(len, y_pred)]:
        raise ValueError("y_true and y_pred differ in sentences or words: give one tag a word")
    if odd := [tag for row in (*y_true, *y_pred) for tag in row if not isinstance(tag, str)]:
        raise TypeError(f"{odd[0]!r} is no tag: give names such as 'B-PER', not numbers")
    return [(spans(true), spans(found)) for true, found in zip(y_true, y_pred, strict=True)]


def entity_scores(y_true: Tags, y_pred: Tags) -> dict[str, float]:
    """Entity-level precision, recall and F1 by seqeval in strict mode (IOB2)."""
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2

    _entities(y_true, y_pred)
    rows = ([*map(list, tags)] for tags in (y_true, y_pred))
    options = {"average": "micro", "scheme": IOB2, "zero_division": 0}
    found = precision_recall_fscore_support(*rows, **options)
    return dict(zip(("precision", "recall", "f1"), map(float, found[:3]), strict=True))


def mention(words: Sequence[str], span: Span) -> tuple[str, str]:
    """What an entity is called, in lower case, and its kind."""
    return " ".join(words[span.start : span.end]).casefold(), span.kind


def seen_entities(sentences: Tags, tags: Tags) -> set[tuple[str, str]]:
    """`mention` of all entities, e.g. of those in the training sentences."""
    rows = zip(sentences, tags, strict=True)
    return {mention(words, span) for words, row in rows for span in spans(row)}


def seen_scores(sentences: Tags, y_true: Tags, y_pred: Tags, seen: set) -> pd.DataFrame:
    """Precision, recall, F1 of the entities in `seen`, as `seen_entities` gives it, and of the
    others, and the number of true ones. A predicted entity belongs where its own `mention` does."""
    counts = {"seen": np.zeros(3, int), "unseen": np.zeros(3, int)}
    for words, (true, found) in zip(sentences, _entities(y_true, y_pred), strict=True):
        for span in {*true, *found}:
            group = "seen" if mention(words, span) in seen else "unseen"
            counts[group] += (span in true and span in found, span in found, span in true)
    rows = [(c / max(1, p), c / max(1, t), 2 * c / max(1, p + t), t) for c, p, t in counts.values()]
    return pd.DataFrame(rows, list(counts), ["precision", "recall", "f1", "entities"])


def entity_interval(y_true: Tags, y_pred: Runs, **options) -> Interval:
    """`Interval` of entity F1 over sentences and runs, `options` as in `evaluation.interval`."""
    return bootstrap(_entity_f1(y_true, y_pred), n=len(y_true), **options)


def entity_difference(y_true: Tags, first: Runs, second: Runs, **options) -> Interval:
    """Paired `Interval` of F1(first) - F1(second), whose runs have the same seeds."""
    both = [_entity_f1(y_true, runs) for runs in (first, second)]
    return bootstrap(*both, n=len(y_true), **options)


def _entity_f1(y_true: Tags, runs: Runs) -> Metric:
    """Entity F1; 0 where there is no entity."""
    counts = np.zeros((2, len(runs), len(y_true)))  # correct entities; true and predicted ones
    for run, y_pred in enumerate(runs):
        for i, (true, found) in enumerate(_entities(y_true, y_pred)):
            counts[:, run, i] = len({*true} & {*found}), len(true) + len(found)
    return lambda weights: 2 * counts[0] @ weights.T / np.maximum(1, counts[1] @ weights.T)


def entity_html(words: Sequence[str], tags: Sequence[str]) -> str:
    """The sentence as HTML for `IPython.display.HTML`, each entity on a colour, its kind behind it.
    Words and kinds are escaped. Raises `ValueError` for other than one tag a word."""
    if len(words) != len(tags):
        raise ValueError(f"{len(words)} words came with {len(tags)} tags: give one tag a word")
    shown = [html.escape(word) for word in words]
    for start, end, kind in reversed(spans(tags)):
        colour = COLOURS.get(kind) or OTHERS[sum(map(ord, kind)) % len(OTHERS)]
        style = f"background:{colour};color:#111;padding:2px 4px;border-radius:4px"
        entity = f"{' '.join(shown[start:end])} <small>{html.escape(kind)}</small>"
        shown[start:end] = [f'<mark style="{style}">{entity}</mark>']
    return f'<div dir="auto" style="line-height:2">{" ".join(shown)}</div>'

"""Named entities out of BIO tags: where they are, how a tagger errs, intervals, text in colours.

Tags are lists of lists of names (`B-PER`, `I-PER`, `O`), one a word. An entity begins with its B-
and goes on with I- of the same kind (IOB2, as seqeval's strict mode has it): an I- that nothing
began is no entity.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.evaluation.scores import Interval, bootstrap

Tags = Sequence[Sequence[str]]
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
    """What became of each entity: a table with the columns sentence, error, true, predicted.

    A row is a true entity, a predicted one, or two that overlap and are taken as a pair; every
    entity is in exactly one row. Pairs are found in the order of `ERRORS`, the larger overlap
    first: the same, of the same kind with other ends, of the same extent but another kind, both
    wrong. What is left over is *missing* (true only) or *spurious* (predicted only).
    """
    rows = []
    for number, (one, other) in enumerate(_both(y_true, y_pred)):
        true, found = spans(one), spans(other)
        every = [(_error(t, p), max(t.start, p.start) - min(t.end, p.end), t, p)
                 for t in true for p in found if t.start < p.end and p.start < t.end]  # fmt: skip
        for rank, _, t, p in sorted(every):
            if t in true and p in found:
                rows.append((number, ERRORS[rank], t, p))
                true.remove(t)
                found.remove(p)
        rows += [(number, "missing", t, None) for t in true]
        rows += [(number, "spurious", None, p) for p in found]
    return pd.DataFrame(rows, columns=["sentence", "error", "true", "predicted"])


def _error(true: Span, predicted: Span) -> int:
    return (true[:2] != predicted[:2]) + 2 * (true.kind != predicted.kind)


def _both(y_true: Tags, y_pred: Tags) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    if [*map(len, y_true)] != [*map(len, y_pred)]:
        raise ValueError("y_true and y_pred differ in sentences or words: give one tag a word")
    for pair in zip(y_true, y_pred, strict=True):
        if odd := [tag for row in pair for tag in row if not isinstance(tag, str)]:
            raise TypeError(f"{odd[0]!r} is no tag: give names such as 'B-PER', not numbers")
        yield pair


# --- scores ---------------------------------------------------------------------------------------


def entity_scores(y_true: Tags, y_pred: Tags) -> dict[str, float]:
    """Entity-level precision, recall and F1 by seqeval in strict mode (IOB2)."""
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    options = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    measures = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    pairs = [*_both(y_true, y_pred)]
    rows = [[list(pair[side]) for pair in pairs] for side in (0, 1)]
    return {name: float(measure(*rows, **options)) for name, measure in measures.items()}


def seen_entities(sentences: Tags, tags: Tags) -> set[tuple[str, str]]:
    """`mention` of all entities, e.g. of those in the training sentences."""
    pairs = zip(sentences, tags, strict=True)
    return {mention(words, span) for words, row in pairs for span in spans(row)}


def seen_scores(
    sentences: Tags, y_true: Tags, y_pred: Tags, seen: set[tuple[str, str]]
) -> pd.DataFrame:
    """Precision, recall, F1 of entities that are `seen` (see `seen_entities`) and of the others,
    and how many true ones there are. A predicted entity belongs where its own name and kind do."""
    counts = {"seen": np.zeros(3, int), "unseen": np.zeros(3, int)}
    for words, (one, other) in zip(sentences, _both(y_true, y_pred), strict=True):
        true, found = set(spans(one)), set(spans(other))
        for span in true | found:
            group = "seen" if mention(words, span) in seen else "unseen"
            counts[group] += (span in true and span in found, span in found, span in true)
    columns = ["precision", "recall", "f1", "entities"]
    rows = [(c / max(1, p), c / max(1, t), _f1(np.array([c, p, t])), t)
            for c, p, t in counts.values()]  # fmt: skip
    return pd.DataFrame(rows, index=list(counts), columns=columns)


def mention(words: Sequence[str], span: Span) -> tuple[str, str]:
    """What an entity is called, in lower case, and its kind: how `seen_entities` knows it."""
    return " ".join(words[span.start : span.end]).casefold(), span.kind


def entity_interval(y_true: Tags, y_pred: Sequence[Tags], **options) -> Interval:
    """Bootstrap `Interval` of entity F1 over sentences and training runs; `y_pred` is a list of
    predictions, one a run; `options` are `level`, `samples` and `seed` of `evaluation.interval`."""
    return bootstrap(len(y_true), len(y_pred), _entity_f1(y_true, y_pred), **options)


def entity_difference(
    y_true: Tags, first: Sequence[Tags], second: Sequence[Tags], **options
) -> Interval:
    """Paired bootstrap `Interval` of F1(first) - F1(second) on the same sentences and runs; both
    are lists of predictions, one a run, of the same seeds. `options` as in `entity_interval`."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} runs cannot be paired with {len(second)}: the same seeds")
    both = (_entity_f1(y_true, one) for one in (first, second))
    return bootstrap(len(y_true), len(first), *both, **options)


def _entity_f1(y_true: Tags, runs: Sequence[Tags]) -> Callable[[np.ndarray], np.ndarray]:
    """Entity F1 as a function of weights `(k, sentences)`, see `bootstrap`."""
    counts = []  # a run: correct, predicted and true entities of each sentence (n, 3)
    for y_pred in runs:
        pairs = [(set(spans(one)), set(spans(other))) for one, other in _both(y_true, y_pred)]
        counts.append(np.array([(len(t & p), len(p), len(t)) for t, p in pairs], float))
    return lambda weights: np.stack([_f1(weights @ one) for one in counts])


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 out of `(…, 3)` counts; 0 where there is neither a true nor a predicted entity."""
    return 2 * counts[..., 0] / np.maximum(1, counts[..., 1] + counts[..., 2])


# --- a look ---------------------------------------------------------------------------------------


def entity_html(words: Sequence[str], tags: Sequence[str]) -> str:
    """The sentence as HTML, entities on colours with their kind behind them (`IPython.display.HTML`
    shows it). Words and kinds are escaped. Raises `ValueError` for other than one tag a word."""
    if len(words) != len(tags):
        raise ValueError(f"{len(words)} words came with {len(tags)} tags: give one tag a word")
    begins = {span.start: span for span in spans(tags)}
    parts, at = [], 0
    while at < len(words):
        span = begins.get(at, Span(at, at + 1, ""))
        text = html.escape(" ".join(words[span.start : span.end]))
        parts.append(_marked(text, span.kind) if span.kind else text)
        at = span.end
    return f'<div dir="auto" style="line-height:2">{" ".join(parts)}</div>'


def _marked(text: str, kind: str) -> str:
    colour = COLOURS.get(kind) or OTHERS[sum(map(ord, kind)) % len(OTHERS)]
    style = f"background:{colour};color:#111;padding:2px 4px;border-radius:4px"
    return f'<mark style="{style}">{text} <small>{html.escape(kind)}</small></mark>'

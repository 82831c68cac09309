"""Named entities out of BIO tags: where they are, F1, text in colours. Tags are lists of lists of
names, one a word. An entity begins with its B- and goes on with I- of the same kind (IOB2, as
seqeval's strict mode has it): an I- that nothing began is no entity."""

import html
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Tags = Sequence[Sequence[str]]
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


def entity_f1(y_true: Tags, runs: Sequence[Tags]) -> Callable[[np.ndarray], np.ndarray]:
    """Entity F1 of runs as a metric for `scores.bootstrap`; 0 where there is no entity."""
    counts = np.zeros((2, len(runs), len(y_true)))  # correct entities; true and predicted ones
    for run, y_pred in enumerate(runs):
        if [*map(len, y_true)] != [*map(len, y_pred)]:
            raise ValueError("y_true and y_pred differ in sentences or words: give one tag a word")
        if odd := [tag for row in (*y_true, *y_pred) for tag in row if not isinstance(tag, str)]:
            raise TypeError(f"{odd[0]!r} is no tag: give names such as 'B-PER', not numbers")
        for i, (true, found) in enumerate(zip(map(spans, y_true), map(spans, y_pred), strict=True)):
            counts[:, run, i] = len({*true} & {*found}), len(true) + len(found)
    return lambda weights: 2 * counts[0] @ weights.T / np.maximum(1, counts[1] @ weights.T)


def entity_html(words: Sequence[str], tags: Sequence[str]) -> str:
    """The sentence as HTML, escaped, each entity on a colour, its kind behind it."""
    if len(words) != len(tags):
        raise ValueError(f"{len(words)} words came with {len(tags)} tags: give one tag a word")
    shown = [html.escape(word) for word in words]
    for start, end, kind in reversed(spans(tags)):
        colour = COLOURS.get(kind) or OTHERS[sum(map(ord, kind)) % len(OTHERS)]
        style = f"background:{colour};color:#111;padding:2px 4px;border-radius:4px"
        entity = f"{' '.join(shown[start:end])} <small>{html.escape(kind)}</small>"
        shown[start:end] = [f'<mark style="{style}">{entity}</mark>']
    return f'<div dir="auto" style="line-height:2">{" ".join(shown)}</div>'

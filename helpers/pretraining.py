"""BERT's two training tasks as data: masked words, and pairs of sentences (Devlin et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from helpers.text import IGNORED


def mask_tokens(ids, special, mask_id: int, vocabulary, rng, share=0.15, words=None):
    """Hide some pieces of a text; the changed ids and the labels, both `(T,)`.

    Of the pieces that are not `special` (bool, `(T,)`; marks and padding), `share` are to be
    guessed, at least one: 80 % of these become `mask_id`, 10 % a random id out of `vocabulary`,
    10 % stay. The label is the true id there and `IGNORED` elsewhere. `words` `(T,)`, the number of
    the word that a piece belongs to, hides whole words. Raises `ValueError` for a share outside 0
    to 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of {share} cannot be masked: it must be above 0 and at most 1")
    ids, places = np.array(ids), np.flatnonzero(~np.asarray(special, dtype=bool))
    labels = np.full_like(ids, IGNORED)
    if not len(places):
        return ids, labels
    units = places if words is None else np.asarray(words)[places]
    goal = max(1, round(share * len(places)))
    names, sizes = np.unique(units, return_counts=True)
    order = rng.permutation(len(names))
    fitting = np.searchsorted(np.cumsum(sizes[order]), goal, side="right")
    places = places[np.isin(units, names[order[: max(1, fitting)]])]
    labels[places] = ids[places]
    lot = rng.random(len(places))
    ids[places[lot < 0.8]] = mask_id
    swapped = places[(lot >= 0.8) & (lot < 0.9)]
    ids[swapped] = rng.choice(np.asarray(vocabulary), len(swapped))
    return ids, labels


def sentence_pairs(documents: Sequence[Sequence[str]], rng) -> list[tuple[str, str, int]]:
    """For each sentence that has a next one in its document: (sentence, other, label).

    With even chances the other is the next sentence (label 0, as transformers has it)
    or one of another document (label 1) that reads differently from the true one. Raises
    `ValueError` if there are fewer than two documents with sentences.
    """
    documents = [list(document) for document in documents if len(document)]
    if len(documents) < 2:
        raise ValueError("false next sentences come from other documents: two are the least")
    pairs = []
    for number, document in enumerate(documents):
        for first, following in pairwise(document):
            other = _elsewhere(documents, number, following, rng) if rng.random() < 0.5 else None
            pairs.append((first, following, 0) if other is None else (first, other, 1))
    return pairs


def _elsewhere(documents, number: int, following: str, rng, tries: int = 100) -> str | None:
    """A sentence of another document that is not the same text as `following`."""
    for _ in range(tries):
        place = int(rng.integers(len(documents) - 1))
        document = documents[place + (place >= number)]
        other = document[int(rng.integers(len(document)))]
        if other != following:
            return other
    return None  # all others read the same

"""BERT's two training tasks as data: masked words, and pairs of sentences (Devlin et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from helpers.text.batching import IGNORED, Encoded
from helpers.text.tokens import normal


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


def pack_sentences(
    documents: Iterable[Sequence[str]], tokenizer, length: int = 64
) -> list[np.ndarray]:
    """Neighbouring sentences of a document put together, up to `length` pieces with the marks at
    the ends; each text an int array `(T,)`. A sentence that is too long is cut, and nothing lost.

    Raises `ValueError` if `length` leaves no room beside the marks.
    """
    first, last, room = tokenizer.cls_token_id, tokenizer.sep_token_id, length - 2
    if room < 1:
        raise ValueError(f"{length} pieces are too few: the marks at the ends need room, too")
    packed = []
    for document in documents:
        if not (sentences := list(document)):
            continue
        current: list[int] = []
        for ids in tokenizer(sentences, add_special_tokens=False, verbose=False)["input_ids"]:
            if len(current) + len(ids) > room:
                packed.append(current)
                current = []
            current = current + ids
            while len(current) > room:
                packed.append(current[:room])
                current = current[room:]
        packed.append(current)
    return [np.array([first, *ids, last]) for ids in packed if ids]


def exclude_texts(documents: Iterable[str], texts: Iterable[str]) -> list[str]:
    """The documents that are none of `texts`, to keep held-out texts out of what is read.

    Texts with the same letters and digits are the same, wherever blanks, capitals and marks stand:
    a corpus of tokens has "3 bn" where a text has "3bn".
    """

    def letters(text: str) -> str:
        return normal(text).replace(" ", "")

    known = set(map(letters, texts))
    return [document for document in documents if letters(document) not in known]


class MaskedTexts(Encoded):
    """Texts `ids`, each `(T,)` with its marks, for `training.fit`: an example has gaps in
    `input_ids`, and in `labels` the true pieces there and -100 elsewhere.

    Each epoch hides other pieces (`begin` is the callback that says which epoch it is), a share
    of all but the marks, as `pretraining.mask_tokens` does. With `always` each of them is replaced
    by [MASK]: so a model is judged, for a piece that is left in sight is no gap.
    """

    def __init__(self, ids, tokenizer, share: float = 0.15, always: bool = False, seed: int = 0):
        super().__init__(ids)
        self.share, self.always, self.seed, self.epoch = share, always, seed, 0
        self.marks, self.mask_id = np.array(tokenizer.all_special_ids), tokenizer.mask_token_id
        marks = set(tokenizer.all_special_ids)
        pieces = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
        self.vocabulary = np.array(
            [i for piece, i in pieces if i not in marks and not piece.startswith("[unused")]
        )

    def begin(self, model, epoch: int) -> None:
        """A callback for `training.fit`."""
        self.epoch = epoch

    def __getitem__(self, i) -> dict:
        ids, rng = self.ids[i], np.random.default_rng((self.seed, self.epoch, int(i)))
        special = np.isin(ids, self.marks)
        hidden, labels = mask_tokens(
            ids, special, self.mask_id, self.vocabulary, rng, share=self.share
        )
        if self.always:
            hidden[labels != IGNORED] = self.mask_id
        return {"input_ids": hidden, "labels": labels}


def masked_contexts(texts: MaskedTexts) -> np.ndarray:
    """The true piece at each gap between its neighbours, `(N, 3)`: left, piece, right. A neighbour
    is what a reader sees there: [MASK] where it is hidden, too."""
    found = []
    for i, ids in enumerate(texts.ids):
        item = texts[i]
        places, seen = np.flatnonzero(item["labels"] != IGNORED), item["input_ids"]
        found.append(np.stack([seen[places - 1], ids[places], seen[places + 1]], axis=1))
    return np.concatenate(found)

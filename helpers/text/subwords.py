"""Words and word pieces: tags of words to train an encoder on its pieces, and back.

A word is tagged by its first piece (Devlin et al. 2018, section 5.3). A sentence with more pieces
than fit becomes several windows that overlap; each word counts in one of them only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from helpers.text.batching import IGNORED, Encoded


@dataclass
class AlignedSubwords:
    """What `align_subwords` makes of N sentences.

    `encoded`: the windows, for `fit` and `predict`; ids `(T,)`, or `(T, 1 + C)` with features, and
    labels that are -100 but at the first pieces of words. `places`: for each sentence `(W,)`, where
    in the windows' pieces, one window after the other, each word's first piece is; -1 for a word
    without one. `vanished`: the number of such words.
    """

    encoded: Encoded
    places: list[np.ndarray]
    vanished: int


def align_subwords(
    tokenizer,
    sentences: Sequence[Sequence[str]],
    tags: Sequence[Sequence[int]] | None = None,
    *,
    features: Sequence[np.ndarray] | None = None,
    max_length: int = 256,
    context: int = 64,
) -> AlignedSubwords:
    """Sentences (lists of words) as windows of word pieces with the model's special tokens.

    Parameters
    ----------
    tokenizer: a fast tokenizer of transformers (`helpers.models.encoder.load_tokenizer`).
    tags: numbers of the tags, one a word; without them the windows have no labels.
    features: int arrays `(W, C)`, e.g. the spelling out of `encode_words`, `row[:, 1:]`; each piece
        carries those of its word, special tokens zeros.
    max_length: pieces in a window at most, special tokens included.
    context: how many pieces a word sees on either side at the least, unless the sentence ends.

    A word of which the tokenizer leaves nothing (control characters, an empty word) is in no
    window, but is counted and has its place. Raises `ValueError` if tags or features do not fit.
    """
    sentences, tags = list(sentences), tags if tags is None else list(tags)  # once out of Arrow
    for name, rows in (("tags", tags), ("features", features)):
        if rows is not None and [*map(len, rows)] != [*map(len, sentences)]:
            raise ValueError(f"{name} do not fit: there must be one for each word of each sentence")
    lead, tail = _special(tokenizer)
    room = _room(max_length, len(lead) + len(tail), context, tokenizer.model_max_length)
    pieces = _pieces(tokenizer, sentences)
    ids, labels, places, done = [], [], [], 0
    for number, words in enumerate(sentences):
        found = [pieces[word] for word in words]
        row = np.array([*chain.from_iterable(found)], dtype=np.int32)
        owner = np.repeat(np.arange(len(words)), [len(one) for one in found])
        there, first = np.unique(owner, return_index=True)  # words with pieces, their first ones
        places.append(np.full(len(words), -1))
        for start, mine in _windows(len(row), room, context, first):
            part = slice(start, start + room)
            window = np.array([*lead, *row[part], *tail], dtype=np.int32)
            spots = first[mine] - start + len(lead)
            places[-1][there[mine]] = done + spots
            done += len(window)
            if tags is not None:
                labels.append(np.full(len(window), IGNORED))
                labels[-1][spots] = np.asarray(tags[number])[there[mine]]
            if features is not None:
                ends = (len(lead), len(tail)), (0, 0)
                window = np.column_stack([window, np.pad(features[number][owner[part]], ends)])
            ids.append(window)
    vanished = sum(int((place < 0).sum()) for place in places)
    return AlignedSubwords(Encoded(ids, None if tags is None else labels), places, vanished)


def words_from_subwords(
    pieces: AlignedSubwords, outputs: Sequence[np.ndarray], outside: int | None = 0
) -> list[np.ndarray]:
    """A row for each word `(W, K)`, out of what `predict` returns for `pieces.encoded`, `(T, K)`.

    A word without a piece gets zeros, and 1 at `outside`, the number of the tag O: so it is O, or
    what its neighbours' tags make of it where a CRF decodes. With `outside=None` (for states in
    place of scores) only zeros.
    """
    if [*map(len, outputs)] != pieces.encoded.lengths.tolist():
        raise ValueError("these outputs are not of these pieces: predict(model, pieces.encoded)")
    unseen = np.zeros((1, np.shape(outputs[0])[1] if len(outputs) else (outside or 0) + 1))
    if outside is not None:
        unseen[0, outside] = 1
    rows = np.concatenate([*outputs, unseen.astype(outputs[0].dtype if len(outputs) else "f4")])
    return [rows[place] for place in pieces.places]  # place -1 is the last row


def _special(tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    ids, inner = (tokenizer("a", add_special_tokens=s)["input_ids"] for s in (True, False))
    at = next(i for i in range(len(ids)) if ids[i : i + len(inner)] == inner)
    return ids[:at], ids[at + len(inner) :]


def _pieces(tokenizer, sentences) -> dict[str, list[int]]:
    """The pieces of each different word."""
    words = list(dict.fromkeys(chain.from_iterable(sentences)))
    if not words:
        return {}
    # half of a surrogate pair is no character; the tokenizer would refuse it
    rows = [[word.encode("utf-8", "replace").decode()] for word in words]
    options = {"is_split_into_words": True, "add_special_tokens": False, "verbose": False}
    return dict(zip(words, tokenizer(rows, **options)["input_ids"], strict=True))


def _room(max_length: int, special: int, context: int, limit: int) -> int:
    """How many pieces of the sentence a window holds."""
    room = max_length - special
    if max_length > limit:
        raise ValueError(f"max_length={max_length} is more than the model reads, {limit}")
    if not 0 <= 2 * context < room:
        raise ValueError(f"context={context} on either side leaves nothing of windows of {room}")
    return room


def _windows(length: int, room: int, context: int, first: np.ndarray):
    """(start, which words are tagged here) of each window of `room` pieces that tags any.

    The last one ends with the sentence. A word is tagged where its first piece is nearest to the
    middle: there the smaller one of its two contexts is the largest.
    """
    last = max(0, length - room)
    starts = np.append(np.arange(0, last, room - 2 * context), last)
    home = np.searchsorted((starts[1:] + starts[:-1] + room - 1) / 2, first)
    for at in np.unique(home):
        yield starts[at], home == at

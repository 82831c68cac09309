"""Words to subwords and back. A word is tagged by its first token (Devlin et al. 2018, sec. 5.3); a
longer sentence becomes several windows that overlap, and each word is tagged in one of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from helpers.text.batching import IGNORED, Encoded


@dataclass
class AlignedSubwords:
    """`encoded`: the windows, ids `(T,)`, or `(T, 1 + C)` with features, and labels, -100 except at
    words' first tokens. `places`: where those are in all windows, `(W,)` a sentence, or -1."""

    encoded: Encoded
    places: list[np.ndarray]


def align_subwords(tokenizer, sentences: Sequence[Sequence[str]],
                   tags: Sequence[Sequence[int]] | None = None, *,
                   features: Sequence[np.ndarray] | None = None, max_length: int = 256,
                   context: int = 64) -> AlignedSubwords:  # fmt: skip
    """Sentences (lists of words) as windows of subword tokens with the model's special tokens.
    `tags` are numbers, one a word; `features`, int arrays `(W, C)`, go with each of a word's tokens
    (zeros with special ones). A window has at most `max_length` tokens and shows `context` tokens
    on either side of a word that it tags."""
    sentences, tags = list(sentences), tags if tags is None else list(tags)  # once out of Arrow
    for name, rows in (("tags", tags), ("features", features)):
        if rows is not None and [*map(len, rows)] != [*map(len, sentences)]:
            raise ValueError(f"{name} do not fit: there must be one for each word of each sentence")
    room, limit = max_length - tokenizer.num_special_tokens_to_add(), tokenizer.model_max_length
    if max_length > limit:
        raise ValueError(f"max_length={max_length} is more than the model reads, {limit}")
    if not 0 <= 2 * context < room:
        raise ValueError(f"context={context} on either side leaves nothing of windows of {room}")
    # half of a surrogate pair is no character: the tokenizer would refuse it
    texts = [[word.encode("utf-8", "replace").decode() for word in words] for words in sentences]
    whole = tokenizer(texts or [["a"]], is_split_into_words=True, verbose=False)  # none are refused
    ids, labels, places, done = [], [], [], 0
    for number, words in enumerate(sentences):
        row = np.array(whole["input_ids"][number], dtype=np.int32)
        owner = np.array([-1 if w is None else w for w in whole.word_ids(number)])
        lead, length = int((owner >= 0).argmax()), int((owner >= 0).sum())
        inner, after = slice(lead, lead + length), row[lead + length :]
        there, first = np.unique(owner[inner], return_index=True)  # words with tokens, their first
        places.append(np.full(len(words), -1))
        for start, mine in _windows(length, room, context, first):
            part = slice(start, start + room)
            window = np.concatenate([row[:lead], row[inner][part], after])
            spots = first[mine] - start + lead
            places[-1][there[mine]] = done + spots
            done += len(window)
            if tags is not None:
                labels.append(np.full(len(window), IGNORED))
                labels[-1][spots] = np.asarray(tags[number])[there[mine]]
            if features is not None:
                beside = np.asarray(features[number])[owner[inner][part]]
                window = np.column_stack([window, np.pad(beside, ((lead, len(after)), (0, 0)))])
            ids.append(window)
    return AlignedSubwords(Encoded(ids, None if tags is None else labels), places)


def words_from_subwords(aligned: AlignedSubwords, outputs: Sequence[np.ndarray],
                        outside: int = 0) -> list[np.ndarray]:  # fmt: skip
    """A row for each word `(W, K)` out of those for each token `(T, K)` of `aligned.encoded`; for a
    word without tokens, zeros and 1 at `outside`, the number of the tag O."""
    if [*map(len, outputs)] != aligned.encoded.lengths.tolist():
        raise ValueError("these outputs are not of these windows: predict_logits(model, encoded)")
    like = np.asarray(outputs[0]) if len(outputs) else np.zeros((0, outside + 1), np.float32)
    rows = np.concatenate([*outputs, np.eye(1, like.shape[1], outside, dtype=like.dtype)])
    return [rows[place] for place in aligned.places]  # place -1 is the last row


def _windows(length: int, room: int, context: int, first: np.ndarray) -> Iterator[tuple]:
    """(start, which words are tagged) of each window: a word where its least context is largest."""
    last = max(0, length - room)
    starts = np.append(np.arange(0, last, room - 2 * context), last)
    home = np.searchsorted((starts[1:] + starts[:-1] + room - 1) / 2, first)
    for at in np.unique(home):
        yield starts[at], home == at

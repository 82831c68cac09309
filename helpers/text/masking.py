"""BERT's two training tasks as data: masked tokens and sentence pairs (Devlin et al. 2018)."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from helpers.text.batching import IGNORED, Encoded
from helpers.text.tokens import normal


def mask_tokens(ids: Sequence[int], special: Sequence[bool], mask_id: int,
                vocabulary: Sequence[int], rng: np.random.Generator, share: float = 0.15,
                words: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Masked ids and labels, both `(T,)`. A `share` of the tokens that are not `special`, at least
    one, has its true id as label, else `IGNORED`: 80 % of these become `mask_id`, 10 % a random id
    out of `vocabulary`, 10 % stay. `words` `(T,)`, each token's word number, masks whole words."""
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
    draws = rng.random(len(places))
    ids[places[draws < 0.8]] = mask_id
    swapped = places[(draws >= 0.8) & (draws < 0.9)]
    ids[swapped] = rng.choice(np.asarray(vocabulary), len(swapped))
    return ids, labels


def sentence_pairs(documents: Iterable[Sequence[str]],
                   rng: np.random.Generator) -> list[tuple[str, str, int]]:  # fmt: skip
    """(sentence, other, label) for each sentence that has a next one in its document: with even
    chances that one (label 0, as in transformers), or another document's (label 1)."""
    documents = [list(document) for document in documents if len(document)]
    if len(documents) < 2:
        raise ValueError("false next sentences come from other documents: two are the least")
    pairs = []
    for number, document in enumerate(documents):
        for first, following in pairwise(document):
            other = _elsewhere(documents, number, following, rng) if rng.random() < 0.5 else None
            pairs.append((first, following, 0) if other is None else (first, other, 1))
    return pairs


def _elsewhere(documents, number: int, following: str, rng) -> str | None:
    """A sentence of another document that reads differently, if a hundred tries find one."""
    for _ in range(100):
        place = int(rng.integers(len(documents) - 1))
        document = documents[place + (place >= number)]
        other = document[int(rng.integers(len(document)))]
        if other != following:
            return other
    return None


def pack_sentences(documents: Iterable[Sequence[str]], tokenizer,
                   length: int = 64) -> list[np.ndarray]:  # fmt: skip
    """Neighbouring sentences of a document in texts of at most `length` tokens, int arrays `(T,)`
    with the special tokens at their ends. A sentence that is too long is cut, and nothing lost."""
    first, last, room = tokenizer.cls_token_id, tokenizer.sep_token_id, length - 2
    if room < 1:
        raise ValueError(f"{length} tokens are too few: the special tokens need two of them")
    packed = []
    for document in documents:
        current, options = [], {"add_special_tokens": False, "verbose": False}
        for ids in tokenizer(list(document) or [""], **options)["input_ids"]:
            if len(current) + len(ids) > room:
                packed.append(current)
                current = []
            current = current + ids
            *full, current = [current[i : i + room] for i in range(0, len(current), room)] or [[]]
            packed += full
        packed.append(current)
    return [np.array([first, *ids, last]) for ids in packed if ids]


def exclude_texts(documents: Iterable[str], texts: Iterable[str]) -> list[str]:
    """The documents that are none of the (held-out) `texts`, compared by letters and digits."""
    known = {normal(text).replace(" ", "") for text in texts}
    return [text for text in documents if normal(text).replace(" ", "") not in known]


class MaskedTexts(Encoded):
    """Texts for `training.fit`, out of `ids` `(T,)`, masked by `mask_tokens` anew in each epoch;
    with `always`, for evaluation, each token to predict is [MASK]: no answer is left in sight."""

    def __init__(self, ids: Iterable[np.ndarray], tokenizer, share: float = 0.15,
                 always: bool = False, seed: int = 0):  # fmt: skip
        super().__init__(ids)
        self.share, self.always, self.seed, self.epoch = share, always, seed, 0
        self.special, self.mask_id = tokenizer.all_special_ids, tokenizer.mask_token_id
        used = {i for word, i in tokenizer.get_vocab().items() if not word.startswith("[unused")}
        self.vocabulary = np.array(sorted(used.difference(self.special)))

    def begin(self, model, epoch: int) -> None:
        """A callback for `training.fit`, which tells the epoch."""
        self.epoch = epoch

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        ids, rng = self.ids[i], np.random.default_rng((self.seed, self.epoch, int(i)))
        special = np.isin(ids, self.special)
        masked, labels = mask_tokens(ids, special, self.mask_id, self.vocabulary, rng, self.share)
        if self.always:
            masked[labels != IGNORED] = self.mask_id
        return {"input_ids": masked, "labels": labels}


def masked_contexts(texts: MaskedTexts) -> np.ndarray:
    """Each masked token between its neighbours as they are read: left, true, right `(N, 3)`."""
    found = []
    for i, ids in enumerate(texts.ids):
        item = texts[i]
        places, seen = np.flatnonzero(item["labels"] != IGNORED), item["input_ids"]
        found.append(np.stack([seen[places - 1], ids[places], seen[places + 1]], axis=1))
    return np.concatenate(found or [np.zeros((0, 3), dtype=np.int64)])

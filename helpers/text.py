"""Words, vocabularies and batches: from text to padded arrays of ids."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch

PAD, UNKNOWN = "<pad>", "<unk>"
IGNORED = -100  # the label that PyTorch's losses leave out

# Ideographs stand alone, as no blanks separate them; accents may be characters of their own.
_IDEOGRAPH, _ACCENT = "㐀-䶿一-鿿豈-﫿", "[\u0300-\u036f]"
_LETTERS = rf"[^\W{_IDEOGRAPH}]+"
_NEGATION = re.compile(r"(?<=\w)(n't)\b", re.IGNORECASE)
_TOKEN = re.compile(
    r"\d+(?:[.,:]\d+)+"  # 3.14  1,000  10:30
    r"|(?:[^\W\d_]\.){2,}|(?:mr|mrs|ms|dr|jr|vs)\."  # u.s.  mr.
    r"|n't\b|'(?:s|m|d|ll|re|ve)\b|[dlo]'\w{2,}"  # n't  's  o'clock
    rf"|{_LETTERS}(?:(?:-|{_ACCENT}+){_LETTERS})*{_ACCENT}*"  # film  well-known
    r"|\.{2,}|-{2,}|\S",  # ...  --  any other mark
    re.IGNORECASE,
)


def tokenize(text: str, lower: bool = True) -> list[str]:
    """Split a text into words, numbers and punctuation marks, as GloVe's tokenizer does.

    The conventions are the Penn Treebank's, so that most tokens have a GloVe vector: "don't"
    gives "do", "n't"; "it's" gives "it", "'s"; "well-known" stays whole. Chinese is split into
    characters. Only white space is dropped; a curly apostrophe becomes a straight one.
    """
    text = text.replace("’", "'")
    if "'" in text:
        text = _NEGATION.sub(r" \1", text)
    return _TOKEN.findall(text.lower() if lower else text)


class Vocabulary:
    """A two-way map between words and ids; id 0 is padding, id 1 the unknown word."""

    def __init__(self, words):
        self.words = list(words)
        self._ids = {word: i for i, word in enumerate(self.words)}
        if self.words[:2] != [PAD, UNKNOWN] or len(self._ids) != len(self.words):
            raise ValueError(f"A vocabulary starts with {PAD}, {UNKNOWN} and has no word twice.")

    @classmethod
    def build(cls, token_lists, min_count: int = 1, max_size: int | None = None):
        """Words by falling count, ties by alphabet; `max_size` includes the two special ones."""
        counts = Counter()
        for tokens in token_lists:
            counts.update(tokens)
        kept = [w for w, n in counts.items() if n >= min_count and w not in (PAD, UNKNOWN)]
        kept.sort(key=lambda word: (-counts[word], word))
        return cls([PAD, UNKNOWN, *kept][:max_size])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word) -> bool:
        return word in self._ids

    def __getitem__(self, word: str) -> int:
        return self._ids.get(word, 1)

    def encode(self, tokens) -> np.ndarray:
        """Ids of the tokens, int64 (T,)."""
        return np.array([self._ids.get(token, 1) for token in tokens], dtype=np.int64)

    def decode(self, ids) -> list[str]:
        return [self.words[i] for i in ids]

    def save(self, path) -> None:
        Path(path).write_text(json.dumps(self.words, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path) -> "Vocabulary":
        return cls(json.loads(Path(path).read_text(encoding="utf-8")))


class Encoded(torch.utils.data.Dataset):
    """Encoded examples: `ids` is a list of int arrays (T,), or (T, C) for characters.

    `labels` is an int array (n,), a list of int arrays (T,) for tagging, or None.
    """

    def __init__(self, ids, labels=None):
        self.ids, self.labels = list(ids), labels
        self.lengths = np.array([len(sequence) for sequence in self.ids], dtype=np.int64)
        if not self.lengths.all():
            raise ValueError(f"Example {self.lengths.argmin()} has no tokens: leave it out.")
        if labels is not None and len(labels) != len(self):
            raise ValueError(f"{len(self)} examples came with {len(labels)} labels.")
        if labels is not None and len(labels) and np.ndim(labels[0]):
            wrong = self.lengths != [len(tags) for tags in labels]
            if wrong.any():
                raise ValueError(f"Example {wrong.argmax()} has not one label for each token.")
        elif labels is not None:
            self.labels = np.asarray(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i) -> dict:
        item = {"input_ids": self.ids[i]}
        return item if self.labels is None else {**item, "labels": self.labels[i]}

    def subset(self, indices) -> "Encoded":
        labels = None if self.labels is None else [self.labels[i] for i in indices]
        return Encoded([self.ids[i] for i in indices], labels)

    @staticmethod
    def collate(items) -> dict:
        """Pad to the longest: input_ids (B, T[, C]), attention_mask (B, T), labels (B[, T])."""
        ids = [item["input_ids"] for item in items]
        lengths = np.array([len(sequence) for sequence in ids])
        mask = np.arange(lengths.max()) < lengths[:, None]
        batch = {"input_ids": _pad(ids, 0), "attention_mask": torch.from_numpy(mask).long()}
        if "labels" in items[0]:
            labels = [item["labels"] for item in items]
            tagging = np.ndim(labels[0]) > 0
            batch["labels"] = _pad(labels, IGNORED) if tagging else torch.tensor(labels)
        return batch


def _pad(sequences, fill: int) -> torch.Tensor:
    shape = (len(sequences), max(map(len, sequences)), *np.shape(sequences[0])[1:])
    padded = np.full(shape, fill, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    return torch.from_numpy(padded)


class LengthBatches(torch.utils.data.Sampler):
    """Batches of examples of similar length, so that little padding is computed on.

    Shuffled, it sorts by length inside random pools of 50 batches and mixes the batches (a
    short one stays last, as Accelerate expects when it shares batches out between processes);
    otherwise it goes from the longest to the shortest. The order depends only on
    `(seed, epoch)`, and every index comes exactly once an epoch.
    """

    drop_last = False

    def __init__(self, lengths, batch_size: int, shuffle: bool = False, seed: int = 0):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, but must be at least 1.")
        self.lengths = np.asarray(lengths)
        self.batch_size, self.shuffle, self.seed, self.epoch = batch_size, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self):
        n, size = len(self.lengths), self.batch_size
        order, batches = np.arange(n), np.arange(len(self))
        if self.shuffle:
            rng = np.random.default_rng((self.seed, self.epoch))
            order = rng.permutation(n)
            batches[: n // size] = rng.permutation(n // size)
        pools = np.arange(n) // (50 * size) if self.shuffle else np.zeros(n)
        order = order[np.lexsort((-self.lengths[order], pools))]
        for batch in batches:
            yield order[batch * size : (batch + 1) * size].tolist()

"""A two-way map between words and ids."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

PAD, UNKNOWN = "<pad>", "<unk>"


class Vocabulary:
    """A two-way map between words and ids; id 0 is padding, id 1 the unknown word."""

    def __init__(self, words: Iterable[str]):
        self.words = list(words)
        self._ids = {word: i for i, word in enumerate(self.words)}
        if self.words[:2] != [PAD, UNKNOWN] or len(self._ids) != len(self.words):
            raise ValueError(f"A vocabulary starts with {PAD}, {UNKNOWN} and has no word twice.")

    @classmethod
    def build(cls, token_lists: Iterable[Iterable[str]], min_count: int = 1,
              max_size: int | None = None) -> "Vocabulary":  # fmt: skip
        """Words by falling count, ties by alphabet; `max_size` includes the two special tokens."""
        if max_size is not None and max_size < 2:
            raise ValueError(f"max_size={max_size} has no room for {PAD} and {UNKNOWN}: take 2 up.")
        counts = Counter(token for tokens in token_lists for token in tokens)
        kept = [w for w, n in counts.items() if n >= min_count and w not in (PAD, UNKNOWN)]
        kept.sort(key=lambda word: (-counts[word], word))
        return cls([PAD, UNKNOWN, *kept][:max_size])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def __getitem__(self, word: str) -> int:
        return self._ids.get(word, 1)

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """Ids of the tokens, int64 (T,)."""
        return np.array([self._ids.get(token, 1) for token in tokens], dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> list[str]:
        return [self.words[i] for i in ids]

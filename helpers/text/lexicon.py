"""A long list of words that stays on disk, with a fast way from a word to its number."""

import mmap
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def order_of(words: list[bytes]) -> np.ndarray:
    """The ids of the words in the order of their bytes, int32 (n,): what `order.npy` holds."""
    if any(b"\n" in word for word in words):
        raise ValueError("A word with a line break in it cannot be saved.")
    return np.array(sorted(range(len(words)), key=words.__getitem__), dtype=np.int32)


class Lexicon(Sequence):
    """The words in a folder's `words.txt`, one a line: id -> word, and word -> id by `order.npy`.

    Both files are memory-mapped. A dict of 400,000 words would take 60 MB in every process; the
    binary search takes 10 µs a word.
    """

    def __init__(self, folder: Path):
        with open(folder / "words.txt", "rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        line_ends = np.flatnonzero(np.frombuffer(self._text, dtype=np.uint8) == ord("\n"))
        self._ends = memoryview(line_ends)
        self._order = memoryview(np.load(folder / "order.npy", mmap_mode="r"))
        if len(self._order) != len(self._ends):
            raise ValueError(f"{folder} is damaged: words.txt and order.npy differ in length.")

    def _bytes(self, i: int) -> bytes:
        return self._text[self._ends[i - 1] + 1 if i else 0 : self._ends[i]]

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return self._bytes(range(len(self))[i]).decode()

    def get(self, word: str, default=None):
        """The id of a word, or `default`."""
        key = word.encode("utf-8", "surrogatepass")
        at = bisect_left(self._order, key, key=self._bytes)
        found = at < len(self) and self._bytes(self._order[at]) == key
        return self._order[at] if found else default

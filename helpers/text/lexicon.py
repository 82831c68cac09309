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


def open_array(file: Path, dtype: type, dimensions: int) -> np.ndarray:
    """The array in a .npy file, memory-mapped; `ValueError` with its name if it is damaged."""
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except FileNotFoundError:
        raise
    except Exception:  # numpy parses the head as Python: many errors, and advice to unpickle
        array = None
    if array is None or array.dtype != dtype or array.ndim != dimensions:
        raise ValueError(f"{file} is damaged: make its folder again with vectors.save.")
    return array


class Lexicon(Sequence):
    """The words in a folder's `words.txt`, one a line: id -> word, and word -> id by `order.npy`.

    Both files are memory-mapped; the binary search takes 10 µs a word.
    """

    def __init__(self, folder: Path):
        text = folder / "words.txt"
        if not text.stat().st_size:
            raise ValueError(f"{text} is damaged: it is empty.")
        order = open_array(folder / "order.npy", np.int32, 1)
        with open(text, "rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        line_ends = np.flatnonzero(np.frombuffer(self._text, dtype=np.uint8) == ord("\n"))
        if len(order) != len(line_ends) or not 0 <= order.min() <= order.max() < len(order):
            raise ValueError(f"{folder} is damaged: order.npy does not fit words.txt.")
        self._ends, self._order = memoryview(line_ends), memoryview(order)

    def _bytes(self, i: int) -> bytes:
        return self._text[self._ends[i - 1] + 1 if i else 0 : self._ends[i]]

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return self._bytes(range(len(self))[i]).decode(errors="replace")

    def get(self, word: str, default=None):
        """The id of a word, or `default`."""
        key = word.encode("utf-8", "surrogatepass")
        at = bisect_left(self._order, key, key=self._bytes)
        found = at < len(self) and self._bytes(self._order[at]) == key
        return self._order[at] if found else default

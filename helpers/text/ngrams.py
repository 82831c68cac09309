"""An n-gram language model with interpolated Kneser-Ney smoothing, the classic before networks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class _Level(NamedTuple):
    """The n-grams of one length n, as numbers, and what is known of their histories."""

    discount: float
    grams: np.ndarray  # distinct n-grams, ascending; counts beside them
    counts: np.ndarray
    histories: np.ndarray  # distinct first n - 1 words; sums of counts and numbers of n-grams
    totals: np.ndarray
    types: np.ndarray


class KneserNey:
    """p(w | h) = (max(c(h w) - D, 0) + D N(h ·) p(w | h')) / c(h ·)  (Kneser & Ney 1995).

    h' is h without its first word, N(h ·) the number of different words after h; c counts the
    longest n-grams, and of shorter ones the different words before them. At the bottom all words
    are equally likely. D is n1 / (n1 + 2 n2), by how many n-grams were counted once and twice.

    ids: the text, `(N,)` from 0 to `n_words` - 1; `order`: the length of the longest n-grams.
    """

    def __init__(self, ids, n_words: int, order: int = 3):
        if order < 1 or n_words**order > 2**62:
            raise ValueError(f"order is {order}: take 1 or more, and fewer than {n_words} words "
                             "where n-grams are long")  # fmt: skip
        self.n_words, self.order, self.levels = n_words, order, []
        keys = self._keys(ids, order)
        for n in range(order, 0, -1):
            grams, counts = np.unique(keys, return_counts=True)
            once, twice = (counts == 1).sum(), (counts == 2).sum()
            histories, first = np.unique(grams // n_words, return_index=True)
            totals, types = np.add.reduceat(counts, first), np.diff(np.append(first, len(grams)))
            discount = once / (once + 2 * twice) if once and twice else 0.5
            level = _Level(discount, grams, counts, histories, totals, types)
            self.levels.insert(0, level)
            keys = grams % n_words ** (n - 1)  # each once: so counts are of different words before

    def _keys(self, ids, n: int) -> np.ndarray:
        """The n-gram that ends at each word from the n-th on, as a number to the base `n_words`."""
        ids = np.asarray(ids, dtype=np.int64)
        if len(ids) < n or ids.min() < 0 or ids.max() >= self.n_words:
            raise ValueError(f"the text must have {n} words or more, from 0 to {self.n_words - 1}")
        windows = np.lib.stride_tricks.sliding_window_view(ids, n)
        return windows @ self.n_words ** np.arange(n - 1, -1, -1)

    def log_probabilities(self, ids) -> np.ndarray:
        """Of each word of a text `(N,)` after those before it, from word `order` on, in nats."""
        keys = self._keys(ids, self.order)
        p = np.full(len(keys), 1 / self.n_words)
        for n, level in enumerate(self.levels, start=1):
            gram = keys % self.n_words**n
            count = _look_up(level.grams, level.counts, gram)
            total = _look_up(level.histories, level.totals, gram // self.n_words)
            types = _look_up(level.histories, level.types, gram // self.n_words)
            mass = np.maximum(count - level.discount, 0) + level.discount * types * p
            p = np.where(total > 0, mass / np.maximum(total, 1), p)
        return np.log(p)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The values at the wanted keys, 0 where there are none."""
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)

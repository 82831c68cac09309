"""Encoded examples, and the batches in which a model reads them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

IGNORED = -100  # the label that PyTorch's losses leave out


class Encoded(torch.utils.data.Dataset):
    """Encoded examples: `ids` is a list of int arrays (T,), or (T, C) for characters.

    `labels` is an int array (n,), a list of int arrays (T,) for tagging, or None. Raises
    `ValueError` for an empty example, labels that do not match, and what is not a whole number.
    """

    def __init__(self, ids, labels=None):
        self.ids, self.labels = list(ids), labels
        self.lengths = np.array([len(sequence) for sequence in self.ids], dtype=np.int64)
        if not self.lengths.all():
            raise ValueError(f"Example {self.lengths.argmin()} has no tokens: leave it out.")
        if labels is not None and len(labels) != len(self):
            raise ValueError(f"{len(self)} examples came with {len(labels)} labels.")
        tagging = labels is not None and len(labels) > 0 and np.ndim(labels[0]) > 0
        if tagging:
            wrong = self.lengths != [len(tags) for tags in labels]
            if wrong.any():
                raise ValueError(f"Example {wrong.argmax()} has not one label for each token.")
        elif labels is not None:
            _check_whole("Labels", labels)
            self.labels = np.asarray(labels, dtype=np.int64)
        for i, example in enumerate(zip(*[self.ids, labels][: 1 + tagging], strict=True)):
            for numbers in example:
                _check_whole(f"Ids and labels of example {i}", numbers)

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


def _check_whole(what: str, numbers) -> None:
    found = np.asarray(numbers)
    if found.dtype.kind not in "iub":
        wrong = (found[found % 1 != 0] if found.dtype.kind == "f" else found).ravel().tolist()
        if wrong:
            raise ValueError(f"{what} must be whole numbers, but one is {wrong[0]!r}.")


def _pad(sequences, fill: int) -> torch.Tensor:
    shape = (len(sequences), max(map(len, sequences)), *np.shape(sequences[0])[1:])
    padded = np.full(shape, fill, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    return torch.from_numpy(padded)


class LengthBatches(Sampler):
    """Batches of examples of similar length, so that little padding is computed on.

    Shuffled, it sorts by length inside random pools of 50 batches and mixes the batches (a short
    one stays last); otherwise it goes from the longest to the shortest. The order depends only on
    `(seed, epoch)`, and every index comes exactly once an epoch.
    """

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


class EpochParts(Sampler):
    """Length-bucketed batches for `training.fit`, which reads all texts once in `parts` epochs.

    Callbacks and checkpoints, which go by epochs, so come `parts` times as often. Where there are
    fewer batches than `parts`, each batch is an epoch of its own.
    """

    def __init__(self, lengths, batch_size: int, parts: int, seed: int):
        if parts < 1:
            raise ValueError(f"parts is {parts}, but must be at least 1.")
        self.batches = LengthBatches(lengths, batch_size, shuffle=True, seed=seed)
        self.batch_size, self.parts, self.epoch = batch_size, min(parts, len(self.batches)), 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of the longest part."""
        return -(-len(self.batches) // self.parts)

    def __iter__(self) -> Iterator[list[int]]:
        self.batches.set_epoch(self.epoch // self.parts)
        batches = list(self.batches)
        for i in np.array_split(range(len(batches)), self.parts)[self.epoch % self.parts]:
            yield batches[i]

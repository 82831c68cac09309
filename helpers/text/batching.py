"""Encoded examples, and the batches in which a model reads them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

IGNORED = -100  # the label that PyTorch's losses leave out


class Encoded(Dataset):
    """Lists of int arrays: `ids` (T,) or (T, C); `labels` (T,), or one array (n,), or None."""

    def __init__(self, ids, labels=None):
        self.ids, self.labels = list(ids), labels
        self.lengths = np.array([len(row) for row in self.ids], dtype=np.int64)
        if not self.lengths.all():
            raise ValueError(f"Example {self.lengths.argmin()} has no tokens: leave it out.")
        if labels is not None and len(labels) != len(self):
            raise ValueError(f"{len(self)} examples came with {len(labels)} labels.")
        tags = labels if labels is not None and len(labels) and np.ndim(labels[0]) else []
        for i, row in [*enumerate(self.ids), *enumerate(tags)]:
            if len(row) != self.lengths[i]:
                raise ValueError(f"Example {i} has not one label for each token.")
            _check_whole(f"Ids and labels of example {i}", row)
        if labels is not None:
            _check_whole("Labels", [] if len(tags) else labels)
            self.labels = list(tags) or np.asarray(labels, dtype=np.int64)

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
        lengths = np.array([len(row) for row in ids])
        mask = torch.from_numpy(np.arange(lengths.max()) < lengths[:, None])
        batch = {"input_ids": _pad(ids, 0), "attention_mask": mask.long()}
        if "labels" in items[0]:
            labels = [item["labels"] for item in items]
            batch["labels"] = _pad(labels, IGNORED) if np.ndim(labels[0]) else torch.tensor(labels)
        return batch


def _check_whole(what: str, numbers) -> None:
    found = np.asarray(numbers)
    found = np.array(found.tolist()) if found.dtype == object else found
    if found.dtype.kind not in "iub":
        wrong = (found[found % 1 != 0] if found.dtype.kind == "f" else found).ravel().tolist()
        if wrong:
            raise ValueError(f"{what} must be whole numbers, but one is {wrong[0]!r}.")


def _pad(rows, fill: int) -> torch.Tensor:
    padded = np.full((len(rows), max(map(len, rows)), *np.shape(rows[0])[1:]), fill)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(padded)


class LengthBatches(Sampler):
    """Batches of examples of similar length, so that little padding is computed on: from the
    longest to the shortest or, with `shuffle`, sorted by length inside random pools of 50 batches,
    the batches mixed, a short one last. The order depends on `(seed, epoch)` alone."""

    def __init__(self, lengths, batch_size: int, shuffle: bool = False, seed: int = 0):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, but must be at least 1.")
        self.lengths = np.asarray(lengths)
        self.batch_size, self.shuffle, self.seed, self.epoch = batch_size, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        n, size = len(self.lengths), self.batch_size
        order, pools, batches = np.arange(n), np.zeros(n), np.arange(len(self))
        if self.shuffle:
            rng = np.random.default_rng((self.seed, self.epoch))
            order, pools = rng.permutation(n), np.arange(n) // (50 * size)
            batches[: n // size] = rng.permutation(n // size)
        order = order[np.lexsort((-self.lengths[order], pools))]
        for batch in batches:
            yield order[batch * size : (batch + 1) * size].tolist()


class EpochParts(Sampler):
    """Length-bucketed batches that read all texts once in `parts` epochs, so that callbacks and
    checkpoints, which go by epochs, come more often; an epoch has one batch at least."""

    def __init__(self, lengths, batch_size: int, parts: int, seed: int):
        if parts < 1:
            raise ValueError(f"parts is {parts}, but must be at least 1.")
        self.batches, self.epoch = LengthBatches(lengths, batch_size, shuffle=True, seed=seed), 0
        self.parts = min(parts, len(self.batches))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.batches) // self.parts)  # of the longest part

    def __iter__(self) -> Iterator[list[int]]:
        self.batches.set_epoch(self.epoch // self.parts)
        batches = list(self.batches)
        for i in np.array_split(range(len(batches)), self.parts)[self.epoch % self.parts]:
            yield batches[i]

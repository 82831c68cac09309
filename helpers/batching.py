"""The order in which texts are trained on, beyond `text.LengthBatches`."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from helpers.text import LengthBatches


class Rounds(Sampler):
    """Batches of like length for `training.fit`; a pass over the texts takes `parts` epochs.

    What `fit` calls an epoch is then a *round*: a part of a pass. Callbacks and checkpoints, which
    go by epochs, so come `parts` times as often. Where a pass has fewer batches than `parts`, each
    batch is a round of its own.
    """

    drop_last = False

    def __init__(self, lengths, batch_size: int, parts: int, seed: int):
        self.batches = LengthBatches(lengths, batch_size, shuffle=True, seed=seed)
        self.batch_size, self.parts, self.epoch = batch_size, min(parts, len(self.batches)), 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of the longest round."""
        return -(-len(self.batches) // self.parts)

    def __iter__(self) -> Iterator[list[int]]:
        self.batches.set_epoch(self.epoch // self.parts)
        batches = list(self.batches)
        for i in np.array_split(range(len(batches)), self.parts)[self.epoch % self.parts]:
            yield batches[i]

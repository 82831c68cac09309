"""From a source task to a target task: INIT, MULT and MULT+INIT (Mou et al. 2016,
aclanthology.org/D16-1046), and training on one task alone, which is their control. Each returns a
model for the target and the `Fit` of its last stage. `make(n_classes)` gives a new model for `fit`
whose last step is `self.head`; all below transfers, so both tasks need one vocabulary. `settings`
are those of `fit`, where `seed` draws the model, too."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Sampler

from helpers.text import IGNORED, Encoded, LengthBatches
from helpers.training.loop import Fit, check_labels, fit
from helpers.training.runs import own_randomness


@dataclass(frozen=True)
class Task:
    """Labelled texts to train on, one label each, from 0 to `n_classes - 1`."""

    train: Encoded
    n_classes: int

    def __post_init__(self):
        labels = self.train.labels
        if not isinstance(labels, np.ndarray) or not len(labels) or IGNORED in labels:
            raise ValueError("a task needs texts with one label each, at least one text")
        check_labels("the labels", labels, self.n_classes)


def train_single_task(make: Callable, task: Task, **settings) -> tuple[nn.Module, Fit]:
    """Train a new model on one task: the source stage of a transfer, and its control."""
    with own_randomness(settings.get("seed", 0)):
        model = make(task.n_classes)
    return model, fit(model, task.train, **settings)


def init(make: Callable, source: Task, target: Task, *, trained: nn.Module | None = None,
         frozen: bool = False, head: bool = True, **settings) -> tuple[nn.Module, Fit]:  # fmt: skip
    """INIT: train on the source, start from its weights on the target.

    trained: a model of the source, left as it is; else one is trained here, without a checkpoint.
    frozen: train nothing but the head; else everything is tuned.
    head: move the head, too, if both tasks have as many classes; `False` where these are others."""
    if trained is None:
        alone = settings | {"checkpoint": None, "validation": None, "patience": None}
        trained, _ = train_single_task(make, source, **alone)
    with own_randomness(settings.get("seed", 0)):
        model = make(target.n_classes)
    transfer_weights(trained, model, head)
    if frozen:
        model.requires_grad_(False).head.requires_grad_(True)
    return model, fit(model, target.train, **settings)


def mult(make: Callable, source: Task, target: Task, *, weight: float = 1.0,
         shared_head: bool = False, alternate: bool = False, trained: nn.Module | None = None,
         head: bool = True, **settings) -> tuple[nn.Module, Fit]:  # fmt: skip
    """MULT: train on both tasks at once, loss = target's + `weight` (lambda) x source's, each the
    mean over its texts in the batch. With `trained`, MULT+INIT: begin with that model's weights. An
    epoch has the batches of the target alone, each with `batch_size` texts of the source. (Mou et
    al. draw one task for each step, by chance; here lambda weighs the losses.)

    shared_head: both tasks use one head, for classes that mean the same; else each has its own.
    alternate: a step on the target, a step on the source, and so on; else mixed batches.
    trained, head: as in `init`."""
    if shared_head and source.n_classes != target.n_classes:
        raise ValueError(f"{source.n_classes} and {target.n_classes} classes cannot share a head")
    seed, size = settings.get("seed", 0), settings.setdefault("batch_size", 32)
    with own_randomness(seed):
        model = make(target.n_classes)  # drawn first, as for the target alone
        if not shared_head:
            other = (make(source.n_classes) if trained is None else trained).head
    if trained is not None:
        transfer_weights(trained, model, head)
    if not shared_head:
        model.head = TwoHeads(model.head, copy.deepcopy(other).requires_grad_(True))
    here, there = target.train, source.train
    labels = np.concatenate([here.labels, there.labels + target.n_classes])
    train = Encoded([*here.ids, *there.ids], labels)
    batches = JointBatches(here.lengths, there.lengths, size, size, alternate, seed)
    loss = joint_loss(target.n_classes, weight)
    fitted = fit(model, train, batches=batches, loss=loss, **settings)
    if not shared_head:
        model.head = model.head.target
    return model, fitted


def transfer_weights(trained: nn.Module, model: nn.Module, head: bool = True) -> list[str]:
    """Copy the weights of `trained`; the names of those left, the head's if it does not fit."""
    old, new = trained.state_dict(), model.state_dict()
    for name in sorted(old | new):
        one, other = (tuple(each[name].shape) if name in each else "missing" for each in (old, new))
        if one != other and not name.startswith("head."):
            raise ValueError(f"{name} is {one} in the trained model and {other} in the new one: "
                             "make both alike, on one vocabulary")  # fmt: skip
        head = head and one == other
    moved = {name: t for name, t in old.items() if head or not name.startswith("head.")}
    return model.load_state_dict(moved, strict=False).missing_keys


class TwoHeads(nn.Module):
    """Two heads on one body: the target's scores and, while training, the source's beside them."""

    def __init__(self, target: nn.Module, source: nn.Module):
        super().__init__()
        self.target, self.source = target, source

    def forward(self, features):
        scores = self.target(features)
        return torch.cat([scores, self.source(features)], -1) if self.training else scores


def joint_loss(n_target: int, weight: float) -> Callable:
    """Mean cross entropy of the target's texts + `weight` x that of the source's, whose labels are
    counted from `n_target`. Scores are `(batch, n_target + source classes)`, of a shared head
    `(batch, n_target)`. A batch may lack a task."""

    def loss(output, batch: dict) -> torch.Tensor:
        scores, labels = getattr(output, "logits", output), batch["labels"]
        source, parts = labels >= n_target, []
        if not source.all():
            parts.append(F.cross_entropy(scores[~source, :n_target], labels[~source]))
        if source.any():
            own = scores[source, n_target:] if scores.shape[1] > n_target else scores[source]
            parts.append(weight * F.cross_entropy(own, labels[source] - n_target))
        return sum(parts)

    return loss


class JointBatches(Sampler):
    """Batches over a target, rows 0 to n - 1, and a source, rows n and up, given their lengths. An
    epoch reads the target once, and for each of its batches `source_batch_size` texts of the
    source, in the same batch or, if they `alternate`, in one of their own; the next reads on."""

    def __init__(self, target, source, batch_size, source_batch_size, alternate=False, seed=0):
        self.target = LengthBatches(target, batch_size, shuffle=True, seed=seed)
        self.source = LengthBatches(source, source_batch_size, shuffle=True, seed=seed)
        self.alternate = alternate
        self.set_epoch = self.target.set_epoch

    def __len__(self) -> int:
        return len(self.target) * (1 + self.alternate)

    def __iter__(self) -> Iterator[list[int]]:
        size, n = self.source.batch_size, len(self.target.lengths)
        first = self.target.epoch * len(self.target) * size  # texts of the source that were read
        turn, skipped = divmod(first, len(self.source.lengths))
        rows = islice(self._source_from(turn), skipped, None)
        for batch in self.target:
            others = [n + row for row in islice(rows, size)]
            yield from [batch, others] if self.alternate else [batch + others]

    def _source_from(self, turn: int) -> Iterator[int]:
        for self.source.epoch in count(turn):  # readings of the source, without end
            yield from chain.from_iterable(self.source)

"""From a source task to a target task: INIT, MULT and MULT+INIT (Mou et al. 2016,
aclanthology.org/D16-1046), and training on one task alone, which is their control. Each returns a
model for the target and the `Fit` of its last stage. `make(n_classes)` gives a new model for `fit`
whose last step is `self.head`; all below transfers, so both tasks need one vocabulary. `settings`
are those of `fit`; `groups` and `callbacks` may be functions of the model, `seed` draws it, too."""

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

Make = Callable[[int], nn.Module]  # number of classes -> a new model


@dataclass(frozen=True)
class Task:
    """Labelled texts, one label each, from 0 to `n_classes - 1`. The validation set, if any, only
    selects the best epoch where a model is trained for *this* task."""

    train: Encoded
    n_classes: int
    validation: Encoded | None = None

    def __post_init__(self):
        for part in (self.train, self.validation):
            if part is not None:
                single = isinstance(part.labels, np.ndarray) and len(part)
                if not single or IGNORED in part.labels:
                    raise ValueError("a task needs texts with one label each, at least one text")
                check_labels("the labels", part.labels, self.n_classes)


def train_single_task(make: Make, task: Task, **settings) -> tuple[nn.Module, Fit]:
    """Train a new model on one task: the source stage of a transfer, and its control."""
    with own_randomness(settings.get("seed", 0)):
        model = make(task.n_classes)
    return model, _fit(model, task.train, task.validation, settings)


def init(
    make: Make,
    source: Task,
    target: Task,
    *,
    trained: nn.Module | None = None,
    frozen: bool = False,
    head: bool = True,
    **settings,
) -> tuple[nn.Module, Fit]:
    """INIT: train on the source, start from its weights on the target.

    trained: a model of the source, left as it is. Without it, the source stage runs here, with the
        same settings and a checkpoint of its own.
    frozen: train nothing but the head; else everything is tuned.
    head: move the head, too, if both tasks have as many classes; `False` where these are others.
    """
    if trained is None:
        file = settings.get("checkpoint")
        own = {"checkpoint": f"{file}.source"} if file else {}
        trained, _ = train_single_task(make, source, **settings | own)
    with own_randomness(settings.get("seed", 0)):
        model = make(target.n_classes)
    transfer_weights(trained, model, head)
    if frozen:
        model.requires_grad_(False).head.requires_grad_(True)
    return model, _fit(model, target.train, target.validation, settings)


def mult(
    make: Make,
    source: Task,
    target: Task,
    *,
    weight: float = 1.0,
    shared_head: bool = False,
    alternate: bool = False,
    source_batch_size: int | None = None,
    trained: nn.Module | None = None,
    head: bool = True,
    **settings,
) -> tuple[nn.Module, Fit]:
    """MULT: train on both tasks at once, loss = target's + `weight` (lambda) x source's, each the
    mean over its texts in the batch. With `trained`, MULT+INIT: begin with that model's weights. An
    epoch has the batches of the target alone, so equal epochs are equally many steps on it. (Mou et
    al. draw one task for each step, by chance; here lambda weighs the losses.)

    shared_head: both tasks use one head, for classes that mean the same; else each has its own.
    alternate: a step on the target, a step on the source, and so on; else mixed batches.
    source_batch_size: texts of the source for each batch of the target; by default as many.
    trained, head: as in `init`.
    """
    if shared_head and source.n_classes != target.n_classes:
        raise ValueError(f"{source.n_classes} and {target.n_classes} classes cannot share a head")
    if settings.keys() & {"batches", "loss"}:
        raise ValueError("mult makes batches and loss of its own: leave them out of the settings")
    seed, size = settings.get("seed", 0), settings.setdefault("batch_size", 32)
    with own_randomness(seed):
        model = make(target.n_classes)  # drawn first, as for the target alone
        if not shared_head:
            other = (make(source.n_classes) if trained is None else trained).head
    if trained is not None:
        transfer_weights(trained, model, head)
    if not shared_head:
        model.head = TwoHeads(model.head, copy.deepcopy(other).requires_grad_(True))
    both = target.train, source.train
    sizes = size, size if source_batch_size is None else source_batch_size
    settings["batches"] = JointBatches(*(part.lengths for part in both), *sizes, alternate, seed)
    settings["loss"] = joint_loss(target.n_classes, weight)
    labels = np.concatenate([target.train.labels, source.train.labels + target.n_classes])
    train = Encoded([ids for part in both for ids in part.ids], labels)
    fitted = _fit(model, train, target.validation, settings)
    if not shared_head:
        model.head = model.head.target
    return model, fitted


def _fit(model: nn.Module, train: Encoded, validation: Encoded | None, settings: dict) -> Fit:
    rows = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    highest = max(ids.max() for part in (train, validation) if part for ids in part.ids)
    if rows and highest >= max(rows):
        raise ValueError(f"word id {highest} is beyond the {max(rows)} rows of the embedding: "
                         "encode source and target with one vocabulary")  # fmt: skip
    made = {n: settings[n](model) for n in ("groups", "callbacks") if callable(settings.get(n))}
    return fit(model, train, validation, **settings | made)


def transfer_weights(trained: nn.Module, model: nn.Module, head: bool = True) -> list[str]:
    """Copy the weights of `trained` into `model`; the names of those left as they were: the head's,
    with `head=False` or another shape. Raises `ValueError` if anything below it differs."""
    old, new = trained.state_dict(), model.state_dict()
    shapes = [{name: tuple(t.shape) for name, t in state.items()} for state in (old, new)]
    for name in sorted(old | new):
        one, other = (each.get(name, "missing") for each in shapes)
        if one != other and not name.startswith("head."):
            raise ValueError(f"{name} is {one} in the trained model and {other} in the new one: "
                             "make both alike, on one vocabulary")  # fmt: skip
        head = head and one == other
    left = [] if head else [name for name in new if name.startswith("head.")]
    moved = {n: t for n, t in old.items() if head or not n.startswith("head.")}
    model.load_state_dict(moved, strict=False)
    return left


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
    """Batches over a target, rows 0 to n - 1, and a source, rows n and up, given their lengths.

    An epoch reads the target once, and for each of its batches `source_batch_size` texts of the
    source, in the same batch or, if they `alternate`, in one of their own; the next epoch reads on
    in the source. All depends only on `(seed, epoch)`.
    """

    def __init__(self, target, source, batch_size, source_batch_size, alternate=False, seed=0):
        self.target = LengthBatches(target, batch_size, shuffle=True, seed=seed)
        self.source = LengthBatches(source, source_batch_size, shuffle=True, seed=seed)
        self.alternate = alternate

    def set_epoch(self, epoch: int) -> None:
        self.target.set_epoch(epoch)

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
        for epoch in count(turn):  # readings of the source, without end
            self.source.set_epoch(epoch)
            yield from chain.from_iterable(self.source)

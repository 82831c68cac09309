"""What both training loops share: an update, the checkpoint that resumes a run, randomness."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Number
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from helpers.training.precision import choose, plain_accelerator


class Run:
    """A model, its optimizer, the learning-rate share of each step, and a checkpoint of them."""

    def __init__(self, model: nn.Module, optimizer, shares: Sequence[float], clip, precision: str):
        self.accelerator = plain_accelerator()
        self.device = self.accelerator.device
        self.precision = choose(precision, self.device)
        self.model, self.shares, self.clip = model, shares, clip
        self.lrs = [group["lr"] for group in optimizer.param_groups]
        optimizer.zero_grad()  # whatever the caller computed before
        self.wrapped, self.optimizer = self.accelerator.prepare(model, optimizer)

    def batches(self, data: Dataset, batches: Sampler) -> Iterator[tuple[dict, float]]:
        """An epoch's batches on the device, of which several processes read a part each, or one
        example for nothing; a loss times the factor beside it averages to the mean of its batch."""
        rank, n = self.accelerator.process_index, self.accelerator.num_processes
        whole = list(batches)
        mine = [rows[rank::n] or rows[:1] for rows in whole]
        loader = DataLoader(data, batch_sampler=mine, collate_fn=data.collate)
        for rows, batch in zip(whole, loader, strict=True):
            yield send_to_device(batch, self.device), n * len(rows[rank::n]) / len(rows)

    def update(self, step: int, loss: torch.Tensor) -> torch.Tensor:
        """Step `step` of the optimizer on the gradient of `loss`; the loss comes back detached."""
        for group, lr in zip(self.optimizer.param_groups, self.lrs, strict=True):
            group["lr"] = lr * self.shares[step]
        self.accelerator.backward(loss)
        if self.clip:
            self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def resume(self, file: str | Path | None, known, callbacks, others: Mapping) -> None:
        """Go back to where `save` wrote model, optimizer and the attributes of `known` to `file`.
        Raises `ValueError` for a damaged file, and where anything that shapes the result, `others`
        too, is not as it was then, naming what differs."""
        self.file, self.known = file, known
        names = [getattr(one, "__qualname__", type(one).__qualname__) for one in callbacks]
        self.settings = settings = self._settings({"callbacks": names, **others}) if file else {}
        if not file or not Path(file).exists():
            return
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            model, optimizer, before = (state[k] for k in ("model", "optimizer", "settings"))
            reached = [_short(weights) for weights in (model, state["known"].get("weights"))]
        except Exception as error:
            raise ValueError(f"{file} is damaged, or no checkpoint of a training run: "
                             "remove it, or name another file") from error  # fmt: skip
        if settings["starting weights"] in reached:  # this very model, further on
            settings["starting weights"] = before.get("starting weights")
        differ = []
        for name in {**before, **settings}:
            there, here = before.get(name), settings.get(name)
            readable = "sha256" not in f"{there} {here}"
            if there != here:
                differ.append(f"{name} {there} there, {here} here" if readable else f"other {name}")
        if differ:
            raise ValueError(f"{file} is from a run with other settings, remove it or name another "
                             f"file: {'; '.join(differ)}")  # fmt: skip
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        vars(known).update(state["known"])

    def _settings(self, others: Mapping) -> dict[str, str]:
        """In words, or by their hash."""
        groups = self.optimizer.param_groups
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        found = {"model": f"{self.model!r} {getattr(self.model, 'config', '')}",
                 "starting weights": self.model.state_dict(),
                 "optimizer": type(self.optimizer.optimizer).__name__,
                 "parameters": [[names.get(id(p)) for p in g["params"]] for g in groups],
                 "schedule": self.shares, "clip": self.clip, "precision": self.precision,
                 "processes": self.accelerator.num_processes, **others}  # fmt: skip
        options = {key for group in groups for key in group} - {"params", "name"}
        found |= {key: [group.get(key) for group in groups] for key in sorted(options)}
        return {name: _short(value) for name, value in found.items()}

    def save(self) -> None:
        """Write the checkpoint, if there is to be one; never half of it."""
        if not self.file or not self.accelerator.is_main_process:
            return
        state = {"settings": self.settings, "known": vars(self.known)}
        state |= {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        part = Path(f"{self.file}.{os.getpid()}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(state, part)
            os.replace(part, self.file)
        finally:
            part.unlink(missing_ok=True)


def _short(value) -> str:
    text = _describe(value)
    return text if len(text) < 80 else _describe(text.encode())


def _describe(value) -> str:
    """A value in words that are equal for equal values: plain ones as written, data by hash,
    functions by name with the plain values that they enclose, others by the name of their class."""
    if value is None or isinstance(value, (str, Number)):
        return repr(value.item() if isinstance(value, np.generic) else value)
    if isinstance(value, bytes):
        return f"sha256:{hashlib.sha256(value).hexdigest()[:16]}"
    if isinstance(value, torch.Tensor):
        raw = value.detach().cpu().reshape(-1).view(torch.uint8).numpy()
        return f"{value.dtype}{tuple(value.shape)} {_describe(raw.tobytes())}"
    if isinstance(value, np.ndarray) and value.dtype != object:
        return f"{value.dtype}{value.shape} {_describe(value.tobytes())}"
    if isinstance(value, (list, tuple, np.ndarray)):
        return f"[{', '.join(map(_describe, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}: {_describe(v)}' for k, v in value.items())}}}"
    if isinstance(value, partial):
        return _describe([value.func, value.args, value.keywords])
    if isinstance(value, (Dataset, Sampler)):
        parts = {name: part for name, part in vars(value).items() if name != "epoch"}
        return f"{type(value).__name__} {_describe(parts)}"
    name = getattr(value, "__qualname__", type(value).__qualname__)
    cells = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    plain = (str, Number, torch.Tensor, np.ndarray, tuple, Callable)
    cells = [c for c in cells if isinstance(c, plain) and not isinstance(c, nn.Module)]
    return f"{name}{_describe(cells) if cells else ''}"


def own_groups(model: nn.Module, groups, lr: float | None, default: float | None) -> list[dict]:
    """Copies of the caller's parameter groups, or one of all that is trainable; those without `lr`
    take `lr`, or `default`. Raises `ValueError` if `lr` is given, but each has its own."""
    if groups is None:
        groups = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    groups = [dict(group) for group in groups]
    if lr is not None and all("lr" in group for group in groups):
        raise ValueError(f"lr={lr:g} changes nothing: every parameter group has a learning rate of "
                         "its own, so leave lr out")  # fmt: skip
    lr = default if lr is None else lr
    return groups if lr is None else [{"lr": lr, **group} for group in groups]


@contextmanager
def own_randomness(seed: int | None = None) -> Iterator[None]:
    """Draw inside from `seed`, or seed freely; outside, the random state of every device stays."""
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            yield
        finally:
            if mps is not None:
                torch.mps.set_rng_state(mps)

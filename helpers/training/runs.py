"""What both training loops share: an update, the checkpoint that resumes a run, randomness."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from helpers.training.precision import choose


class Run:
    """A model, its optimizer, the learning-rate share of each step, and a checkpoint of them."""

    def __init__(self, model: nn.Module, optimizer, shares: Sequence[float], clip, precision: str):
        self.accelerator = Accelerator()
        self.accelerator.native_amp = False  # our own autocast decides, whatever Accelerate is told
        self.device = self.accelerator.device
        self.precision = choose(precision, self.device)
        self.model, self.shares, self.clip = model, shares, clip
        self.lrs = [group["lr"] for group in optimizer.param_groups]
        optimizer.zero_grad()  # whatever the caller computed before
        self.wrapped, self.optimizer = self.accelerator.prepare(model, optimizer)

    def batches(self, data: Dataset, batches: Sampler) -> Iterator[tuple[dict, float]]:
        """A process's part of each batch; a loss times the factor averages to its batch's mean, if
        the loss is a mean over rows (of one over tokens nearly)."""
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

    def resume(self, file: str | Path | None, known, others: Mapping) -> None:
        """Go back to where `save` wrote model, optimizer and `known`, if settings are as then."""
        self.file, self.known = file, known
        self.settings = settings = self._settings(others) if file else {}
        if not file or not Path(file).exists():
            return
        try:
            state = torch.load(file, map_location=self.device, weights_only=True)
            before, reached = state["settings"], [state["model"], state["known"].get("weights")]
            if settings["starting weights"] in map(_words, reached):  # this very model, further on
                settings["starting weights"] = before["starting weights"]
        except Exception as error:
            raise ValueError(f"{file} is damaged, or no checkpoint of a training run: "
                             "remove it, or name another file") from error  # fmt: skip
        differ = []
        for name, here in settings.items():
            told = f"{name} {before.get(name)} there, {here} here"
            if before.get(name) != here:
                differ.append(f"other {name}" if "sha256" in told else told)
        if differ:
            raise ValueError(f"{file} is from a run with other settings, remove it or name another "
                             f"file: {'; '.join(differ)}")  # fmt: skip
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        vars(known).update(state["known"])

    def _settings(self, others: Mapping) -> dict[str, str]:
        groups = self.optimizer.param_groups
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        configs = dict.fromkeys(str(getattr(m, "config", "")) for m in self.model.modules())
        found = {"model": f"{self.model!r} {[*configs]}",
                 "starting weights": self.model.state_dict(),
                 "optimizer": type(self.optimizer.optimizer).__name__,
                 "parameters": [[names.get(id(p)) for p in g["params"]] for g in groups],
                 "schedule": self.shares, "clip": self.clip, "precision": self.precision,
                 "processes": self.accelerator.num_processes, **others}  # fmt: skip
        options = [key for key in groups[0] if key not in ("params", "name")]
        found |= {key: [group.get(key) for group in groups] for key in options}
        return {name: _words(value) for name, value in found.items()}

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


def _words(value) -> str:
    """Words that are equal for equal values, or their hash if they are long."""
    text = json.dumps(value, default=_plain, skipkeys=True)
    short = len(text) < 80
    return repr(json.loads(text)) if short else f"sha256:{sha256(text.encode()).hexdigest()}"


def _plain(value):
    """For JSON: data by hash, functions with what they enclose and cannot grow, else the class."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().reshape(-1).view(torch.uint8).numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        if value.ndim == 0 or value.dtype == object:
            return value.tolist()
        return f"{value.dtype}{value.shape} sha256:{sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    name = getattr(value, "__qualname__", type(value).__qualname__)
    if isinstance(value, (Dataset, Sampler)):
        return [name, {key: part for key, part in vars(value).items() if key != "epoch"}]
    cells = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    fixed = [cell for cell in cells if not isinstance(cell, (list, dict, set))]
    return [name, fixed] if fixed else name


def own_groups(model: nn.Module, groups: Sequence[dict] | None, lr: float | None) -> list[dict]:
    """Copies of the groups, or one of all that is trainable; those without `lr` take `lr`."""
    if groups is None:
        groups = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    given = {} if lr is None else {"lr": lr}
    if given and all("lr" in group for group in groups):
        raise ValueError(f"lr={lr:g} changes nothing: every parameter group has a learning rate of "
                         "its own, so leave lr out")  # fmt: skip
    return [given | group for group in groups]


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

"""Training runs of an experiment: several at a time, each kept when it ends, so that a long
experiment goes on where it was stopped."""

import hashlib
import inspect
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import numpy as np

PACKAGE = Path(__file__).resolve().parents[1]
MOST = 8  # processes by default: each holds data and a model of its own


class FinishedRuns:
    """`runs(work, **key)` is `work(**key)`, a dict of numbers and arrays, worked out once. With a
    `folder` each result is a file there, for later processes, too. It counts for the same key,
    source of `work`, code of `helpers` and cells so far, and `settings` (what else shapes it).

    workers: how many runs `all` makes at the same time; 0: one a core, at most 8, and on a GPU
        one."""

    def __init__(self, folder: str | Path = "", workers: int = 0, **settings):
        self.folder, self.done = Path(folder) if folder else None, {}
        self.workers = workers
        code = [file.read_text("utf-8") for file in sorted(PACKAGE.rglob("*.py"))]
        cells = getattr(sys.modules.get("__main__"), "In", [])  # IPython's list
        base = json.dumps([code, cells, settings], default=str)
        self.base = hashlib.sha256(base.encode()).hexdigest()

    def __call__(self, work: Callable[..., dict], **key) -> dict:
        name = self._name(work, key)
        if name not in self.done and not self._found(name):
            self.done[name] = _made(self._file(name), work, key)
        return self.done[name]

    def all(self, work: Callable[..., dict], keys: Iterable[dict]) -> list[dict]:
        """`[runs(work, **key) for key in keys]`, several at the same time. Two runs of one thread
        each end sooner than one after the other in two threads. Give the longest first."""
        keys = list(keys)
        names = {self._name(work, key): key for key in keys}
        missing = [name for name in names if name not in self.done and not self._found(name)]
        workers = min(self.workers or _cores(), len(missing))
        if workers > 1:
            from joblib import Parallel, delayed, parallel_config

            from helpers.training.precision import choose

            precision = choose("auto", "cpu")  # measured here, once, where nothing else runs
            made = [delayed(_alone)(precision, self._file(n), work, names[n]) for n in missing]
            with parallel_config("loky", inner_max_num_threads=1):
                self.done |= zip(missing, Parallel(n_jobs=workers)(made), strict=True)
        return [self(work, **key) for key in keys]

    def _name(self, work: Callable, key: dict) -> str:
        name = json.dumps([self.base, inspect.getsource(work), key], sort_keys=True)
        return hashlib.sha256(name.encode()).hexdigest()[:32]

    def _file(self, name: str) -> Path | None:
        return self.folder / f"{name}.npz" if self.folder else None

    def _found(self, name: str) -> bool:
        """Whether a file has the result, which is then at hand; not if missing or damaged."""
        try:
            with np.load(self._file(name) or "", allow_pickle=False) as stored:
                found = {key: value[()] for key, value in stored.items()}  # a number as a number
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return False
        self.done[name] = found
        return True


def _cores() -> int:
    import torch
    from joblib import cpu_count  # those that this process may use

    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return 1 if gpu else min(cpu_count(), MOST)


def _alone(precision: str, file: Path | None, work: Callable[..., dict], key: dict) -> dict:
    """A run in a process of its own: in the precision of the others, its progress bar unseen."""
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if precision == "bf16" else "no"
    with redirect_stderr(StringIO()):
        return _made(file, work, key)


def _made(file: Path | None, work: Callable[..., dict], key: dict) -> dict:
    """The result of the work, which is then in `file`, too."""
    made = work(**key)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as stream:
            np.savez(stream, **made)
        os.replace(part, file)  # a kill leaves a whole file or none
    return made

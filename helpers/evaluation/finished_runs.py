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
from tqdm.auto import tqdm

PACKAGE = Path(__file__).resolve().parents[1]
MOST = 8  # processes: each holds data and a model of its own


class FinishedRuns:
    """`runs(work, **key)` is `work(**key)`, a dict of numbers and arrays, worked out once. With a
    `folder` each result is a file there, for later processes, too. It counts for the same key,
    source of `work`, code of `helpers` and cells so far, and `settings` (what else shapes it).
    A cell that ran again, or all of them, counts once.

    workers: how many runs `all` makes at the same time, at most 8; 0: as many as there are
        threads, and on a GPU one."""

    def __init__(self, folder: str | Path = "", workers: int = 0, **settings):
        self.folder, self.done = Path(folder) if folder else None, {}
        self.workers = workers
        code = [file.read_text("utf-8") for file in sorted(PACKAGE.rglob("*.py"))]
        base = json.dumps([code, _cells(), settings], default=str)
        self.base = hashlib.sha256(base.encode()).hexdigest()

    def __call__(self, work: Callable[..., dict], **key) -> dict:
        name = self._name(work, key)
        if name not in self.done and not self._found(name):
            self.done[name] = _made(self._file(name), work, key)
        return self.done[name]

    def all(self, work: Callable[..., dict], keys: Iterable[dict]) -> list[dict]:
        """`[runs(work, **key) for key in keys]`, several at the same time, which share out the
        threads: two runs of one thread each end sooner than one after the other in two. Give the
        longest first."""
        keys = list(keys)
        names = {self._name(work, key): key for key in keys}
        missing = [name for name in names if name not in self.done and not self._found(name)]
        threads = _threads()
        workers = min(self.workers or threads, MOST, len(names))
        if workers > 1 and missing:  # even one: threads shape the last bits of a result
            from joblib import Parallel, delayed, parallel_config

            from helpers.training.precision import choose

            precision = choose("auto", "cpu")  # measured here, once, where nothing else runs
            tasks = [delayed(_alone)(precision, self._file(n), work, names[n]) for n in missing]
            with parallel_config("loky", inner_max_num_threads=max(1, threads // workers)):
                results = Parallel(n_jobs=workers, return_as="generator")(tasks)
                results = tqdm(results, total=len(tasks), unit="run", leave=False)
                self.done |= zip(missing, results, strict=True)
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


def _cells() -> list[str]:
    """The cells of a notebook since its first one ran last, each where it ran last."""
    ran = getattr(sys.modules.get("__main__"), "In", [])[1:]  # IPython's list, its first empty
    since = max((i for i, cell in enumerate(ran) if cell == ran[0]), default=0)
    return list(reversed(dict.fromkeys(reversed(ran[since:]))))


def _threads() -> int:
    """The threads of this process, to share out among others; on a GPU all runs stay here."""
    import torch

    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return 1 if gpu else torch.get_num_threads()


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

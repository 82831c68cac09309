"""Finished training runs, kept one by one: a long experiment goes on where it was stopped."""

import hashlib
import inspect
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import helpers

PACKAGE = Path(helpers.__file__).parent


class FinishedRuns:
    """`runs(work, **key)` is `work(**key)`, a dict of numbers and arrays, worked out once.

    With a `folder` each result is a file there, and a later process reads it. It counts only for
    the same key, the same source of `work`, the same code of `helpers` and, in a notebook, of the
    cells so far, and the same `settings`: what else shapes a result, such as the texts.
    """

    def __init__(self, folder: str | Path = "", **settings):
        self.folder, self.done = Path(folder) if folder else None, {}
        code = [file.read_text("utf-8") for file in sorted(PACKAGE.rglob("*.py"))]
        cells = getattr(sys.modules.get("__main__"), "In", [])  # IPython's list
        base = json.dumps([code, cells, settings], default=str)
        self.base = hashlib.sha256(base.encode()).hexdigest()

    def __call__(self, work: Callable[..., dict], **key) -> dict:
        name = json.dumps([self.base, inspect.getsource(work), key], sort_keys=True)
        name = hashlib.sha256(name.encode()).hexdigest()[:32]
        if name not in self.done:
            file = self.folder / f"{name}.npz" if self.folder else None
            found = _read(file) if file else None
            self.done[name] = work(**key) if found is None else found
            if file and found is None:
                _write(file, self.done[name])
        return self.done[name]


def _read(file: Path) -> dict | None:
    """What is in a file; None where it is missing or damaged, then the run is made anew."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {key: value[()] for key, value in stored.items()}  # a number as a number
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _write(file: Path, result: dict) -> None:
    """In one step: a kill leaves a whole file or none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as stream:
        np.savez(stream, **result)
    os.replace(part, file)

"""Models that the series trained itself: `data/checkpoints`, in a checkout and in an installation.

A checkpoint is two files beside each other, NAME.safetensors with the weights and NAME.json with
what they belong to and how they were made. It goes by its name from any folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

SUFFIXES = (".json", ".safetensors")


def folder() -> Path:
    """Where the series' own checkpoints are."""
    here = Path(__file__).resolve().parents[1]  # the package
    installed = here / "_checkpoints"  # a wheel has them inside the package
    return installed if installed.is_dir() else here.parent / "data" / "checkpoints"


def names() -> list[str]:
    """The series' checkpoints that are there, both files."""
    stems = sorted(file.with_suffix("") for file in folder().glob(f"*{SUFFIXES[0]}"))
    return [stem.name for stem in stems if not _missing(stem)]


def place(name: str | Path) -> Path:
    """Path without ending, to save to or load from: a plain name stands for a checkpoint of the
    series; what has a folder in it is a path of yours."""
    path = Path(name).expanduser()
    path = path.with_suffix("") if path.suffix in SUFFIXES else path
    return folder() / path if len(path.parts) == 1 else path


def find(name: str | Path) -> Path:
    """`place` of a checkpoint that is there. Raises `FileNotFoundError` where a file is missing."""
    stem = place(name)
    if missing := _missing(stem):
        there = ", ".join(names()) or "no others"
        raise FileNotFoundError(
            f"The checkpoint {str(name)!r} lacks {' and '.join(missing)} in {stem.parent}; the "
            f"series has {there}, and a run with pretrain=True makes the one of its notebook."
        )
    return stem


def write(name: str | Path, kind: str, weights: Mapping, facts: Mapping) -> None:
    """Write both files of a checkpoint: `weights` (name -> tensor) in half precision, and `facts`,
    which JSON can hold, beside the `kind` of model. `name` as `place` takes it."""
    from safetensors.torch import save_file  # PyTorch is slow to import, the runner needs none

    stem = place(name)
    stem.parent.mkdir(parents=True, exist_ok=True)
    halves = {key: tensor.detach().cpu().half().contiguous() for key, tensor in weights.items()}
    save_file(halves, f"{stem}.safetensors.part")
    text = json.dumps({"kind": kind, **facts}, ensure_ascii=False, indent=1)
    Path(f"{stem}.json.part").write_text(text + "\n", encoding="utf-8")
    for suffix in SUFFIXES:  # both are whole before either takes its place
        os.replace(f"{stem}{suffix}.part", f"{stem}{suffix}")


def read(name: str | Path, kind: str) -> tuple[dict, dict]:
    """Facts and weights (float32) of what `write` wrote. Raises `ValueError` for another kind."""
    from safetensors.torch import load_file

    stem = find(name)
    facts = json.loads(Path(f"{stem}.json").read_text(encoding="utf-8"))
    found = facts.get("kind") if isinstance(facts, dict) else None
    if found != kind:
        raise ValueError(f"{stem}.json describes a model of kind {found!r}, not {kind!r}")
    weights = load_file(f"{stem}.safetensors")
    return facts, {key: tensor.float() for key, tensor in weights.items()}


def fill(model, weights: Mapping, where: str):
    """The model (an `nn.Module`) with these weights, in evaluation mode. Raises `ValueError`, a
    sentence about `where`, if a tensor is missing, of another size, or one too many."""
    wanted = model.state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        ours, theirs = wanted.get(name), weights.get(name)
        if theirs is None:
            raise ValueError(f"{where} has no {name}")
        if ours is None:
            raise ValueError(f"{where} has {name}, which this model lacks")
        if ours.shape != theirs.shape:
            sizes = f"{tuple(theirs.shape)}, but should be {tuple(ours.shape)}"
            raise ValueError(f"{where}: {name} is {sizes}")
    model.load_state_dict(weights)
    return model.eval()


def digest(name: str) -> str:
    """SHA-256 of both files of one of `names`."""
    files = (folder() / f"{name}{suffix}" for suffix in SUFFIXES)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _missing(stem: Path) -> list[str]:
    files = (Path(f"{stem}{suffix}") for suffix in SUFFIXES)
    return [file.name for file in files if not file.is_file()]

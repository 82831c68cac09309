"""Models that the series trained itself: `data/checkpoints`, in a checkout and in an installation.

A checkpoint is two files beside each other, NAME.safetensors with the weights and NAME.json with
what they belong to and how they were made. It goes by its name from any folder.
"""

import hashlib
from pathlib import Path

SUFFIXES = (".json", ".safetensors")


def folder() -> Path:
    """Where the series' own checkpoints are."""
    here = Path(__file__).resolve().parent
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


def digest(name: str) -> str:
    """SHA-256 of both files of one of `names`."""
    files = (folder() / f"{name}{suffix}" for suffix in SUFFIXES)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _missing(stem: Path) -> list[str]:
    files = (Path(f"{stem}{suffix}") for suffix in SUFFIXES)
    return [file.name for file in files if not file.is_file()]

"""Folders of the cache: made beside their place, under a lock, moved there whole, then verified."""

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

MANIFEST = ".manifest.json"


class AssetError(RuntimeError):
    """An asset is unknown or cannot be had; the message is one sentence with the mend."""


def cache_folder() -> Path:
    """$NLP_TRANSFER_CACHE, else nlp-transfer-notebooks in $XDG_CACHE_HOME, else in ~/.cache."""
    if own := os.environ.get("NLP_TRANSFER_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nlp-transfer-notebooks"


def derived(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The cached folder of files that `make(folder)` writes once; made again if damaged.

    `recipe` says all that shapes the files (pins, settings, the code's version): its hash keeps
    versions apart. Raises `AssetError` if the cache is full or not writable.
    """
    folder = cache_folder() / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    if not intact(folder):
        place(folder, name, lambda staging: make(staging / "members"))
    return folder


def place(folder: Path, name: str, make: Callable[[Path], None], room: str = "some room") -> None:
    """Put what `make(staging)` writes to staging/members at `folder`, whole or not at all."""
    part = f".{folder.name}.part-"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f".{folder.name}.lock")
        try:
            held = lock.acquire(timeout=1)
        except Timeout:
            print(f"{name}: another process is making it; waiting", file=sys.stderr)
            held = lock.acquire()
        with held:
            if intact(folder, every_byte=True):  # the other process has brought it
                return
            for leftover in folder.parent.glob(part + "*"):  # of a run that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            options = {"dir": folder.parent, "ignore_cleanup_errors": True}
            with tempfile.TemporaryDirectory(prefix=part, **options) as staging:
                members = Path(staging, "members")
                members.mkdir()
                make(Path(staging))
                seal(members)
                if folder.exists():
                    os.replace(folder, Path(staging, "damaged"))
                os.replace(members, folder)
    except OSError as error:
        full = errno.errorcode.get(error.errno) in ("ENOSPC", "EDQUOT")
        raise AssetError(
            f"Cannot write {name} to {folder.parent} ({error.strerror or error}): "
            f"{f'free {room} there, or ' if full else ''}set NLP_TRANSFER_CACHE to a folder that "
            "has room and that you may write to."
        ) from error


def sha256(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _stamp(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def seal(folder: Path) -> None:
    """Write the manifest of all files in `folder`: member -> SHA-256 and stamp (size and times)."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    manifest = {file.relative_to(folder).as_posix(): [sha256(file), _stamp(file)] for file in files}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def intact(folder: Path, every_byte: bool = False) -> bool:
    """Whether `folder` holds what its manifest says.

    A member with its old size and times counts as unchanged, unless `every_byte` is to be read.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        fresh = {member: [kept[0], _stamp(folder / member)] for member, kept in manifest.items()}
        for member, (hashed, _) in manifest.items():
            doubtful = every_byte or fresh[member] != manifest[member]
            if doubtful and sha256(folder / member) != hashed:
                return False
        if fresh != manifest:
            with suppress(OSError):  # a read-only cache serves as well, only slower
                draft = folder / f"{MANIFEST}.{os.getpid()}"
                draft.write_text(json.dumps(fresh))
                os.replace(draft, folder / MANIFEST)
        return bool(manifest)
    except (OSError, ValueError, TypeError, AttributeError):
        return False

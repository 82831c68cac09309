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

MANIFEST = ".manifest.json"  # member -> SHA-256 and stamp (size and times)


class AssetError(RuntimeError):
    """An asset is unknown or cannot be had; the message is one sentence with the mend."""


def cache_folder() -> Path:
    """$NLP_TRANSFER_CACHE, else nlp-transfer-notebooks in $XDG_CACHE_HOME, else in ~/.cache."""
    if own := os.environ.get("NLP_TRANSFER_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nlp-transfer-notebooks"


def derived(name: str, recipe: str, make: Callable[[Path], None]) -> Path:
    """The cached folder of files that `make(folder)` writes once; made again if damaged. `recipe`
    says all that shapes the files (pins, settings, the code's version): its hash keeps versions
    apart. Raises `AssetError` if the cache is full or not writable."""
    key = hashlib.sha256(recipe.encode()).hexdigest()[:8]
    return place(cache_folder() / f"{name}-{key}", name, make)


def place(folder: Path, name: str, make: Callable[[Path], None], every_byte: bool = False) -> Path:
    """`folder`, filled by `make(members)` as a whole or not at all unless it is intact."""
    if intact(folder, every_byte):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f".{folder.name}.lock")
        try:
            held = lock.acquire(timeout=1)
        except Timeout:
            print(f"{name}: another process is making it; waiting", file=sys.stderr)
            held = lock.acquire()
        with held:
            if not intact(folder, every_byte=True):  # no other process has brought it
                _replace(folder, make)
    except OSError as error:
        full = errno.errorcode.get(error.errno) in ("ENOSPC", "EDQUOT")
        raise AssetError(
            f"Cannot write {name} to {folder.parent} ({error.strerror or error}): "
            f"{'free some room there, or ' if full else ''}set NLP_TRANSFER_CACHE to a folder that "
            "has room and that you may write to."
        ) from error
    return folder


def _replace(folder: Path, make: Callable[[Path], None]) -> None:
    part = f".{folder.name}.part-"
    for leftover in folder.parent.glob(part + "*"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    options = {"dir": folder.parent, "ignore_cleanup_errors": True}
    with tempfile.TemporaryDirectory(prefix=part, **options) as staging:
        members = Path(staging, "members")
        members.mkdir()
        make(members)
        seal(members)
        if folder.exists():
            os.replace(folder, Path(staging, "damaged"))
        os.replace(members, folder)


def seal(folder: Path, hashes: dict[str, str] | None = None) -> None:
    """Write the manifest of all files in `folder`, or of those whose SHA-256 is known."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    hashes = hashes or {file.relative_to(folder).as_posix(): _sha256(file) for file in files}
    manifest = {member: [known, _stamp(folder / member)] for member, known in hashes.items()}
    draft = folder / f"{MANIFEST}.{os.getpid()}"
    draft.write_text(json.dumps(manifest))
    os.replace(draft, folder / MANIFEST)


def _sha256(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _stamp(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def intact(folder: Path, every_byte: bool = False) -> bool:
    """Whether `folder` holds what its manifest says, judged by sizes and times or `every_byte`."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        changed = [m for m, (_, stamp) in manifest.items() if stamp != _stamp(folder / m)]
        doubtful = manifest if every_byte else changed
        if any(_sha256(folder / member) != manifest[member][0] for member in doubtful):
            return False
        if changed:
            with suppress(OSError):  # a read-only cache serves as well, only slower
                seal(folder, {member: known for member, (known, _) in manifest.items()})
        return bool(manifest)
    except (OSError, ValueError, TypeError, AttributeError):
        return False

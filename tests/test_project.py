"""The three descriptions of the environment say the same, and so do the two commands."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import (
    PackageNotFoundError,
    distribution,
    packages_distributions,
    version,
)
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DEPENDENCIES = [*PROJECT["dependencies"], *(text for texts in EXTRAS.values() for text in texts)]
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = {canonicalize_name(name): pin for name, _, pin in (line.partition("==") for line in LINES)}
PYTHONS_OWN = {"pip"}  # comes with the Python that makes the environment


def test_constraints_are_exact_and_of_no_particular_machine():
    odd = [line for line in LINES if not re.fullmatch(r"[\w.-]+==\d[\w.]*", line)]
    assert not odd, "one name==version a line, without +local versions, links or markers"
    assert len(PINS) == len(LINES), "a package is pinned twice"


@pytest.mark.parametrize("text", DEPENDENCIES)
def test_every_dependency_is_pinned_within_its_bounds(text):
    wanted = Requirement(text)
    if wanted.name not in PYTHONS_OWN:
        assert wanted.specifier.contains(PINS[canonicalize_name(wanted.name)])


def closure(requirements) -> set[str]:
    """Names of all that the requirements bring with them here."""
    found, todo = set(), [(Requirement(text), "") for text in requirements]
    while todo:
        wanted, extra = todo.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        fresh = {(canonicalize_name(wanted.name), e) for e in {"", *wanted.extras}} - found
        found |= fresh
        for name, extra in fresh:
            todo += [(Requirement(text), extra) for text in distribution(name).requires or []]
    return {name for name, _ in found}


def test_all_that_is_installed_with_the_series_is_pinned_and_nothing_else():
    gpu = re.compile(r"nvidia-|cuda-|triton")  # these follow from torch, which pins them itself
    brought = {name for name in closure(DEPENDENCIES) if not gpu.match(name)} - PYTHONS_OWN
    assert brought - PINS.keys() == set(), "installed, but not in constraints.txt"
    if sys.version_info[:2] == (3, 11):
        assert PINS.keys() - brought == set(), "in constraints.txt, but nobody wants it"


distributions = cache(packages_distributions)


def imported(file: Path) -> tuple[set[str], set[tuple[str, str]]]:
    """Distributions that a module imports at import time, and what it asks `require` for."""
    tree, found = ast.parse(file.read_text(encoding="utf-8")), set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
    roots = {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names) - {"helpers"}
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    calls = [call for call in calls if getattr(call.func, "id", "") == "require"]
    asked = {tuple(argument.value for argument in call.args) for call in calls}
    return {canonicalize_name(distributions()[root][0]) for root in roots}, asked


@pytest.mark.parametrize("room", sorted(p.parent.name for p in ROOT.glob("helpers/*/__init__.py")))
def test_a_room_imports_only_what_its_installation_brings(room):
    brought = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    if room == "series":
        brought |= {canonicalize_name(Requirement(text).name) for text in EXTRAS["series"]}
    for file in (ROOT / "helpers" / room).glob("*.py"):
        needed, asked = imported(file)
        assert needed <= brought, file
        for module, extra in asked:
            assert module in {Requirement(text).name for text in EXTRAS[extra]}, file


@pytest.mark.parametrize(
    ("module", "extra", "use"),
    [
        ("h5py", "elmo", "from helpers.models import elmo; elmo.official_weights('x', None)"),
        ("papermill", "series", "from helpers.__main__ import main; main(['run'])"),
    ],
)
def test_what_an_extra_brings_is_asked_for_in_a_sentence(module, extra, use):
    code = f"import sys; sys.modules[{module!r}] = None; {use}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    wanted = f"{module} is not installed: pip install 'nlp-transfer-notebooks[{extra}]'"
    assert wanted in done.stderr.splitlines()[-1]


def test_the_licence_is_there():
    assert PROJECT["license"] == "MIT"
    (file,) = PROJECT["license-files"]
    text = (ROOT / file).read_text()
    assert text.startswith(
        "MIT License\n\nCopyright (c) 2026 the contributors of Transfer learning"
    )


def test_this_environment_is_the_tested_one():
    try:
        other = {n: version(n) for n in PINS if version(n).partition("+")[0] != PINS[n]}
    except PackageNotFoundError as missing:
        other = {missing.name: "not installed"}
    assert not other, "run make again: constraints.txt has other versions"


def test_conda_users_get_the_same():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (by_pip,) = [entry["pip"] for entry in conda if isinstance(entry, dict)]
    constraint, editable = by_pip
    assert constraint == "--constraint constraints.txt"
    extras = re.fullmatch(r"--editable \.\[(.+)\]", editable)[1]
    assert set(extras.split(",")) == set(EXTRAS)
    (python,) = [entry.partition("=")[2] for entry in conda if str(entry).startswith("python=")]
    assert python == PROJECT["requires-python"].removeprefix(">=")
    make = (ROOT / "Makefile").read_text().replace("\\\n", "")
    command = rf"pip install .*--constraint constraints.txt +--editable '\.\[{extras}\]'"
    assert re.search(command, make)
    minimum = tuple(int(part) for part in python.split("."))
    assert f"sys.version_info < {minimum}" in make


def make(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_ci_runs_the_test_command():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "exec make test"
    shown = make("--dry-run", "test").stdout
    assert all(word in shown for word in ("ruff check", "ruff format --check", "pytest"))
    assert shown.index("ruff check") < shown.index("ruff format") < shown.index("-m pytest")


def test_an_old_python_is_refused_in_a_sentence(tmp_path):
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / file).write_text((ROOT / file).read_text())
    command = ["make", "-C", str(tmp_path), "notebooks", f"PYTHON={old}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stdout
    assert "make PYTHON=python3.12 notebooks" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_every_target_of_the_help_exists():
    targets = re.findall(r"^make (\w+)", make("help").stdout, re.MULTILINE)
    assert targets[:2] == ["notebooks", "test"]
    for target in targets:
        assert make("--dry-run", target).returncode == 0

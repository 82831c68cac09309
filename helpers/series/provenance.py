"""What made outputs and records: facts kept with them, and digests of what there is now."""

import hashlib
import io
import json
import os
import re
import subprocess
import tempfile
import tokenize
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nbformat

from helpers import assets
from helpers.evaluation import records
from helpers.models import checkpoints
from helpers.series.parameters import ROOT, rows

ASIDE = ("helpers/series/", "helpers/exercises/", "helpers/__main__.py")  # no part in results


def write(file: Path, text: str) -> None:
    """Write a file in one step: a kill leaves the old one or the new one, never half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=file.parent) as part:
        Path(part, "new").write_text(text, encoding="utf-8")
        os.replace(Path(part, "new"), file)


def git(root: Path, *arguments: str) -> str:
    """What a git command prints; "" where git or the repository is missing."""
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(root), *arguments]
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()
    return ""


def digest(value) -> str:
    """A short name for a value that fits into JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def code(root: Path = ROOT) -> dict[str, bytes]:
    """Path -> content of the modules of `helpers` that results depend on."""
    files = {file.relative_to(root).as_posix(): file for file in (root / "helpers").rglob("*.py")}
    own = [path for path in files if not path.startswith(ASIDE)]
    return {path: files[path].read_bytes().replace(b"\r\n", b"\n") for path in own}


def bare(node) -> list[str]:
    """The code of a notebook (an nbformat node), a text a cell, without comments, blank lines and
    what papermill put in."""
    found, cells = [], [cell for cell in node.cells if cell.cell_type == "code"]
    for cell in (c for c in cells if "injected-parameters" not in c.metadata.get("tags", [])):
        lines, comments = cell.source.splitlines(), []
        with suppress(tokenize.TokenError, SyntaxError):  # not Python alone: comments stay
            tokens = list(tokenize.generate_tokens(io.StringIO(cell.source).readline))
            comments = [token.start for token in tokens if token.type == tokenize.COMMENT]
        for row, column in comments:
            lines[row - 1] = lines[row - 1][:column]
        found.append("\n".join(line.rstrip() for line in lines if line.strip()))
    return found


def _quoted(node, root: Path) -> set[str]:
    """Names in quotes, in the notebook's code and in functions of helpers that it calls by name."""
    text = "\n".join(bare(node))
    called = set(re.findall(r"\w+", text))
    for module in code(root).values():
        module = re.sub(r'""".*?"""', "", module.decode(), flags=re.DOTALL)
        parts = re.split(r"^(?:def|class) (\w+)", module, flags=re.MULTILINE)[1:]
        text += "".join(parts[i + 1] for i in range(0, len(parts), 2) if parts[i] in called)
    return set(re.findall(r"""["']([\w.-]+)["']""", text))


def stamp(node, root: Path = ROOT) -> dict:
    """Digests of all that a notebook runs on, and the versions of the libraries. Its `cells` are
    its own code, and its rows in data/sizes.toml: those of the number in its title, `# 03 · …`."""
    texts, pins = _quoted(node, root), {}
    for asset in assets.catalogue().values():
        if texts & {asset.name, *asset.provides}:
            pin = asset.package, asset.version, asset.file, asset.sha256, asset.archive
            pins[asset.name] = digest([*pin, asset.root, asset.members])
    title = re.match(r"# (\d\d) ", "".join(cell.source for cell in node.cells[:1]))
    sizes = rows(root).get(title[1]) if title else None
    blobs = {path: b"blob %d\0" % len(text) + text for path, text in code(root).items()}  # as git
    blobs = {path: hashlib.sha1(blob).hexdigest() for path, blob in blobs.items()}
    return {
        "cells": digest([*bare(node), *([sizes] if sizes else [])]),
        "helpers": digest(blobs),
        "assets": pins,
        "checkpoints": {n: checkpoints.digest(n)[:16] for n in checkpoints.names() if n in texts},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Those of the libraries that are installed; imports none."""
    found = {}
    for name in records.PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def facts(made_of: dict, root: Path = ROOT, machine: dict | None = None) -> dict:
    """A stamp with the hour, the machine (None: this one) and the state of the repository."""
    changed = git(root, "status", "--porcelain", "--untracked-files=no", "--", "helpers", "data")
    state = {"commit": git(root, "rev-parse", "HEAD"), "dirty": bool(changed)}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return state | {"date": date, "machine": machine or records.machine()} | made_of


def keep(file: Path, facts: dict) -> None:
    """Write facts into the metadata of a notebook, or before the records in a file."""
    if file.suffix == ".ipynb":
        node = nbformat.read(file, 4)
        node.metadata["run"] = facts
        return write(file, nbformat.writes(node) + "\n")
    lines = [r for r in file.read_text("utf-8").split("\n") if not r.startswith('{"facts"')]
    write(file, "\n".join([json.dumps({"facts": facts}), *lines]))


def kept(notebook: Path, root: Path = ROOT) -> dict[Path, dict]:
    """The notebook and its files of records -> their facts."""
    files = sorted((root / "data" / "records").glob(f"{notebook.stem}.*jsonl"))
    own = nbformat.read(notebook, 4).metadata.get("run", {})
    return {notebook: own} | {file: records.facts(file) for file in files}


def changes(kept: dict, now: dict, root: Path = ROOT) -> list[str]:
    """What differs between a stamp of `now` and the facts `kept`, or the last proof in them. Of the
    libraries those count that constraints.txt pins otherwise, whatever is installed."""
    then = kept | kept.get("verified", {})
    found = [kind for kind in ("cells", "helpers") if then.get(kind) != now[kind]]
    for kind in ("assets", "checkpoints"):
        differ = {name for name, _ in then.get(kind, {}).items() ^ now[kind].items()}
        found += [f"{name} ({kind})" for name in sorted(differ)]
    file, versions = root / "constraints.txt", then.get("versions", {})
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        name, _, pin = line.partition("==")
        if (had := versions.get(name, pin)).partition("+")[0] != pin:
            found.append(f"{name} {had} (now {pin})")
    return found

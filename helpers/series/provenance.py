"""What made outputs and records: facts kept beside them, and digests of what there is now."""

import hashlib
import io
import json
import re
import subprocess
import tokenize
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from helpers import assets
from helpers.evaluation.records import PACKAGES
from helpers.models import checkpoints
from helpers.series import parameters

ROOT = Path(__file__).resolve().parents[2]
# What runs and checks notebooks and takes no part in their results
ASIDE = ("helpers/series/", "helpers/exercises/", "helpers/__main__.py")


def git(root: Path, *arguments: str) -> str:
    """What a git command prints; "" where git or the repository is missing."""
    command = ["git", "-C", str(root), *arguments]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, encoding="utf-8").stdout.strip()
    return ""


def code_digest(root: Path = ROOT, commit: str = "") -> str:
    """Content hash of the .py files of `helpers` but for `ASIDE`, of the tree or of a commit."""
    lines = git(root, "ls-tree", "-r", commit, "helpers/").splitlines() if commit else []
    blobs = {line.partition("\t")[2]: line.split()[2] for line in lines}
    for file in (root / "helpers").rglob("*.py") if not commit else ():
        text = file.read_bytes().replace(b"\r\n", b"\n")
        blob = hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest()  # as git counts
        blobs[file.relative_to(root).as_posix()] = blob
    own = (path for path in blobs if path.endswith(".py") and not path.startswith(ASIDE))
    return _digest({path: blobs[path] for path in own})


def cells_digest(node, root: Path = ROOT) -> str:
    """Digest of a notebook's own code (an nbformat node) without comments and blank lines, and of
    its rows in data/sizes.toml: those of the number in its title, as in `# 03 · …`."""
    title = re.match(r"# (\d\d) ", "".join(cell.source for cell in node.cells[:1]))
    sizes = parameters.rows(root).get(title[1]) if title else None
    return _digest([*map(_bare, _own(node)), *([sizes] if sizes else [])])


def stamp(node, root: Path = ROOT) -> dict:
    """Digests of all that a notebook runs on, and the versions of the libraries."""
    texts, pins, versions = _quoted(node, root), {}, {}
    for asset in assets.catalogue().values():
        if texts & {asset.name, *asset.provides}:
            pin = asset.package, asset.version, asset.file, asset.sha256, asset.archive
            pins[asset.name] = _digest([*pin, asset.root, asset.members])
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # of an extra that is not installed
            versions[name] = version(name)
    trained = {name: checkpoints.digest(name)[:16] for name in checkpoints.names() if name in texts}
    made_of = {"cells": cells_digest(node, root), "helpers": code_digest(root)}
    return made_of | {"assets": pins, "checkpoints": trained, "versions": versions}


def facts(made_of: dict, machine: dict, root: Path = ROOT) -> dict:
    """A stamp with the hour, the state of the repository and the `machine` (as of a record)."""
    changed = git(root, "status", "--porcelain", "--untracked-files=no", "--", "helpers", "data")
    facts = {"commit": git(root, "rev-parse", "HEAD"), "dirty": bool(changed)}
    facts |= {"date": datetime.now(UTC).isoformat(timespec="seconds")}
    return facts | {"machine": {k: v for k, v in machine.items() if k not in PACKAGES}} | made_of


def changes(kept: dict, now: dict, root: Path = ROOT) -> list[str]:
    """What differs between a stamp of `now` and the facts `kept`, or the last proof in them.

    Of the libraries those count that constraints.txt pins otherwise, whatever is installed.
    """
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


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _own(node) -> list[str]:
    """A notebook's code cells, without what papermill put in."""
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    return [c.source for c in code if "injected-parameters" not in c.metadata.get("tags", [])]


def _bare(source: str) -> str:
    lines, comments = source.splitlines(), []
    with suppress(tokenize.TokenError, SyntaxError):  # not Python alone: comments stay
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
        comments = [token.start for token in tokens if token.type == tokenize.COMMENT]
    for row, column in comments:
        lines[row - 1] = lines[row - 1][:column]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _quoted(node, root: Path) -> set[str]:
    """Names in quotes, in the notebook's code and in functions of helpers that it calls by name."""
    code = "\n".join(map(_bare, _own(node)))
    called = set(re.findall(r"\w+", code))
    files = {file.relative_to(root).as_posix(): file for file in (root / "helpers").rglob("*.py")}
    for file in (file for path, file in files.items() if not path.startswith(ASIDE)):
        text = re.sub(r'""".*?"""', "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
        parts = re.split(r"^(?:def|class) (\w+)", text, flags=re.MULTILINE)[1:]
        code += "".join(parts[i + 1] for i in range(0, len(parts), 2) if parts[i] in called)
    return set(re.findall(r"""["']([\w.-]+)["']""", code))

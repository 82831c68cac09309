"""Proof by behaviour: trees whose quick runs give the same records, to the bit, compute the same.

    python -m helpers verify                     # the notebooks whose records do not stand
    python -m helpers verify notebooks/03*.ipynb --against b8305f3

Each notebook runs in its quick size with the code of the commit that made its records and with the
present code, on this machine, in float32 and one thread. Equal: outputs and records stand and are
stamped. Different: the notebook has to run again.
"""

import io
import json
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

import nbformat

from helpers.evaluation import records
from helpers.series import provenance, readme
from helpers.series.execution import Job, run_all, write
from helpers.series.parameters import ParameterError
from helpers.series.provenance import ROOT, changes, git
from helpers.series.runner import fetch, parameters_of, plan, series

ONE = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
ONE |= {"ACCELERATE_MIXED_PRECISION": "no", "PYTHONHASHSEED": "0"}
ASIDE = {"notebook", "machine", "sources", "seconds", "precision"}  # of a record


def main(notebooks: list[Path], against: str = "", root: Path = ROOT) -> int:
    """Verify notebooks (none: all that need it) against the commits that made their records, or a
    commit or a folder of quick runs; returns 0 if all stand, 1 if one does not."""
    found, again = [notebook.resolve() for notebook in notebooks or series(root)], {}
    with tempfile.TemporaryDirectory() as folder:
        for notebook in (n for n in found if against or stale(n, root)):
            try:
                _prove(notebook, against, root, Path(folder))
            except ParameterError as fault:
                again[notebook] = fault
    for notebook in found:
        print(f"{notebook.stem}: {again.get(notebook, 'stands')}")
    readme.update(root)
    if again:
        names = " ".join(f"notebooks/{notebook.name}" for notebook in again)
        print(f"Run again: make refresh NOTEBOOK='{names}'")
    return int(bool(again))


def stale(notebook: Path, root: Path = ROOT) -> list[str]:
    """A sentence for each of a notebook's outputs and records that do not come from what there is,
    by their digests; nothing runs."""
    now, found = provenance.stamp(nbformat.read(notebook, 4), root), []
    mend = f"make verify, or make refresh NOTEBOOK=notebooks/{notebook.name}"
    for file, facts in _kept(notebook, root).items():
        if not facts.get("cells"):
            found.append(f"{file.name} does not say what made it: {mend}")
        elif changed := changes(facts, now, root):
            found.append(f"{file.name} was made with other {', '.join(changed)}: {mend}")
    return found


def _prove(notebook: Path, against: str, root: Path, folder: Path) -> None:
    """Run and stamp a notebook. Raises `ParameterError` with the first thing that differs."""
    runs = _runs(notebook, against, root, folder)
    fetch(runs[-1:])
    *old, now = run_all(runs, -1)
    for job, of in [*((job, "then") for job in old), (now, "now")]:
        if job.error:
            raise ParameterError(f"the code of {of} fails, {job.error}")
    if not (made := _readings(now.records)):
        raise ParameterError("the quick run makes no records")
    for before in (_readings(job.records) for job in old):
        for number, (a, b) in enumerate(zip_longest(before, made), start=1):
            if a != b:
                raise ParameterError(f"record {number} of the quick run was {a} and is {b}")
    _keep(notebook, old, now, root)


def _readings(file: Path) -> list[str]:
    """The records of a file without what differs between equal runs: times and names."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    rows = [row for row in map(json.loads, lines) if "second" not in row.get("metric", "second")]
    return [json.dumps({k: row[k] for k in sorted(row.keys() - ASIDE)}) for row in rows]


def _kept(notebook: Path, root: Path) -> dict[Path, dict]:
    """The notebook and its files of records -> their facts."""
    files = sorted((root / "data" / "records").glob(f"{notebook.stem}.*jsonl"))
    facts = nbformat.read(notebook, 4).metadata.get("run", {})
    return {notebook: facts} | {file: records.facts(file) for file in files}


def _runs(notebook: Path, against: str, root: Path, folder: Path) -> list[Job]:
    """The quick runs of a notebook: with the code of all that made its outputs, and today's."""
    now = _quick(notebook, folder / "now", root)
    if against and (done := Path(against)).is_dir():
        return [replace(now, output=_namesake(notebook, done), seconds=0.0, error=""), now]
    kept = _kept(notebook, root).values()
    bases = [against] if against else [_origin(f, notebook, root, folder) for f in kept]
    trees = {commit: _tree(commit, root, folder) for commit in bases}
    then = {c: _namesake(notebook, tree / "notebooks") for c, tree in trees.items()}
    return [*(_quick(file, folder / f"of {c}", trees[c]) for c, file in then.items()), now]


def _tree(commit: str, root: Path, folder: Path) -> Path:
    """The files of a commit, unpacked. Raises `ParameterError` if there is no such commit."""
    if not (tree := folder / commit).exists():
        packed = subprocess.run(["git", "-C", root, "archive", commit], capture_output=True)
        if packed.returncode:
            raise ParameterError(f"there is no commit {commit}")
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
            files.extractall(tree, filter="data")
    return tree


def _namesake(notebook: Path, folder: Path) -> Path:
    """The notebook with the same title after its number. Raises `ParameterError` without one."""
    title = notebook.stem.partition("_")[2]
    for file in folder.glob(f"[0-9]*_{title}.ipynb"):
        return file
    raise ParameterError(f"{folder} has no {title}.ipynb")


def _quick(notebook: Path, folder: Path, tree: Path) -> Job:
    own = parameters_of(nbformat.read(notebook, 4))
    given = ["size=quick", *["workers=1"] * ("workers" in own)]  # word2vec repeats itself with one
    return replace(plan(notebook, given, folder, tree), environment=ONE | {"PYTHONPATH": str(tree)})


def _origin(facts: dict, notebook: Path, root: Path, folder: Path) -> str:
    """The commit with the code and the cells of the facts. Raises `ParameterError` without one."""
    for commit in [facts.get("commit"), *git(root, "rev-list", "HEAD").split()]:
        if commit and provenance.code_digest(root, commit) == facts.get("helpers"):
            with suppress(ParameterError):
                file = _namesake(notebook, _tree(commit, root, folder) / "notebooks")
                tree = file.parents[1]
                if provenance.cells_digest(nbformat.read(file, 4), tree) == facts["cells"]:
                    return commit
    raise ParameterError("no commit has the code that made it; --against COMMIT names another")


def _keep(notebook: Path, old: list[Job], now: Job, root: Path) -> None:
    """Stamp what is proven with the same libraries, and renew outputs that show source code."""
    node, kept = nbformat.read(notebook, 4), _kept(notebook, root)
    stamp = provenance.stamp(node, root)
    if changed := changes(now.made_of, stamp, root):
        raise ParameterError(f"{', '.join(changed)} changed during the proof")
    ran = next(row for row in map(json.loads, old[0].records.open()) if "facts" not in row)
    for file, facts in kept.items():
        had = (facts | facts.get("verified", {})).get("versions", {})
        other = {n: v for n, v in had.items() if ran["machine"].get(n, v) != v}
        if other or not had:
            what = f"was made with {other or 'nobody knows what'}, not proven here"
            raise ParameterError(f"{file.name} {what}")
    against = ", ".join(job.output.parent.name.removeprefix("of ") for job in old)
    proof = stamp | {"against": against, "at": datetime.now(UTC).date().isoformat()}
    shown = nbformat.read(now.output, 4).cells
    shown = [cell for cell in shown if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell, fresh in zip(node.cells, shown, strict=True):
        if cell.cell_type == "code" and "inspect.getsource" in cell.source:
            cell.outputs = fresh.outputs
    node.metadata["run"]["verified"] = proof
    write(notebook, nbformat.writes(node) + "\n")
    for file, facts in [*kept.items()][1:]:
        lines = file.read_text(encoding="utf-8").splitlines()[1:]
        write(file, "\n".join([json.dumps({"facts": facts | {"verified": proof}}), *lines, ""]))

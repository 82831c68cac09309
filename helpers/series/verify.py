"""Proof by behaviour: trees whose quick runs give the same records, to the bit, compute the same.

    python -m helpers verify notebooks/03*.ipynb --against b8305f3

runs in float32 and one thread with the code of the commit that made the records (or another) and
with the present code. Equal: outputs and records are stamped. Different: run the notebook again.
"""

import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

import nbformat

from helpers.evaluation.records import FIELDS
from helpers.series.parameters import ParameterError
from helpers.series.provenance import ROOT, changes, git, keep, kept, stamp, write
from helpers.series.runner import SERIES, Job, plan, renewed, run_all

ONE = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
ONE |= {"ACCELERATE_MIXED_PRECISION": "no", "PYTHONHASHSEED": "0"}
COMPARED = [name for name in FIELDS if name not in ("notebook", "machine", "seconds", "precision")]


def main(notebooks: list[Path], against: str = "", root: Path = ROOT) -> int:
    """Verify notebooks (none: all that need it) against the commits that made their records, or
    against one; returns 0 if all stand, 1 if one does not."""
    failed = 0
    for notebook in map(Path.resolve, notebooks or sorted((root / "notebooks").glob(SERIES))):
        try:
            if against or stale(notebook, root):
                _prove(notebook, against, root)
            faults = stale(notebook, root)
        except ParameterError as fault:
            faults = [f"{fault}: make refresh NOTEBOOK=notebooks/{notebook.name}"]
        print(f"{notebook.stem}: {(faults or ['stands'])[0]}")
        failed += bool(faults)
    return int(failed > 0)


def stale(notebook: Path, root: Path = ROOT) -> list[str]:
    """A sentence for each of a notebook's outputs and records that do not come from what there is,
    by their digests; nothing runs."""
    now, found = stamp(nbformat.read(notebook, 4), root), []
    mend = f"make verify, or make refresh NOTEBOOK=notebooks/{notebook.name}"
    for file, facts in kept(notebook, root).items():
        if changed := changes(facts, now, root):
            found.append(f"{file.name} was made with other {', '.join(changed)}: {mend}")
    return found


def _prove(notebook: Path, against: str, root: Path) -> None:
    """Run and stamp a notebook. Raises `ParameterError` with the first thing that differs."""
    with tempfile.TemporaryDirectory() as folder:
        made = kept(notebook, root)
        trees = {_tree(notebook, facts, against, root, Path(folder)) for facts in made.values()}
        jobs = []
        for tree in [*trees, root]:
            file, output = tree / "notebooks" / notebook.name, Path(folder, f"runs of {tree.name}")
            job = plan(file, ["size=quick"], output, tree)
            jobs.append(replace(job, environment=ONE | {"PYTHONPATH": str(tree)}))
        *then, now = run_all(jobs, -1)
        for job in (now, *then):
            if job.error:
                which = "now" if job is now else "then"
                raise ParameterError(f"the code of {which} fails, {job.error}")
            for number, (a, b) in enumerate(zip_longest(_compared(job), _compared(now)), start=1):
                if a != b:
                    raise ParameterError(f"record {number} of the quick run was {a} and is {b}")
        if not _compared(now):
            raise ParameterError("the quick run makes no records")
        node = renewed(replace(now, notebook=notebook), shows="inspect.getsource")
        write(notebook, nbformat.writes(node) + "\n")
    proof = {kind: now.made_of[kind] for kind in ("cells", "helpers", "assets", "checkpoints")}
    proof["against"] = ", ".join(tree.name for tree in trees)
    proof["at"] = datetime.now(UTC).date().isoformat()
    for file, facts in made.items():
        keep(file, facts | {"verified": proof})


def _compared(job: Job) -> list[str]:
    """The records of a job without what differs between equal runs: times and names."""
    rows = job.rows()
    rows = rows.loc[~rows["metric"].astype(str).str.contains("second"), COMPARED]
    return [str(row.dropna().to_dict()) for _, row in rows.iterrows()]


def _tree(notebook: Path, facts: dict, against: str, root: Path, folder: Path) -> Path:
    """The unpacked commit `against`, or that with the code and the cells of the facts; it may come
    after the one that the notebook ran on. Raises `ParameterError` without one."""
    first = against or facts.get("commit") or "HEAD"
    later = "" if against else git(root, "rev-list", "--reverse", f"{first}..HEAD")
    for commit in [first, *later.split()]:
        if not (commit := git(root, "rev-parse", f"{commit}^{{commit}}")):
            raise ParameterError(f"there is no commit {first}")
        if not (tree := folder / commit).exists():
            git(root, "archive", f"--output={tree}.tar", commit)
            shutil.unpack_archive(f"{tree}.tar", tree, filter="data")
        if (file := tree / "notebooks" / notebook.name).exists():
            found = stamp(nbformat.read(file, 4), tree)
            if against or all(found[kind] == facts.get(kind) for kind in ("cells", "helpers")):
                return tree
    raise ParameterError(f"no commit has {notebook.name} and its code; --against COMMIT names one")

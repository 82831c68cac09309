"""The runner of the series: one notebook, all of them, or a grid of parameters.

    python -m helpers run                        # the whole series, into build/notebooks/
    python -m helpers run notebooks/02*.ipynb -p size=quick -p label_counts='[50, 200]'
    python -m helpers run notebooks/02*.ipynb --grid seed=1,2,3 n_labels=100,1000 --jobs 2
    python -m helpers run --refresh              # again in place, records to data/records/

One failing notebook does not stop the others.
"""

import ast
import json
import re
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import joblib
import nbformat

from helpers import assets
from helpers.series import grid, numbers, readme
from helpers.series.execution import Job, alone, clock, execute, run_all, write
from helpers.series.parameters import Declared, ParameterError, check, declared
from helpers.series.provenance import ROOT, changes, stamp

WIDGET = "application/vnd.jupyter.widget-view+json"


def plan(notebook: Path, given: list[str], folder: Path, root: Path = ROOT) -> Job:
    """The job of a notebook with the parameters `given` as name=value on the command line, with
    the code of `root`.

    A file that is no notebook is a job that has failed. Raises `ParameterError` for what the
    notebook does not take, `OSError` for a file that cannot be read.
    """
    text, job = notebook.read_bytes(), Job(notebook, folder / f"{notebook.stem}.ipynb")
    try:
        node = nbformat.reads(text.decode("utf-8"), 4)
        nbformat.validate(node)
    except Exception as error:  # nbformat raises all sorts
        what = str(error).strip().partition("\n")[0]
        return replace(job, seconds=0.0, error=f"{notebook} is no notebook: {what[:200]}")
    parameters = {name: values[0] for name, values in assigned(node, given).items()}
    size = parameters.get("size", parameters_of(node).get("size", "default"))
    last = node.metadata.get("run", {})
    expected = last.get("seconds") if last.get("size") == size else None
    return replace(
        job, parameters=parameters, size=size, made_of=stamp(node, root), expected=expected
    )


def parameters_of(node: nbformat.NotebookNode) -> Declared:
    """What the cell tagged `parameters` declares."""
    tagged = [c.source for c in node.cells if "parameters" in c.metadata.get("tags", [])]
    try:
        return declared(tagged[0] if tagged else "")
    except SyntaxError:  # running it will say so
        return declared("")


def assigned(node: nbformat.NotebookNode, given: list[str], several: bool = False) -> dict:
    """The values in texts of the form name=value, or if `several` name=value,value: name -> list.

    Values are JSON or Python literals, or if the parameter is a text, as they stand. Raises
    `ParameterError` for what the notebook does not take.
    """
    own, found = parameters_of(node), {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or (several and not value):
            raise ParameterError(f"{text!r} is not of the form name=value.")
        if name in found:
            raise ParameterError(f"{name!r} is named twice: a grid takes {name}=1,2.")
        found[name] = value.split(",") if several else [value]
        if not (own.kinds.get(name, "").startswith("str") or isinstance(own.get(name), str)):
            for read in (ast.literal_eval, json.loads):
                with suppress(ValueError, SyntaxError):
                    found[name] = list(read(f"[{value}]")) if several else [read(value)]
        for value in found[name]:
            check({name: value}, own)
    return found


def recorded(job: Job, *args, refresh: bool = False, **options) -> Job:
    """`execute`, and keep the records in data/records/; if `refresh`, the outputs as well.

    Nothing is kept if the notebook or the code was changed meanwhile.
    """
    before = job.notebook.read_bytes()
    job = execute(job, *args, **options)
    if job.error:
        return job
    if job.notebook.read_bytes() != before:
        return replace(job, error=f"was saved while it ran: kept is {job.output} alone")
    if changed := changes(job.made_of, stamp(nbformat.reads(before.decode(), 4))):
        return replace(job, error=f"{', '.join(changed)} changed while it ran: nothing is kept")
    if refresh and (job := _put_back(job)).error:
        return job
    if job.records.exists():
        suffix = ".jsonl" if job.size == "default" else f".{job.size}.jsonl"
        folder = job.notebook.resolve().parents[1] / "data" / "records"
        write(folder / (job.notebook.stem + suffix), job.records.read_text(encoding="utf-8"))
    return job


def _put_back(job: Job) -> Job:
    """Put the outputs and the facts of a default run into the notebook itself.

    Nothing of the machine stays in them, and no progress bar. Output to stderr is a failure.
    """
    node = nbformat.read(job.output, 4)
    for cell in node.cells:
        if any(output.get("name") == "stderr" for output in cell.get("outputs", [])):
            return replace(job, error=f"In [{cell.execution_count}] writes to stderr")
        cell.metadata = {"tags": tags} if (tags := cell.metadata.get("tags")) else {}
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if WIDGET not in out.get("data", {})]
    node.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "run": node.metadata["run"],
    }
    line = (f"*Default run:* {clock(job.seconds)} minutes, {(job.peak_mb or 0) / 1000:.1f} GB of "
            f"memory, on {joblib.cpu_count()} CPU cores.")  # fmt: skip
    for first in node.cells[:1]:
        first.source = re.sub(r"^\*Default run:\*.*$", line, first.source, flags=re.MULTILINE)
    write(job.notebook, nbformat.writes(node) + "\n")
    return job


def main_result(records: Path) -> str:
    """The last record that its notebook marked as the main one, in a line; "" if there is none."""
    lines = records.read_text(encoding="utf-8").splitlines() if records.exists() else []
    for r in (r for r in map(json.loads, reversed(lines)) if r.get("main")):
        interval = f" [{r['low']:.3f}, {r['high']:.3f}]" if r.get("low") is not None else ""
        return f"{r['method']}: {r['metric']} {r['value']:.3f}{interval} ({r.get('dataset')})"
    return ""


def table(jobs: list[Job]) -> str:
    """The closing table: notebook, seconds, peak memory, main result or error."""
    rows = [("notebook", "seconds", "peak MB", "main result")]
    for job in jobs:
        result = f"FAILED {job.error}" if job.error else main_result(job.records)
        rows.append((job.name, f"{job.seconds:.0f}", f"{job.peak_mb or 0:.0f}", result))
    wide = max(len(row[0]) for row in rows)
    return "\n".join(f"{r[0]:{wide}}  {r[1]:>7}  {r[2]:>7}  {r[3]}".rstrip() for r in rows)


def add_arguments(parser) -> None:
    """The options of `python -m helpers run`."""
    add = parser.add_argument
    add("notebooks", nargs="*", type=Path, help="notebooks to run; the whole series if none")
    add("-p", dest="given", action="append", default=[], metavar="NAME=VALUE", help="a parameter")
    add("--grid", nargs="+", metavar="NAME=V1,V2", help="run once for each combination of values")
    add("--jobs", type=int, help="how many to run side by side (default 1; -1: one a core)")
    add("--output", type=Path, help="folder for the executed copies (default build/...)")
    add("--record", action="store_true", help="keep the records in data/records/")
    add("--refresh", action="store_true", help="--record, and put the outputs into the notebooks")


def series(root: Path = ROOT) -> list[Path]:
    """The notebooks of the series, in order."""
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def main(args) -> int:
    """Run what the command line asks for.

    Returns 0 if all went well, 1 if a notebook failed, 2 if the request is wrong (nothing has run).
    """
    folder = args.output or Path("build", "grid" if args.grid else "notebooks")
    try:
        jobs = [plan(notebook, args.given, folder) for notebook in args.notebooks or series()]
        values, keep = _request(jobs, folder, args), args.record or args.refresh
        fetch(jobs)
        if args.grid:
            folder /= jobs[0].name
            jobs = grid.run(jobs[0], values, folder, args.jobs)
        else:
            work = partial(recorded, refresh=args.refresh) if keep else execute
            with alone(folder):
                jobs = run_all(jobs, args.jobs, work)
        print(f"\n{table(jobs)}\n\nOpen {folder}")
        if keep:
            readme.update(jobs[0].notebook.resolve().parents[1])
            numbers.update(jobs[0].notebook.resolve().parents[1])
    except (ParameterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on with a grid where it was", file=sys.stderr)
        return 130
    return int(any(job.error for job in jobs))


def fetch(jobs: list[Job]) -> None:
    """Fetch the assets of all jobs; without one the notebooks that can do without it still run."""
    try:
        assets.fetch({name for job in jobs for name in job.made_of.get("assets", ())})
    except assets.AssetError as error:
        print(error, file=sys.stderr)


def _request(jobs: list[Job], folder: Path, args) -> dict[str, list]:
    """Raise `ParameterError` for options that do not go together; returns the grid's values."""
    if not jobs or (args.grid and len(jobs) > 1):
        raise ParameterError(f"{len(jobs)} notebooks were named or found; a grid takes one.")
    if len({job.output for job in jobs}) < len(jobs):
        raise ParameterError("Two of the notebooks have the same name, and so the same output.")
    if args.jobs == 0:
        raise ParameterError("--jobs takes 1 or more, or -1 for one a core, not 0.")
    own = {job.notebook.resolve().parent for job in jobs}
    if folder.resolve() in own | {place.parent / "data" / "records" for place in own}:
        raise ParameterError(f"--output {folder} would overwrite what is there: name another one.")
    if args.record or args.refresh:
        others = {name for job in jobs for name in job.parameters} - {"size"}
        if args.grid or others or (args.refresh and any(job.size != "default" for job in jobs)):
            raise ParameterError("Only -p size=... goes with --record, and nothing with --refresh.")
        readme.parts(jobs[0].notebook.resolve().parents[1])
    if not args.grid:
        return {}
    if jobs[0].error:
        raise ParameterError(f"{jobs[0].error}.")
    values = assigned(nbformat.read(jobs[0].notebook, 4), args.grid, several=True)
    if both := values.keys() & jobs[0].parameters.keys():
        raise ParameterError(f"{', '.join(sorted(both))} stands in both -p and --grid.")
    return values

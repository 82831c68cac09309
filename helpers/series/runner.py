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
from helpers.series import grid, readme
from helpers.series.execution import Job, clock, execute, run_all, write
from helpers.series.parameters import Declared, ParameterError, check, declared
from helpers.series.provenance import ROOT, sources

WIDGET = "application/vnd.jupyter.widget-view+json"


def plan(notebook: Path, given: list[str], folder: Path) -> Job:
    """The job of a notebook with the parameters `given` as name=value on the command line."""
    node = nbformat.read(notebook, 4)
    parameters = {name: values[0] for name, values in assigned(node, given).items()}
    size = parameters.get("size", parameters_of(node).get("size", "default"))
    last = node.metadata.get("run", {})
    expected = last.get("seconds") if last.get("size") == size else None
    return Job(notebook, folder / notebook.name, parameters, size, sources(node), expected)


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
        if not equals:
            raise ParameterError(f"{text!r} is not of the form name=value.")
        found[name] = value.split(",") if several else [value]
        if not (own.kinds.get(name, "").startswith("str") or isinstance(own.get(name), str)):
            for read in (ast.literal_eval, json.loads):
                with suppress(ValueError, SyntaxError):
                    found[name] = list(read(f"[{value}]")) if several else [read(value)]
        for value in found[name]:
            check({name: value}, own)
    return found


def recorded(job: Job, *args, refresh: bool = False, **options) -> Job:
    """`execute`, and keep the records in data/records/ with the digest of what made them."""
    job = execute(job, *args, **options)
    if refresh and not job.error:
        job = _put_back(job)
    if not job.error and job.records.exists():
        suffix = ".jsonl" if job.size == "default" else f".{job.size}.jsonl"
        folder = job.notebook.resolve().parents[1] / "data" / "records"
        lines = map(json.loads, job.records.read_text(encoding="utf-8").splitlines())
        lines = [json.dumps(r | {"sources": job.sources.digest}, ensure_ascii=False) for r in lines]
        write(folder / (job.notebook.stem + suffix), "\n".join([*lines, ""]))
    return job


def _put_back(job: Job) -> Job:
    """Put the outputs of a default run, and what it took, into the notebook itself.

    Nothing of the machine or the hour stays, and no progress bar. Output to stderr is a failure.
    """
    node = nbformat.read(job.output, 4)
    for cell in node.cells:
        if any(output.get("name") == "stderr" for output in cell.get("outputs", [])):
            return replace(job, error=f"In [{cell.execution_count}] writes to stderr")
        cell.metadata = {"tags": tags} if (tags := cell.metadata.get("tags")) else {}
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if WIDGET not in out.get("data", {})]
    took = {"size": job.size, "seconds": job.seconds, "peak_mb": job.peak_mb}
    node.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "run": {"sources": job.sources.digest, **took},
    }
    line = (f"*Default run:* {clock(job.seconds)} minutes, {(job.peak_mb or 0) / 1000:.1f} GB of "
            f"memory, on {joblib.cpu_count()} CPU cores.")  # fmt: skip
    first = node.cells[0]
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
    add("--jobs", type=int, help="how many to run side by side (default 1)")
    add("--output", type=Path, help="folder for the executed copies (default build/...)")
    add("--record", action="store_true", help="keep the records in data/records/")
    add("--refresh", action="store_true", help="--record, and put the outputs into the notebooks")


def main(args) -> int:
    """Run what the command line asks for.

    Returns 0 if all went well, 1 if a notebook failed, 2 if the request is wrong (nothing has run).
    """
    notebooks = args.notebooks or sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    folder = args.output or Path("build", "grid" if args.grid else "notebooks")
    try:
        jobs = [plan(notebook, args.given, folder) for notebook in notebooks]
        values = _request(jobs, args)
    except (ParameterError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        assets.fetch({name for job in jobs for name in job.sources.assets})
    except assets.AssetError as error:  # the notebooks that can do without it still run
        print(error, file=sys.stderr)
    try:
        if args.grid:
            folder = folder / jobs[0].notebook.stem
            jobs = grid.run(jobs[0], values, folder, args.jobs)
        else:
            keep = partial(recorded, refresh=args.refresh)
            jobs = run_all(jobs, args.jobs, keep if args.record or args.refresh else execute)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on with a grid where it was", file=sys.stderr)
        return 130
    if args.record or args.refresh:
        readme.update(jobs[0].notebook.resolve().parents[1])
    print(f"\n{table(jobs)}\n\nOpen {folder}")
    return int(any(job.error for job in jobs))


def _request(jobs: list[Job], args) -> dict[str, list]:
    """Raise `ParameterError` for options that do not go together; returns the grid's values."""
    if not jobs or (args.grid and len(jobs) > 1):
        raise ParameterError(f"{len(jobs)} notebooks were named or found; a grid takes one.")
    if args.record or args.refresh:
        others = {name for job in jobs for name in job.parameters} - {"size"}
        if args.grid or others or (args.refresh and any(job.size != "default" for job in jobs)):
            raise ParameterError("Only -p size=... goes with --record, and nothing with --refresh.")
    return assigned(nbformat.read(jobs[0].notebook, 4), args.grid or [], several=True)

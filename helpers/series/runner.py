"""The runner of the series: one notebook, all of them, or a grid of parameters.

python -m helpers run                        # the whole series, into build/notebooks/
python -m helpers run notebooks/02*.ipynb -p size=quick -p label_counts='[50, 200]'
python -m helpers run notebooks/02*.ipynb --grid seed=1,2,3 n_labels=100,1000 --jobs 2
python -m helpers run --refresh              # again in place, records to data/records/
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
from helpers.series.execution import Job, alone, execute, run_all, write
from helpers.series.parameters import Declared, ParameterError, check, declared
from helpers.series.provenance import ROOT, changes, stamp

WIDGET = "application/vnd.jupyter.widget-view+json"


def series(root: Path = ROOT) -> list[Path]:
    """The notebooks of the series, in order."""
    return sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def plan(notebook: Path, given: list[str], folder: Path, root: Path = ROOT) -> Job:
    """The job of a notebook with the parameters `given` as name=value and the code of `root`; a
    file that is no notebook is a job that has failed. Raises `ParameterError`, `OSError`."""
    text, job = notebook.read_bytes(), Job(notebook, folder / f"{notebook.stem}.ipynb")
    try:
        nbformat.validate(node := nbformat.reads(text.decode("utf-8"), 4))
    except Exception as error:  # nbformat raises all sorts
        what = str(error).strip().partition("\n")[0]
        return replace(job, seconds=0.0, error=f"{notebook} is no notebook: {what[:200]}")
    parameters = {name: values[0] for name, values in assigned(node, given).items()}
    size = parameters.get("size", parameters_of(node).get("size", "default"))
    return replace(job, parameters=parameters, size=size, made_of=stamp(node, root))


def parameters_of(node: nbformat.NotebookNode) -> Declared:
    """What the cell tagged `parameters` declares."""
    tagged = [c.source for c in node.cells if "parameters" in c.metadata.get("tags", [])]
    with suppress(SyntaxError):  # running it will say so
        return declared(tagged[0] if tagged else "")
    return declared("")


def assigned(node: nbformat.NotebookNode, given: list[str], several: bool = False) -> dict:
    """The values in texts of the form name=value, or if `several` name=value,value: name -> list.

    Values are JSON or Python literals, or for a text as they stand. Raises `ParameterError`.
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


def recorded(job: Job, *, refresh: bool = False, **options) -> Job:
    """`execute`, and keep the records in data/records/; if `refresh`, the outputs as well; nothing
    if the notebook or the code was changed meanwhile."""
    before = job.notebook.read_bytes()
    job = execute(job, **options)
    if job.error:
        return job
    if job.notebook.read_bytes() != before:
        return replace(job, error=f"was saved while it ran: kept is {job.output} alone")
    if changed := changes(job.made_of, stamp(nbformat.reads(before.decode(), 4))):
        return replace(job, error=f"{', '.join(changed)} changed while it ran: nothing is kept")
    if refresh and (fault := _put_back(job)):
        return replace(job, error=fault)
    if job.records.exists():
        suffix = ".jsonl" if job.size == "default" else f".{job.size}.jsonl"
        folder = job.notebook.resolve().parents[1] / "data" / "records"
        write(folder / (job.notebook.stem + suffix), job.records.read_text(encoding="utf-8"))
    return job


def _put_back(job: Job) -> str:
    """Put outputs and facts into the notebook, without progress bars; returns what forbids it."""
    node = nbformat.read(job.output, 4)
    for cell in node.cells:
        if any(output.get("name") == "stderr" for output in cell.get("outputs", [])):
            return f"In [{cell.execution_count}] writes to stderr"
        cell.metadata = {"tags": tags} if (tags := cell.metadata.get("tags")) else {}
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if WIDGET not in out.get("data", {})]
    node.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "run": node.metadata["run"],
    }
    minutes, seconds = divmod(round(job.seconds), 60)
    line = f"*Default run:* {minutes}:{seconds:02d} minutes, {(job.peak_mb or 0) / 1000:.1f} GB of "
    line += f"memory, on {joblib.cpu_count()} CPU cores."
    for first in node.cells[:1]:
        first.source = re.sub(r"^\*Default run:\*.*$", line, first.source, flags=re.MULTILINE)
    write(job.notebook, nbformat.writes(node) + "\n")
    return ""


def main_result(records: Path) -> str:
    """The last record that its notebook marked as the main one, in a line; "" if there is none."""
    lines = records.read_text(encoding="utf-8").splitlines() if records.exists() else []
    for r in (r for r in map(json.loads, reversed(lines)) if r.get("main")):
        interval = f" [{r['low']:.3f}, {r['high']:.3f}]" if r.get("low") is not None else ""
        return f"{r['method']}: {r['metric']} {r['value']:.3f}{interval} ({r.get('dataset')})"
    return ""


def table(jobs: list[Job]) -> str:
    """The closing table: notebook, seconds, peak memory, main result or error."""
    wide = max(len(name) for name in ["notebook", *(job.name for job in jobs)])
    lines = [f"{'notebook':{wide}}  seconds  peak MB  main result"]
    for job in jobs:
        result = f"FAILED {job.error}" if job.error else main_result(job.records)
        line = f"{job.name:{wide}}  {job.seconds:7.0f}  {job.peak_mb or 0:7.0f}  {result}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def main(args) -> int:
    """Run what the command line (`helpers.__main__`) asks for; returns 0 if all went well, 1 if a
    notebook failed, 2 if the request is wrong (nothing has run), 130 if it was interrupted."""
    folder = args.output or Path("build", "grid" if args.grid else "notebooks")
    try:
        jobs = [plan(notebook, args.given, folder) for notebook in args.notebooks or series()]
        values, keep = _request(jobs, folder, args), args.record or args.refresh
        fetch(jobs)
        if args.grid:
            folder /= jobs[0].name
            jobs = grid.run(jobs[0], values, folder, args.jobs)
        else:
            with alone(folder):
                work = partial(recorded, refresh=args.refresh) if keep else execute
                jobs = run_all(jobs, args.jobs, work)
        print(f"\n{table(jobs)}\n\nOpen {folder}")
        for module in (readme, numbers) if keep else ():
            module.update(jobs[0].notebook.resolve().parents[1])
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
    keep, own = args.record or args.refresh, {job.notebook.resolve().parent for job in jobs}
    taken = own | {place.parent / "data" / "records" for place in own}
    odd = args.grid or {name for job in jobs for name in job.parameters} - {"size"}
    odd = odd or (args.refresh and any(job.size != "default" for job in jobs))
    for wrong, told in (
        (not jobs or (args.grid and len(jobs) > 1),
         f"{len(jobs)} notebooks were named or found; a grid takes one."),
        (len({job.output for job in jobs}) < len(jobs),
         "Two of the notebooks have the same name, and so the same output."),
        (args.jobs == 0, "--jobs takes 1 or more, or -1 for one a core, not 0."),
        (folder.resolve() in taken,
         f"--output {folder} would overwrite what is there: name another one."),
        (keep and odd, "Only -p size=... goes with --record, and nothing with --refresh."),
        (args.grid and jobs and jobs[0].error, f"{jobs[0].error if jobs else ''}."),
    ):  # fmt: skip
        if wrong:
            raise ParameterError(told)
    if keep:
        readme.parts(jobs[0].notebook.resolve().parents[1])
    values = assigned(nbformat.read(jobs[0].notebook, 4), args.grid, True) if args.grid else {}
    if both := values.keys() & jobs[0].parameters.keys():
        raise ParameterError(f"{', '.join(sorted(both))} stands in both -p and --grid.")
    return values

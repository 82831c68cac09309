"""The runner of the series: one notebook, all of them, or a grid of parameters.

    python -m helpers run                        # the whole series, into build/notebooks/
    python -m helpers run notebooks/02*.ipynb -p size=quick -p label_counts='[50, 200]'
    python -m helpers run notebooks/02*.ipynb --grid seed=1,2,3 n_labels=100,1000 --jobs 2

`helpers.__main__.main` does the same in Python, and in a `with joblib.parallel_config("dask")` on a
Dask cluster that shares the folder. Each notebook goes through papermill in a process of its own.
"""

import ast
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

import joblib
import nbformat
import pandas as pd
from filelock import FileLock
from tqdm import tqdm

from helpers import assets
from helpers.evaluation import records
from helpers.series.parameters import Declared, ParameterError, check
from helpers.series.provenance import ROOT, changes, digest, facts, keep, stamp, write

SERIES = "[0-9][0-9]_*.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"
# Threads that spin while they wait slow one another tenfold as soon as something else runs
KERNEL = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"), "TQDM_DISABLE": "1",
          "TOKENIZERS_PARALLELISM": "false", "JUPYTER_PREFER_ENV_PATH": "1"}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A run of a notebook, planned or (with the last three fields) done."""

    notebook: Path
    output: Path  # the executed copy, with the records beside it
    parameters: dict = field(default_factory=dict)
    made_of: dict = field(default_factory=dict)  # of `provenance.stamp`
    environment: dict = field(default_factory=dict)  # what the kernel gets besides
    seconds: float | None = None
    peak_mb: float | None = None
    error: str | None = None  # "" if all went well

    name = property(lambda job: job.output.stem)
    size = property(lambda job: job.parameters.get("size", "default"))
    records = property(lambda job: job.output.with_suffix(".jsonl"))

    def rows(self) -> pd.DataFrame:
        """The records that it made, in the columns of `records.FIELDS`."""
        files = [self.records] if self.records.exists() else []
        return records.read(*files).reindex(columns=records.FIELDS)

    def __str__(self) -> str:
        told = f"{self.name}: {self.seconds:.0f} s, {self.peak_mb or 0:.0f} MB, "
        if self.error:
            return f"{told}FAILED {self.error}"
        for _, row in (rows := self.rows())[rows["main"].eq(True)].tail(1).iterrows():
            told += f"{row['method']}: {row['metric']} {row['value']:.3f}"
        return told


def execute(job: Job, *, threads: int | None = None, timeout: float | None = None) -> Job:
    """Run a job in a process of its own and return it done, whatever the notebook raised; copy and
    records get its facts. `threads` (None: all cores) limits the numerical libraries. Raises
    `subprocess.TimeoutExpired` after `timeout` seconds; the process ends then."""
    tqdm.write(f"{job.name}: started")
    output, log = job.output.resolve(), job.output.resolve().with_suffix(".log")
    output.parent.mkdir(parents=True, exist_ok=True)
    job.records.unlink(missing_ok=True)
    libraries = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
    own = {f"{name}_NUM_THREADS": str(threads or joblib.cpu_count()) for name in libraries}
    own |= KERNEL | {"NLP_TRANSFER_RECORDS": str(job.records.resolve())} | job.environment
    task = json.dumps([str(job.notebook.resolve()), str(output), job.parameters, own])
    command = [sys.executable, "-m", "helpers.series.runner", task]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    start, killed = time.monotonic(), json.dumps({"error": f"the process was killed, see {log}"})
    with log.open("wb") as err, subprocess.Popen(command, stderr=err, **pipes) as child:
        child.wait(timeout)
        told = json.loads(child.stdout.read() or killed)
    job = replace(job, seconds=round(time.monotonic() - start, 1), **told)
    if not job.error:
        log.unlink()
        rows = job.rows()
        where = next(iter(rows["machine"].dropna()), None)  # as the kernel says: torch stays out
        made = facts(job.made_of, machine=where) | {"size": job.size, "records": len(rows)}
        made |= {"seconds": job.seconds, "peak_mb": job.peak_mb}
        for file in [job.output, *[job.records] * bool(made["records"])]:
            keep(file, made)
    return job


def _child(notebook: str, output: str, parameters: dict, environment: dict) -> None:
    """The process of one notebook; ipykernel ends a kernel whose parent is gone."""
    os.environ.update(environment)  # for the kernel; this process has its imports
    import papermill

    # Nobody writes to this process: what it reads ends with its parent
    threading.Thread(target=lambda: os.read(0, 1) or os._exit(1), daemon=True).start()
    parent, error, peak = os.fdopen(os.dup(1), "w"), "", None
    os.dup2(2, 1)  # whatever else prints goes to the log
    try:
        how = {"request_save_on_cell_execute": parameters.get("size") != "quick"}  # takes seconds
        papermill.execute_notebook(notebook, output, parameters, kernel_name="python3", **how)
    except papermill.PapermillExecutionError as failed:
        trace, what = str(failed), failed.evalue.strip().partition("\n")[0]
        line = re.search(r"^-+> \d+ +(.*)", trace, re.M) or re.search(r", line \d+\n +(.*)", trace)
        error = f"In [{failed.exec_count}] `{line[1] if line else ''}`: {failed.ename}: {what}"
    except Exception as failed:  # no cell's own error: the kernel died, for want of memory mostly
        error = f"{type(failed).__name__}: {failed}"
    with suppress(ImportError):  # Windows
        from resource import RUSAGE_CHILDREN, getrusage  # the largest child is the kernel

        unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, else kilobytes
        peak = round(getrusage(RUSAGE_CHILDREN).ru_maxrss * unit / 1e6, 1)
    print(json.dumps({"error": error[:1000], "peak_mb": peak}), file=parent, flush=True)


def run_all(jobs: list[Job], n_jobs: int | None = None, work: Callable = execute) -> list[Job]:
    """Run jobs side by side through joblib, with the cores shared out; they come back done."""
    threads = max(1, joblib.cpu_count() // joblib.effective_n_jobs(n_jobs))
    pool = joblib.Parallel(n_jobs, prefer="threads", batch_size=1, return_as="generator_unordered")
    ended = pool(joblib.delayed(work)(job, threads=threads) for job in jobs if job.error is None)
    done = {job.output: job for job in jobs}
    for job in tqdm(ended, total=len(jobs), unit="notebook", disable=None):  # on a terminal only
        done[job.output] = job
        tqdm.write(str(job))
    return list(done.values())


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
    return replace(job, parameters=parameters, made_of=stamp(node, root))


def assigned(node: nbformat.NotebookNode, given: list[str], several: bool = False) -> dict:
    """The values in texts of the form name=value, or if `several` name=value,value: name -> list.
    Values are Python literals, or for a text as they stand. Raises `ParameterError`."""
    tagged = [c.source for c in node.cells if "parameters" in c.metadata.get("tags", [])]
    own, found = Declared("".join(tagged[:1])), {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or (several and not value):
            raise ParameterError(f"{text!r} is not of the form name=value.")
        if name in found:
            raise ParameterError(f"{name!r} is named twice: a grid takes {name}=1,2.")
        found[name] = value.split(",") if several else [value]
        if value and not (own.kinds.get(name, "") + type(own.get(name)).__name__).startswith("str"):
            with suppress(ValueError, SyntaxError):
                found[name] = ast.literal_eval(f"[{value}]" if several else f"[({value})]")
        for value in found[name]:
            check({name: value}, own)
    return found


def points(base: Job, values: dict[str, list], folder: Path) -> list[Job]:
    """A job for each combination of values, named after it, and done if it was finished before."""
    jobs = {}
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        parameters, name = base.parameters | chosen, ",".join(f"{k}={v}" for k, v in chosen.items())
        own = [v for v in parameters.values() if isinstance(v, str) and os.path.isfile(v)]
        files = [[os.stat(file).st_size, os.stat(file).st_mtime_ns] for file in own]
        safe = re.sub(r"[^\w=.,-]+", "_", name, flags=re.ASCII)[:80]
        copy = folder / f"{safe}-{digest(parameters)[:6]}.ipynb"
        made_of = base.made_of | {"point": digest([parameters, base.made_of, files])}
        jobs[copy] = job = replace(base, output=copy, parameters=parameters, made_of=made_of)
        with suppress(Exception):  # no executed copy with facts and whole records, or a damaged one
            ran = nbformat.read(copy, 4).metadata["run"]
            if (ran["point"], ran["records"]) == (made_of["point"], len(job.rows())):
                jobs[copy] = replace(job, seconds=ran["seconds"], peak_mb=ran["peak_mb"], error="")
    return list(jobs.values())


def index(jobs: list[Job], names: list[str], folder: Path) -> None:
    """Write index.html to `folder`: links, and a league table that averages over seeds."""
    links = [f'<p><a href="{job.output.name}">{escape(str(job))}</a>' for job in jobs]
    found = [pd.DataFrame()]
    for job in (job for job in jobs if not job.error):
        chosen = [f"{name}={job.parameters[name]}" for name in names if name != "seed"]
        rows = job.rows()
        found.append(rows.assign(method=rows["method"] + f" ({', '.join(chosen)})" * bool(chosen)))
    league = records.league(pd.concat(found)).to_html()
    write(folder / "index.html", "\n".join(["<!doctype html><meta charset=utf-8>", *links, league]))


def recorded(job: Job, **options) -> Job:
    """`execute`, and keep the records in data/records/ and, of the default size, the outputs in the
    notebook; nothing if the notebook or the code was changed meanwhile."""
    before = job.notebook.read_bytes()
    job = execute(job, **options)
    if job.error:
        return job
    changed = changes(job.made_of, stamp(nbformat.reads(before.decode(), 4)))
    if changed or job.notebook.read_bytes() != before:
        what = ", ".join(changed) or "the notebook"
        return replace(job, error=f"{what} changed while it ran: kept is {job.output} alone")
    if job.size == "default":
        node = renewed(job)
        node.metadata["run"] = nbformat.read(job.output, 4).metadata["run"]
        took = f"{round(job.seconds) // 60}:{round(job.seconds) % 60:02d} minutes"
        memory = f"{(job.peak_mb or 0) / 1000:.1f} GB of memory"
        took = f"{took}, {memory}, on {joblib.cpu_count()} CPU cores."
        first = node.cells[0]
        first.source = re.sub(r"^(\*Default run:\*).*", rf"\1 {took}", first.source, flags=re.M)
        write(job.notebook, nbformat.writes(node) + "\n")
    if job.records.exists():
        name = f"{job.notebook.stem}.{job.size}.jsonl".replace(".default", "")
        folder = job.notebook.resolve().parents[1] / "data" / "records"
        write(folder / name, job.records.read_text(encoding="utf-8"))
    return job


def renewed(job: Job, shows: str = "") -> nbformat.NotebookNode:
    """The notebook of a job with the outputs of its run in the code cells with `shows` in their
    source: without warnings and progress bars, the parts of a stream joined."""
    node, ran = nbformat.read(job.notebook, 4), nbformat.read(job.output, 4).cells
    ran = [c for c in ran if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell, fresh in zip(node.cells, ran, strict=True):
        if cell.cell_type == "code" and shows in cell.source:
            cell.execution_count = cell.execution_count if shows else fresh.execution_count
            cell.outputs = []
            for output in fresh.outputs:
                if cell.outputs and output.get("name", "") == cell.outputs[-1].get("name"):
                    cell.outputs[-1]["text"] += output["text"]
                elif output.get("name") != "stderr" and WIDGET not in output.get("data", {}):
                    cell.outputs.append(output)
    return node


def main(args) -> int:
    """Run what the command line asks for; returns 0 if all went well, 1 if a notebook failed.
    Raises `ParameterError` or `OSError` for a wrong request; then nothing has run."""
    folder = args.output or Path("build", "grid" if args.grid else "notebooks")
    notebooks = args.notebooks or sorted((ROOT / "notebooks").glob(SERIES))
    jobs = [plan(notebook, args.given, folder) for notebook in notebooks]
    homes = {job.notebook.resolve().parent for job in jobs}
    if not jobs or (args.grid and len(jobs) > 1) or len({job.output for job in jobs}) < len(jobs):
        told = "a grid takes one, and no two may have the same name"
        raise ParameterError(f"{len(jobs)} notebooks were named or found; {told}.")
    if args.jobs == 0:
        raise ParameterError("--jobs takes 1 or more, or -1 for one a core, not 0.")
    if folder.resolve() in homes | {home.parent / "data" / "records" for home in homes}:
        raise ParameterError(f"--output {folder} would overwrite what is there: name another one.")
    if args.refresh and (args.grid or {n for job in jobs for n in job.parameters} - {"size"}):
        raise ParameterError("Only -p size=... goes with --refresh.")
    if args.grid and jobs[0].error:
        raise ParameterError(f"{jobs[0].error}.")
    values = assigned(nbformat.read(jobs[0].notebook, 4), args.grid, True) if args.grid else {}
    wanted = {name for job in jobs for name in job.made_of.get("assets", ())}
    if all(job.size == "quick" for job in jobs):  # to read every byte of the others takes seconds
        wanted = {name for name in wanted if not assets.is_cached(name)}
    with suppress(assets.AssetError):  # a notebook that cannot do without it will say so
        assets.fetch(wanted)
    folder /= jobs[0].name if args.grid else ""
    with FileLock(folder / ".lock", timeout=0):
        jobs = points(jobs[0], values, folder) if args.grid else jobs
        jobs = run_all(jobs, args.jobs, recorded if args.refresh else execute)
        if args.grid:
            index(jobs, list(values), folder)
    failed = [str(job) for job in jobs if job.error]
    print("", *failed, f"Open {folder}", sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    _child(*json.loads(sys.argv[1]))

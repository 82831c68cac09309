"""Grids: one notebook over all combinations of parameter values, resumable, with an index.

From Python, and here on a Dask cluster that shares the folder:

    with joblib.parallel_config("dask"):
        grid.run(runner.plan(Path("notebooks/02_x.ipynb"), [], folder), {"seed": [1, 2]}, folder)
"""

import hashlib
import itertools
import json
import re
from contextlib import suppress
from dataclasses import replace
from html import escape
from pathlib import Path

import pandas as pd

from helpers.evaluation import records
from helpers.series.execution import Job, alone, execute, run_all, write


def run(base: Job, values: dict[str, list], folder: Path, n_jobs: int | None = None) -> list[Job]:
    """Run `base` with every combination of `values`, but not again what was finished before, into
    `folder`; all points come back, done. Raises `ParameterError` while another run writes there."""
    with alone(folder):
        jobs = [_resumed(job) for job in points(base, values, folder)]
        if finished := sum(job.error is not None for job in jobs):
            print(f"{finished} of {len(jobs)} points were finished before")
        jobs = run_all(jobs, n_jobs, _point)
        index(jobs, list(values), folder)
    return jobs


def points(base: Job, values: dict[str, list], folder: Path) -> list[Job]:
    """A job for each combination, named after it; a combination that comes twice runs once."""
    jobs = {}
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        parameters, name = base.parameters | chosen, ",".join(f"{k}={v}" for k, v in chosen.items())
        safe = re.sub(r"[^\w=.,-]+", "_", name, flags=re.ASCII)[:80]
        digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
        output = folder / f"{safe}-{digest[:6]}.ipynb"
        jobs[output] = replace(base, output=output, parameters=parameters)
    return list(jobs.values())


def _marker(job: Job) -> tuple[Path, dict]:
    """The file that says that a point is finished, and from what: parameters, code, own files."""
    files = []
    for value in job.parameters.values():
        with suppress(OSError, ValueError, TypeError):  # no path, or one of no file
            own = Path(value or "")
            files += [[value, own.stat().st_size, own.stat().st_mtime_ns]] * own.is_file()
    made_of = {"parameters": job.parameters, "stamp": job.made_of, "files": files}
    return job.output.with_suffix(".done"), json.loads(json.dumps(made_of))


def _resumed(job: Job) -> Job:
    """The job, done if its marker says so and its records are those of then."""
    file, made_of = _marker(job)
    with suppress(OSError, ValueError, TypeError, KeyError):  # none, or a damaged one
        done = dict(json.loads(file.read_text(encoding="utf-8")))
        took = done.pop("took")
        if done == made_of | {"records": _content(job.records)} and job.output.is_file():
            return replace(job, **took)
    return job


def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _point(job: Job, **options) -> Job:
    file, made_of = _marker(job)
    file.unlink(missing_ok=True)
    job = execute(job, **options)
    if not job.error:
        took = {"seconds": job.seconds, "peak_mb": job.peak_mb, "error": ""}
        write(file, json.dumps(made_of | {"took": took, "records": _content(job.records)}))
    return job


def index(jobs: list[Job], names: list[str], folder: Path) -> None:
    """Write index.parquet (a row a point), records.parquet and index.html to `folder`; the league
    table has a row for each combination but for seeds, whose results it averages."""
    rows, found = [], [pd.DataFrame()]
    for job in jobs:
        chosen = {name: job.parameters[name] for name in names}
        took = {"seconds": job.seconds, "peak_mb": job.peak_mb, "error": job.error}
        rows.append(chosen | took | {"notebook": job.output.name})
        if job.records.exists() and not job.error:
            label = ", ".join(f"{k}={v}" for k, v in chosen.items() if k != "seed")
            own = records.read(job.records).assign(point=job.name)
            found.append(own.assign(method=own["method"] + (f" ({label})" if label else "")))
    points, found = pd.DataFrame(rows), pd.concat(found, ignore_index=True)
    for name, frame in {"index": points, "records": found}.items():
        mixed = [column for column in frame if frame[column].dtype == object]
        frame.astype(dict.fromkeys(mixed, str)).to_parquet(folder / f"{name}.parquet")
    links = [f'<a href="{job.output.name}">{job.output.name}</a>' for job in jobs]  # our own names
    with pd.option_context("display.max_colwidth", None):
        shown = points.astype(str).map(escape).assign(notebook=links)
        shown, league = shown.to_html(escape=False), records.league(found).to_html()
    head = "<!doctype html><meta charset=utf-8><title>Grid</title><h1>Points</h1>"
    write(folder / "index.html", f"{head}{shown}<h1>League table</h1>{league}")

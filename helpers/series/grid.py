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

from helpers.evaluation import records as results
from helpers.series.execution import Job, alone, execute, run_all, write


def run(base: Job, values: dict[str, list], folder: Path, n_jobs: int | None = None) -> list[Job]:
    """Run `base` with every combination of `values`, but not again what was finished before.

    Executed copies, records and the index go to `folder`. All points come back, done. Raises
    `ParameterError` while another run writes there.
    """
    with alone(folder):
        jobs = {job.output: _resumed(job) for job in points(base, values, folder)}
        todo = [job for job in jobs.values() if job.error is None]
        if len(todo) < len(jobs):
            print(f"{len(jobs) - len(todo)} of {len(jobs)} points were finished before", flush=True)
        jobs |= {job.output: job for job in run_all(todo, n_jobs, _point)}
        index(list(jobs.values()), list(values), folder)
    return list(jobs.values())


def points(base: Job, values: dict[str, list], folder: Path) -> list[Job]:
    """A job for each combination, named after it; a combination that comes twice runs once."""
    jobs = {}
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        name = ",".join(f"{key}={value}" for key, value in chosen.items())
        parameters = base.parameters | chosen
        digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:6]
        safe = re.sub(r"[^\w=.,-]+", "_", name, flags=re.ASCII)[:80]
        output = folder / f"{safe}-{digest}.ipynb"
        jobs[output] = replace(base, output=output, parameters=parameters, expected=None)
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
    with suppress(
        OSError, ValueError, TypeError, AttributeError, KeyError
    ):  # none, or a damaged one
        done = json.loads(file.read_text(encoding="utf-8"))
        took, kept = done.pop("took"), done.pop("records")
        if done == made_of and kept == _content(job.records) and job.output.is_file():
            return replace(job, **took)
    return job


def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _point(job: Job, *args, **options) -> Job:
    file, made_of = _marker(job)
    file.unlink(missing_ok=True)
    job = execute(job, *args, **options)
    if not job.error:
        took = {"seconds": job.seconds, "peak_mb": job.peak_mb, "error": ""}
        write(file, json.dumps(made_of | {"took": took, "records": _content(job.records)}))
    return job


def _shown(value) -> str:
    return "" if value is None or value != value else escape(str(value))


def index(jobs: list[Job], names: list[str], folder: Path) -> None:
    """Write index.parquet (a row a point), records.parquet and index.html to `folder`.

    The league table has a row for each combination but for seeds, whose results it averages.
    """
    rows, records = [], [pd.DataFrame()]
    for job in jobs:
        chosen = {name: job.parameters[name] for name in names}
        took = {"seconds": job.seconds, "peak_mb": job.peak_mb, "error": job.error}
        rows.append(chosen | took | {"notebook": job.output.name})
        if job.records.exists() and not job.error:
            found = results.read(job.records)
            label = ", ".join(f"{k}={v}" for k, v in chosen.items() if k != "seed")
            found["method"] += f" ({label})" if label else ""
            records.append(found.assign(point=job.name))
    points, records = pd.DataFrame(rows), pd.concat(records, ignore_index=True)
    for name, frame in {"index": points, "records": records}.items():
        mixed = [column for column in frame if frame[column].dtype == object]
        frame.astype(dict.fromkeys(mixed, str)).to_parquet(folder / f"{name}.parquet")
    shown, league = (f.map(_shown) for f in (points, results.league(records)))
    shown["notebook"] = [f'<a href="{name}">{name}</a>' for name in points["notebook"]]  # our names
    with pd.option_context("display.max_colwidth", None):
        tables = [frame.to_html(index=False, escape=False) for frame in (shown, league)]
    head = "<!doctype html><meta charset=utf-8><title>Grid</title>"
    page = f"{head}<h1>Points</h1>{tables[0]}<h1>League table</h1>{tables[1]}"
    write(folder / "index.html", page)

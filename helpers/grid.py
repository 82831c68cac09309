"""Grids: one notebook over all combinations of parameter values, resumable, with an index.

From Python, and here on a Dask cluster that shares the folder:

    with joblib.parallel_config("dask"):
        grid.run(run.plan(Path("notebooks/02_x.ipynb"), [], folder), {"seed": [1, 2]}, folder)
"""

import hashlib
import html
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from helpers import results
from helpers.execution import Job, Outcome, execute, run_all, write


def run(base: Job, values: dict[str, list], folder: Path, n_jobs: int | None = None):
    """Run `base` with every combination of `values`, but not what was finished before.

    Executed copies, records and the index go to `folder`. Returns the outcomes of all points.
    """
    jobs = points(base, values, folder)
    finished = {job.output: outcome for job in jobs if (outcome := _finished(job))}
    if finished:
        print(f"{len(finished)} of {len(jobs)} points were finished before", flush=True)
    fresh = run_all([job for job in jobs if job.output not in finished], n_jobs, _point)
    finished |= {outcome.job.output: outcome for outcome in fresh}
    outcomes = [finished[job.output] for job in jobs]
    index(outcomes, list(values), folder)
    return outcomes


def points(base: Job, values: dict[str, list], folder: Path) -> list[Job]:
    """A job for each combination, named after it; a combination that comes twice runs once."""
    jobs = {}
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        name = ",".join(f"{key}={value}" for key, value in chosen.items())
        parameters = base.parameters | chosen
        digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:6]
        safe = re.sub(r"[^\w=.,-]+", "_", name)[:80]
        output = folder / f"{safe}-{digest}.ipynb"
        jobs[output] = replace(base, output=output, parameters=parameters, expected=None)
    return list(jobs.values())


def _marker(job: Job) -> tuple[Path, dict]:
    """The file that says that a point is finished, and from what: parameters, code, own files."""
    texts = [Path(value) for value in job.parameters.values() if isinstance(value, str) and value]
    files = [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in texts if f.is_file()]
    made_of = {"parameters": job.parameters, "sources": job.sources.digest, "files": files}
    return job.output.with_suffix(".done"), made_of


def _finished(job: Job) -> Outcome | None:
    file, made_of = _marker(job)
    done = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if {name: done.get(name) for name in made_of} != made_of:
        return None
    return Outcome(job, done["seconds"], done["peak_mb"], "")


def _point(job: Job, *args, **options) -> Outcome:
    file, made_of = _marker(job)
    file.unlink(missing_ok=True)
    outcome = execute(job, *args, **options)
    if not outcome.error:
        took = {"seconds": outcome.seconds, "peak_mb": outcome.peak_mb}
        write(file, json.dumps(made_of | took))
    return outcome


def index(outcomes: list[Outcome], names: list[str], folder: Path) -> None:
    """Write index.parquet (a row a point), records.parquet and index.html to `folder`.

    The league table has a row for each combination but for seeds, whose results it averages.
    """
    rows, records = [], []
    for outcome in outcomes:
        chosen = {name: outcome.job.parameters[name] for name in names}
        status = "failed" if outcome.error else "done"
        took = {"seconds": outcome.seconds, "peak_mb": outcome.peak_mb}
        file = {"error": outcome.error, "notebook": outcome.job.output.name}
        rows.append({**chosen, "status": status, **took, **file})
        if outcome.job.records.exists() and not outcome.error:
            found = results.read(outcome.job.records)
            label = ", ".join(f"{k}={v}" for k, v in chosen.items() if k != "seed")
            found["method"] = found["method"] + (f" ({label})" if label else "")
            records.append(found.assign(point=outcome.job.output.stem))
    table = pd.DataFrame(rows)
    measured = pd.concat(records, ignore_index=True) if records else pd.DataFrame()
    league = results.league(measured)
    for name, frame in {"index": table, "records": measured}.items():
        _plain(frame).to_parquet(folder / f"{name}.parquet")
    page = table.map(lambda value: html.escape(str(value)))
    page["notebook"] = [f'<a href="{n}">{n}</a>' for n in page["notebook"]]
    parts = [page.to_html(escape=False, index=False), league.to_html(index=False, na_rep="")]
    style = "<style>body{font-family:sans-serif} td,th{padding:2px 8px;text-align:left}</style>"
    write(folder / "index.html", "<!doctype html><meta charset=utf-8>" + style
          + "<h1>Points</h1>{}<h1>League table</h1>{}".format(*parts))  # fmt: skip


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of lists, dictionaries and mixed types as JSON texts, which Parquet can hold."""
    mixed = [name for name in frame if frame[name].dtype == object]
    return frame.assign(**{name: frame[name].map(json.dumps) for name in mixed})

"""Notebooks through papermill, each in a process of its own that ends with its parent."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import joblib
import nbformat
from filelock import FileLock, Timeout
from tqdm import tqdm

from helpers.evaluation import records
from helpers.series import provenance
from helpers.series.parameters import ParameterError


@dataclass(frozen=True)
class Job:
    """A run of a notebook, planned or (with the last three fields) done.

    `output` is the executed copy, with the records beside it. `made_of` is a `provenance.stamp`,
    `environment` what the kernel gets besides. `error` is "" if all went well.
    """

    notebook: Path
    output: Path
    parameters: dict = field(default_factory=dict)
    size: str = "default"
    made_of: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    seconds: float | None = None
    peak_mb: float | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        return self.output.stem

    @property
    def records(self) -> Path:
        return self.output.with_suffix(".jsonl")


def execute(job: Job, *, threads=None, timeout=None, cwd=None) -> Job:
    """Run a job in a process of its own and return it done, whatever the notebook raised.

    `threads` (None: all cores) limits the numerical libraries; `timeout` is in seconds; `cwd` is
    the folder that the notebook runs in. Copy and records get the facts of the run.
    """
    tqdm.write(f"{job.name}: started")
    output, log = job.output.resolve(), job.output.resolve().with_suffix(".log")
    output.parent.mkdir(parents=True, exist_ok=True)
    job.records.unlink(missing_ok=True)
    libraries = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
    own = {f"{name}_NUM_THREADS": str(threads or joblib.cpu_count()) for name in libraries}
    # Threads that spin while they wait slow one another tenfold as soon as something else runs
    own |= {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    own |= {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "JUPYTER_PREFER_ENV_PATH": "1"}
    own |= {"NLP_TRANSFER_RECORDS": str(job.records.resolve()), **job.environment}
    task = [job.notebook.resolve(), output, json.dumps(job.parameters), json.dumps(own)]
    command = [sys.executable, "-m", "helpers.series.execution", *task]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    start, error = time.monotonic(), f"the process was killed, see {log.name}"
    with log.open("wb") as err, subprocess.Popen(command, cwd=cwd, stderr=err, **pipes) as child:
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            error = f"stopped after {timeout} s"
        told = {"error": error} | json.loads(child.stdout.read() or "{}")
    job = replace(job, seconds=round(time.monotonic() - start, 1), **told)
    if not job.error:
        log.unlink()
        _keep_facts(job)
    return job


def _keep_facts(job: Job) -> None:
    """Write what made it into the executed notebook's metadata, and before its records."""
    lines = job.records.read_text(encoding="utf-8").splitlines() if job.records.exists() else []
    first = next(map(json.loads, lines), {})
    made = provenance.facts(job.made_of, first.get("machine") or records.machine())
    made |= {name: first[name] for name in ["precision"] if name in first}
    made |= {"size": job.size, "seconds": job.seconds, "peak_mb": job.peak_mb}
    if lines:
        write(job.records, "\n".join([json.dumps({"facts": made}), *lines, ""]))
    node = nbformat.read(job.output, 4)
    node.metadata["run"] = made
    for cell in (cell for cell in node.cells if cell.cell_type == "code"):
        cell.outputs = settled(cell.outputs)
    write(job.output, nbformat.writes(node) + "\n")


def settled(outputs: list) -> list:
    """Outputs with the texts of a stream joined, and of each line what "\\r" leaves to be seen.
    (nbclient takes time that grows with the square of a line's length.)"""
    joined = []
    for output in outputs:
        if joined and output.get("name") and output["name"] == joined[-1].get("name"):
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            lines = output["text"].split("\n")
            output["text"] = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    return joined


def _child(notebook: str, output: str, parameters: str, environment: str) -> None:
    """The process of one notebook; ipykernel ends a kernel whose parent is gone."""
    os.environ.update(json.loads(environment))  # for the kernel; this process has its imports
    import papermill

    def end_with_parent():
        os.read(0, 1)  # nobody writes, so it returns when the parent is gone
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    parent, error, begun = os.fdopen(os.dup(1), "w"), "", [0]
    os.dup2(2, 1)  # whatever else prints goes to the log
    try:
        papermill.execute_notebook(
            notebook, output, json.loads(parameters), kernel_name="python3", progress_bar=False,
            on_cell_start=lambda cell, cell_index: begun.append(cell_index + 1),
        )  # fmt: skip
    except papermill.PapermillExecutionError as failed:
        what = str(failed.evalue).strip().partition("\n")[0]
        error = f"In [{failed.exec_count}] `{_line(failed)}`: {failed.ename}: {what[:300]}"
    except Exception as failed:  # no cell's own error: the kernel died, for want of memory mostly
        error = f"cell {begun[-1]}: {type(failed).__name__}: {failed}"
    print(json.dumps({"error": error[:1000], "peak_mb": _peak_mb()}), file=parent, flush=True)


def _line(failed) -> str:
    """The line of the cell that failed, from IPython's traceback; else the cell's first line."""
    trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(failed.traceback))
    found = re.search(rf"Cell In\[{failed.exec_count}\], line (\d+)", trace)
    lines = failed.source.splitlines()[int(found[1]) - 1 if found else 0 :]
    return next((line.strip() for line in lines if line.strip()), "")[:60]


def _peak_mb() -> float | None:
    """Peak memory in MB of the largest process among the children that have ended: the kernel."""
    with suppress(ImportError):  # Windows
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e6, 1)


def run_all(jobs: list[Job], n_jobs: int | None = None, work: Callable = execute) -> list[Job]:
    """Run jobs side by side through joblib, with the cores shared out; they come back done."""
    done, todo = {job.output: job for job in jobs}, [job for job in jobs if job.error is None]
    threads = max(1, joblib.cpu_count() // joblib.effective_n_jobs(n_jobs))
    pool = joblib.Parallel(n_jobs, prefer="threads", batch_size=1, return_as="generator_unordered")
    ended = pool(joblib.delayed(work)(job, threads=threads) for job in todo)
    for job in tqdm(ended, total=len(todo), unit="notebook", disable=None):  # on a terminal only
        what = f"FAILED, {job.error}" if job.error else "done"
        tqdm.write(f"{job.name}: {what}, {job.seconds:.0f} s")
        done[job.output] = job
    return list(done.values())


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder for one run. Raises `ParameterError` while another holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ParameterError(f"Another run writes to {folder}: wait for its end.") from None


def write(file: Path, text: str) -> None:
    """Write a file in one step: a kill leaves the old one or the new one, never half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    _child(*sys.argv[1:])

"""Notebooks through papermill, each in a process of its own, with progress.

A process ends with the one that started it, however that ended, and takes its kernel with it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

import joblib
import nbformat
import psutil
from filelock import FileLock, Timeout

from helpers.evaluation import records
from helpers.series import provenance
from helpers.series.parameters import ParameterError

THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")


@dataclass(frozen=True)
class Job:
    """A run of a notebook, planned or (with the last three fields) done.

    `output` is the executed copy, and the records go beside it as .jsonl. `made_of` is its stamp
    (`provenance.stamp`), `environment` what the kernel gets besides, `expected` how many seconds it
    took before. `error` names the cell and the error, "" if all went well.
    """

    notebook: Path
    output: Path
    parameters: dict = field(default_factory=dict)
    size: str = "default"
    made_of: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)
    expected: float | None = None
    seconds: float | None = None
    peak_mb: float | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        return self.output.stem

    @property
    def records(self) -> Path:
        return self.output.with_suffix(".jsonl")


def execute(job: Job, beat: Callable | None = None, *, threads=None, timeout=None, cwd=None) -> Job:
    """Run a job in a process of its own and return it done, whatever the notebook raised.

    `beat(job, seconds, cell, cells)` is called once a second. `threads` (None: all cores) limits
    the numerical libraries; `timeout` is in seconds; `cwd` is the folder that the notebook runs in.
    The executed copy and the records get the facts of the run.
    """
    output, log = job.output.resolve(), job.output.resolve().with_suffix(".log")
    output.parent.mkdir(parents=True, exist_ok=True)
    job.records.unlink(missing_ok=True)
    own = {f"{name}_NUM_THREADS": str(threads or joblib.cpu_count()) for name in THREADS}
    # Threads that spin while they wait slow one another tenfold as soon as something else runs
    own |= {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    own |= {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "JUPYTER_PREFER_ENV_PATH": "1"}
    own |= {"NLP_TRANSFER_RECORDS": str(job.records.resolve()), **job.environment}
    task = [job.notebook.resolve(), output, json.dumps(job.parameters), json.dumps(own)]
    state = {"seconds": 0.0, "error": f"the process was killed, see {log.name}"}
    command = [sys.executable, "-m", "helpers.series.execution", *task]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "start_new_session": True}
    with log.open("wb") as err, subprocess.Popen(command, cwd=cwd, stderr=err, **pipes) as child:
        for line in child.stdout:
            state |= json.loads(line)
            if beat:
                beat(job, state["seconds"], state["cell"], state["cells"])
            if timeout and state["seconds"] > timeout:
                state["error"] = f"stopped in cell {state['cell']}, after {timeout} s"
                _kill(psutil.Process(child.pid))
    job = replace(job, **{name: state.get(name) for name in ("seconds", "peak_mb", "error")})
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

    nbclient can do this, in time that grows with the square of a line's length.
    """
    joined = []
    for output in outputs:
        if joined and output.get("name") and output["name"] == joined[-1].get("name"):
            joined[-1]["text"] += output["text"]
        else:
            joined.append(output)
    for output in (output for output in joined if output.output_type == "stream"):
        lines = output["text"].split("\n")
        output["text"] = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    return joined


def _kill(process: psutil.Process) -> None:
    for doomed in [*process.children(recursive=True), process]:
        with suppress(psutil.NoSuchProcess):
            doomed.kill()


def _child(notebook: str, output: str, parameters: str, environment: str) -> None:
    """The process of one notebook: runs it, and tells the parent through a pipe how far it is."""
    os.environ.update(json.loads(environment))  # for the kernel; this process has its imports
    import papermill

    pipe, start, lock = os.dup(1), time.monotonic(), threading.Lock()
    os.dup2(2, 1)  # whatever else prints goes to the log
    state = {"cell": 0, "cells": len(nbformat.read(notebook, 4).cells)}

    def tell(**news):
        with lock:
            state.update(news, seconds=round(time.monotonic() - start, 1))
            try:
                os.write(pipe, (json.dumps(state) + "\n").encode())
            except OSError:  # nobody reads any more: the parent was killed
                _kill(psutil.Process())

    def beat():
        while "error" not in state:
            tell()
            time.sleep(1)

    threading.Thread(target=beat, daemon=True).start()
    try:
        papermill.execute_notebook(
            notebook, output, json.loads(parameters), kernel_name="python3", progress_bar=False,
            on_cell_start=lambda cell, cell_index: tell(cell=cell_index + 1),
        )  # fmt: skip
        error = ""
    except papermill.PapermillExecutionError as failed:
        what = str(failed.evalue).strip().partition("\n")[0]
        error = f"In [{failed.exec_count}] `{_line(failed)}`: {failed.ename}: {what[:300]}"
    except Exception as failed:  # no cell's own error: the kernel died, for want of memory mostly
        error = f"cell {state['cell']} of {state['cells']}: {type(failed).__name__}: {failed}"
    tell(error=error[:1000], peak_mb=_peak_mb())


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


class Display:
    """Progress of jobs: a line at each start and end, and on a terminal a live one below."""

    def __init__(self, jobs: list[Job], parallel: int = 1):
        self.jobs, self.parallel = {job.output: job for job in jobs}, parallel
        self.running, self.lock = {}, threading.Lock()
        self.live = bool(jobs) and sys.stdout.isatty()

    def __reduce__(self):  # a copy in another process, such as a Dask worker's, keeps silent
        return Display, ([],)

    def beat(self, job: Job, seconds: float, cell: int, cells: int) -> None:
        """Note how far a running job is, and show it."""
        with self.lock:
            if job.output in self.jobs and job.output not in self.running and not self.live:
                print(f"{job.name}: started ({self.left()})", flush=True)
            self.running[job.output] = seconds, f"{job.name} {clock(seconds)} cell {cell}/{cells}"
            if self.live:
                line = "   ".join([*(status for _, status in self.running.values()), self.left()])
                width = shutil.get_terminal_size().columns - 1
                print("\r" + line[:width], end="\x1b[K", flush=True)

    def finish(self, job: Job) -> None:
        """Say what became of a job."""
        with self.lock:
            self.jobs[job.output] = job
            self.running.pop(job.output, None)
            what = f"FAILED, {job.error}" if job.error else "done"
            line = f"{job.name}: {what}, {clock(job.seconds)} ({self.left()})"
            print("\r\x1b[K" * self.live + line, flush=True)

    def left(self) -> str:
        """How much is left, from the times stored in the notebooks and the pace so far."""
        todo = [job for job in self.jobs.values() if job.error is None]
        done = [job for job in self.jobs.values() if job.error is not None]
        pace = mean([job.seconds / job.expected for job in done if job.expected] or [1])
        usual = mean(job.seconds for job in done) if done else None
        guess = [job.expected * pace if job.expected else usual for job in todo]
        if not todo or None in guess:
            return f"{len(todo)} to go"
        spent = (self.running.get(job.output, (0,))[0] for job in todo)
        seconds = sum(guess) - sum(map(min, guess, spent))
        return f"{len(todo)} to go, about {clock(seconds / self.parallel)}"


def clock(seconds: float) -> str:
    """Minutes and seconds: 75 s is "1:15"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def run_all(jobs: list[Job], n_jobs: int | None = None, work: Callable = execute) -> list[Job]:
    """Run jobs side by side through joblib, with the cores shared out; they come back done.

    `with joblib.parallel_config("dask"):` around it sends them to a cluster.
    """
    parallel = joblib.effective_n_jobs(n_jobs)
    display, threads = Display(jobs, parallel), max(1, joblib.cpu_count() // parallel)
    todo = [job for job in jobs if job.error is None]
    pool = joblib.Parallel(n_jobs, prefer="threads", batch_size=1, return_as="generator_unordered")
    for job in pool(joblib.delayed(work)(job, display.beat, threads=threads) for job in todo):
        display.finish(job)
    return list(display.jobs.values())


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

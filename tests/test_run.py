"""The runner on tiny notebooks: real papermill, real failing cells, a real kill."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import joblib
import nbformat
import psutil
import pytest
from filelock import FileLock
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers.__main__ import main
from helpers.evaluation import records as results
from helpers.series import provenance, runner
from helpers.series.provenance import stamp
from helpers.series.runner import Job

PARAMETERS = """size: str = "default"
seed: int = 0
n_labels: int = 100
lr: float = 0.1
counts: list[int] = []
train_file: str = ""
"""
VERIFY = "from helpers.series import parameters\nparameters.verify()"
RECORD = """import json, os
entry = {"method": "Lucky guess", "dataset": "coins", "metric": "accuracy", "seed": seed,
         "value": 0.5 + seed / 10, "low": 0.4, "high": 0.9, "n_train": n_labels, "main": True}
with open(os.environ["NLP_TRANSFER_RECORDS"], "w") as file:
    file.write(json.dumps(entry) + "\\n")
"""


def notebook(file: Path, *cells: str) -> Path:
    code = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), new_code_cell(VERIFY)]
    title = new_markdown_cell("# 99 · Tiny\n\n*Default run:* unknown\n\nNothing comes first.")
    node = new_notebook(cells=[title, *code, *map(new_code_cell, cells)])
    node.metadata = {"language_info": {"name": "python"}}
    node.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "P"}
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(node, file)
    return file


def run(*texts) -> int:
    return main(["run", *map(str, texts)])


def texts(file: Path) -> str:
    outputs = [o for cell in nbformat.read(file, 4).cells for o in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A series with a good notebook, one that fails and one whose kernel dies, run from the shell
    in another folder, without a terminal."""
    home, elsewhere = tmp_path_factory.mktemp("series"), tmp_path_factory.mktemp("elsewhere")
    names = "names = ['OMP_NUM_THREADS', 'OMP_WAIT_POLICY', 'TQDM_DISABLE']\n"
    look = names + "import os, sys\nprint(sys.executable, os.getcwd(), *map(os.getenv, names))"
    good = notebook(home / "01_good.ipynb", RECORD, look, "x = bytearray(400_000_000)")

    bad = notebook(home / "02_bad.ipynb", "\ndivisor = seed", "1 / divisor", "print('never')")
    dead = notebook(home / "03_dead.ipynb", "import os", "os.kill(os.getpid(), 9)")
    odd = notebook(home / "04_odd.ipynb", "x = (")
    command = [sys.executable, "-m", "helpers", "run", good, bad, dead, odd, "--jobs", "2"]
    done = subprocess.run([*command, "--output", "out"], cwd=elsewhere, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    return done, elsewhere


def test_one_failing_notebook_does_not_stop_the_others(series):
    done, folder = series
    assert done.returncode == 1
    assert re.search(r"^01_good: \d+ s, \d+ MB, Lucky guess: accuracy 0.500$", done.stdout, re.M)
    *_, bad, dead, odd, last = done.stdout.splitlines()
    assert "02_bad" in bad
    assert "FAILED In [4] `1 / divisor`: ZeroDivisionError: division by zero" in bad
    assert "FAILED DeadKernelError" in dead
    assert re.search(r"FAILED In \[3\] `x = \(`: SyntaxError", odd)
    assert last == "Open out"
    assert "never" not in texts(folder / "out" / "02_bad.ipynb")


def test_without_a_terminal_there_is_a_line_at_each_start_and_end(series):
    log = series[0].stdout
    assert "\r" not in log
    assert "\x1b" not in log
    assert len(re.findall(r"^\w+: started", log, re.MULTILINE)) == 4
    ends, _ = log.split("\n\n")
    assert len(re.findall(r"^\w+: \d+ s", ends, re.MULTILINE)) == 4


def test_kernel_is_this_python_in_the_callers_folder_with_its_share_of_the_cores(series):
    python, folder, threads, *rest = texts(series[1] / "out" / "01_good.ipynb").split()
    assert python == sys.executable
    assert Path(folder) == series[1].resolve()
    assert int(threads) == max(1, joblib.cpu_count() // 2)
    assert rest == ["PASSIVE", "1"]


def test_peak_memory_is_the_kernels(series):
    peak = int(re.search(r"01_good: \d+ s, (\d+) MB", series[0].stdout)[1])
    assert 400 < peak < 800  # what the notebook takes, and the interpreter


def test_logs_stay_for_failures_only(series):
    logs = sorted(file.stem for file in (series[1] / "out").glob("*.log"))
    assert logs == ["02_bad", "03_dead", "04_odd"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-p", "sead=1"], "did you mean 'seed'"),
        (["-p", "seed=one"], "'seed' takes int, not 'one'"),
        (["-p", "seed=1.5"], "'seed' takes int, not 1.5"),
        (["-p", "counts=50"], "'counts' takes list"),
        (["-p", "seed=1,2"], "'seed' takes int, not (1, 2)"),
        (["-p", "seed"], "not of the form name=value"),
        (["--grid", "seed=1,two"], "'seed' takes int"),
        (["--grid", "sead=1,2"], "did you mean 'seed'"),
        (["--grid", "seed=1,2", "-p", "lr=[]"], "'lr' takes float"),
        (["--refresh", "-p", "seed=1"], "Only -p size=... goes with --refresh"),
        (["--refresh", "--grid", "seed=1,2"], "Only -p size=... goes with --refresh"),
        (["-p", "counts="], "'counts' takes list"),
        (["--grid", "seed="], "'seed=' is not of the form name=value"),
        (["--grid", "train_file="], "'train_file=' is not of the form name=value"),
        (["--grid", "seed=1", "seed=2"], "'seed' is named twice: a grid takes seed=1,2"),
        (["-p", "seed=1", "-p", "seed=2"], "'seed' is named twice"),
        (["--jobs", "0"], "--jobs takes 1 or more, or -1 for one a core, not 0"),
        (["--grid", "seed=1", "--jobs", "0"], "--jobs takes 1 or more"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(tmp_path, capsys, options, message):
    file = notebook(tmp_path / "01_x.ipynb", "raise RuntimeError")
    assert run(file, "--output", tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["notebooks", "data/records"])
def test_output_never_goes_where_the_notebooks_or_their_records_are(tmp_path, capsys, place):
    file = notebook(tmp_path / "notebooks" / "01_x.ipynb", "x = 1")
    before, output = file.read_bytes(), tmp_path / place
    assert run(file, "--output", output) == 2
    assert "would overwrite what is there" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_output_that_cannot_be_written_and_a_folder_are_one_sentence(tmp_path, capsys):
    file, taken = notebook(tmp_path / "01_x.ipynb"), tmp_path / "taken"
    taken.write_text("")
    for options in ([file, "--output", taken], [file, "--output", taken / "below"], [tmp_path]):
        for grid_too in ([], ["--grid", "seed=1"]):
            assert run(*options, *grid_too) == 2
            error = capsys.readouterr().err
            assert error.startswith("error: ")
            assert error.count("\n") == 1
            assert str(options[-1]) in error


def test_two_notebooks_of_one_name_would_share_their_output(tmp_path, capsys):
    files = [notebook(tmp_path / folder / "01_x.ipynb") for folder in ("a", "b")]
    assert run(*files, "--output", tmp_path / "out") == 2
    assert "no two may have the same name" in capsys.readouterr().err


NO_NOTEBOOKS = ["", "{}", "[]", "null", "no JSON", "\xff", '{"cells": 3, "metadata": {}}',
                '{"cells": [], "metadata": 1, "nbformat": 4, "nbformat_minor": 5}']  # fmt: skip


@pytest.mark.parametrize("text", NO_NOTEBOOKS)
def test_a_file_that_is_no_notebook_does_not_stop_the_others(tmp_path, capsys, monkeypatch, text):
    odd, good = tmp_path / "00_odd.ipynb", notebook(tmp_path / "01_x.ipynb")
    odd.write_bytes(text.encode("latin-1"))
    work = runner.run_all  # the good one without a kernel
    done = lambda job, *_, **__: replace(job, seconds=1.0, error="")  # noqa: E731
    monkeypatch.setattr(runner, "run_all", lambda jobs, n, _: work(jobs, n, done))
    assert run(odd, good, "--output", tmp_path / "out") == 1
    out = capsys.readouterr().out
    assert re.search(r"^00_odd: .*FAILED .*00_odd.ipynb is no notebook: \S.*$", out, re.MULTILINE)
    assert "01_x: 1 s" in out
    assert run(odd, "--grid", "seed=1", "--output", tmp_path / "out") == 2
    assert "is no notebook" in capsys.readouterr().err


def test_a_missing_notebook_is_named(capsys):
    assert run("nowhere.ipynb") == 2
    assert "No such file or directory: 'nowhere.ipynb'" in capsys.readouterr().err


def test_command_line_values_get_the_type_of_the_parameter(tmp_path):
    file = notebook(tmp_path / "01_x.ipynb")
    given = ["counts=[50, 200]", "lr=1e-3", "seed=7", "train_file=007"]
    expected = {"counts": [50, 200], "lr": 1e-3, "seed": 7, "train_file": "007"}
    assert runner.plan(file, given, tmp_path).parameters == expected
    job = runner.plan(file, [], tmp_path)
    given = ["counts=[50],[50, 200]", "train_file=a.csv,b.csv"]
    values = runner.assigned(nbformat.read(file, 4), given, several=True)
    assert values == {"counts": [[50], [50, 200]], "train_file": ["a.csv", "b.csv"]}
    both = [("[50]", "a"), ("[50]", "b"), ("[50, 200]", "a"), ("[50, 200]", "b")]
    names = [p.output.name for p in runner.points(job, values, tmp_path)]
    assert len(set(names)) == len(both)


def test_planning_a_run_imports_neither_torch_nor_grammars(tmp_path):
    file = notebook(tmp_path / "tiny.ipynb", "pass")
    code = "import sys; from pathlib import Path; from helpers.series import runner; "
    code += (
        "runner.plan(Path(sys.argv[1]), [], Path('out')); print({'torch', 'lark'} & {*sys.modules})"
    )
    found = subprocess.check_output([sys.executable, "-c", code, file], text=True)
    assert found.strip() == "set()"
    known = {k: v for k, v in results.machine().items() if k in results.PACKAGES}
    assert provenance.versions() == known


@pytest.mark.parametrize(("size", "read"), [("quick", set()), ("default", {"bbc_news"})])
def test_a_quick_run_does_not_read_every_byte_of_the_cache(tmp_path, monkeypatch, size, read):
    fetched = []
    monkeypatch.setattr(runner.assets, "is_cached", lambda name: True)
    monkeypatch.setattr(runner.assets, "fetch", fetched.append)
    monkeypatch.setattr(runner, "run_all", lambda jobs, *_: jobs)
    file = notebook(tmp_path / "tiny.ipynb", 'name = "bbc_news"')
    assert run(file, "-p", f"size={size}", "--output", tmp_path / "out") == 0
    assert fetched == [read]


def test_terminal_gets_a_bar_over_the_notebooks(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    done = lambda job, **_: replace(job, seconds=75.2, error="")  # noqa: E731
    jobs = [Job(Path(name), Path(name)) for name in ("a", "b")]
    assert [job.name for job in runner.run_all(jobs, work=done)] == ["a", "b"]
    told = capsys.readouterr()
    assert "2/2" in told.err
    assert "a: 75 s" in told.out


def wait_for(condition, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def alive(pid_file: Path) -> bool:
    try:
        return psutil.Process(int(pid_file.read_text())).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_timeout_ends_the_notebook_and_its_kernel(tmp_path, monkeypatch):
    slow = (
        "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(99)"
    )
    job = runner.plan(notebook(tmp_path / "01_slow.ipynb", slow), [], tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    wait = subprocess.Popen.wait

    def until_it_runs(child, timeout=None):
        if timeout is None:
            return wait(child)
        wait_for((tmp_path / "pid").exists)
        return wait(child, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", until_it_runs)
    with pytest.raises(subprocess.TimeoutExpired):
        runner.execute(job, timeout=1)
    wait_for(lambda: not alive(tmp_path / "pid"), seconds=60)


def test_plain_papermill_fails_at_the_first_cell_for_a_mistyped_parameter(tmp_path):
    file = notebook(tmp_path / "01_x.ipynb", "print('too late')")
    command = [sys.executable, "-m", "papermill", file, "out.ipynb", "-p", "n_lables", "5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert (
        "ParameterError: There is no parameter 'n_lables': did you mean 'n_labels'?" in done.stderr
    )
    assert "too late" not in texts(tmp_path / "out.ipynb")


TALLY = """import os, pathlib, time
with open("tally.txt", "a") as file: file.write(f"{seed}\\n")
pathlib.Path(f"pid{seed}").write_text(str(os.getpid()))
assert seed != 2, "no luck with two"
while seed == 3 and not pathlib.Path("go").exists(): time.sleep(0.1)
"""


def finished(copy: Path) -> bool:
    return copy.exists() and '"point"' in copy.read_text()


def test_a_killed_grid_goes_on_where_it_was(tmp_path):
    file, out = notebook(tmp_path / "01_x.ipynb", TALLY, RECORD), tmp_path / "out" / "01_x"
    command = [sys.executable, "-m", "helpers", "run", file, "--grid", "seed=1,2,3", "n_labels=10"]
    command += ["--output", "out", "--jobs", "2"]
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            wait_for(
                lambda: (tmp_path / "pid3").exists() and any(map(finished, out.glob("seed=1*b")))
            )
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()
    wait_for(lambda: not alive(tmp_path / "pid3"), seconds=60)
    (tmp_path / "go").touch()
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 1  # seed 2 fails, and nothing else
    assert second.stdout.count("started") == 2  # seed 1 was finished
    assert re.search(r"seed=2\S+: .*AssertionError: no luck with two", second.stdout)
    tally = (tmp_path / "tally.txt").read_text().split()
    assert (tally.count("1"), tally.count("2"), tally.count("3")) == (1, 2, 2)

    assert sorted(results.read(out)["value"]) == pytest.approx([0.6, 0.8])
    page = (out / "index.html").read_text()
    points = sorted(copy.name for copy in out.glob("*.ipynb"))
    assert sorted(re.findall(r'href="([^"]*)"', page)) == points
    assert page.count("AssertionError: no luck with two") == 1
    assert "Lucky guess (n_labels=10)" in page
    assert "0.7" in page  # the league table's mean of the seeds


def point(file: Path, **values) -> Job:
    """One point of a grid over a notebook, beside it; done if it is finished."""
    base = runner.plan(file, [], file.parent)
    (job,) = runner.points(base, {name: [value] for name, value in values.items()}, file.parent)
    return job


def finish(job: Job, rows: str = "") -> None:
    """The job ends well, without a kernel."""
    job.records.write_text(rows)
    node = nbformat.read(job.notebook, 4)
    n = len(rows.splitlines())
    node.metadata["run"] = job.made_of | {"records": n, "seconds": 1.0, "peak_mb": 2.0}
    nbformat.write(node, job.output)


def test_finished_points_run_again_when_code_or_file_changed(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("text,label\n")
    file = notebook(tmp_path / "01_x.ipynb")
    finish(point(file, train_file=str(own)))
    assert point(file, train_file=str(own)).error == ""
    assert point(file, train_file="other.csv").error is None
    own.write_text("text,label\nfine,1\n")
    assert point(file, train_file=str(own)).error is None
    finish(point(file, train_file=str(own)))
    assert point(notebook(file, "x = 1"), train_file=str(own)).error is None


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "3", '{"cells": []}', "\0"])
def test_a_damaged_copy_means_that_a_point_runs_again(tmp_path, damage):
    job = point(notebook(tmp_path / "01_x.ipynb"), seed=1)
    finish(job)
    job.output.write_text(damage)
    assert point(job.notebook, seed=1).error is None


@pytest.mark.parametrize("damage", ['{"metric": "', "", '{"metric": "x"}\n{"metric": "x"}\n'])
def test_records_that_changed_mean_that_a_point_runs_again(tmp_path, damage):
    job = point(notebook(tmp_path / "01_x.ipynb"), seed=1)
    finish(job, '{"metric": "x"}\n')
    assert point(job.notebook, seed=1).seconds == 1.0
    job.records.write_text(damage)
    assert point(job.notebook, seed=1).error is None
    job.records.unlink()
    assert point(job.notebook, seed=1).error is None


def test_a_point_that_failed_is_not_finished_though_its_notebook_has_facts(tmp_path):
    file = notebook(tmp_path / "01_x.ipynb", "1 / 0")
    node = nbformat.read(file, 4)
    node.metadata["run"] = stamp(node) | {"records": 0, "seconds": 1.0, "peak_mb": 2.0}
    nbformat.write(node, file)
    job = runner.execute(point(file, seed=1))
    assert "ZeroDivisionError" in job.error
    assert job.output.exists()
    assert point(file, seed=1).error is None


def test_long_and_odd_texts_make_a_grid(tmp_path):
    links = ["javascript:alert(1).ipynb", "<script>alert(2)</script>", "a" * 5000, "語" * 300, "\0"]
    base = runner.plan(notebook(tmp_path / "01_x.ipynb"), [], tmp_path)
    jobs = runner.points(base, {"train_file": links}, tmp_path)
    assert len({job.output for job in jobs}) == len(links)
    assert all(len(os.fsencode(job.output.name)) < 120 for job in jobs)
    for job in jobs:
        job.records.write_text(json.dumps({"method": "<b>", "metric": "x", "value": 1}) + "\n")
    jobs = [replace(job, seconds=1.0, error="") for job in jobs]
    jobs[-1] = replace(jobs[-1], error="<script>")
    runner.index(jobs, ["train_file"], tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert re.findall(r'href="([^"]*)"', page) == [job.output.name for job in jobs]
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;b&gt; (train_file=javascript:alert(1).ipynb)" in page


def test_two_runs_of_one_folder_do_not_mix(tmp_path, capsys):
    file, out = notebook(tmp_path / "01_x.ipynb"), tmp_path / "out"
    for folder, grid_too in ((out, []), (out / "01_x", ["--grid", "seed=1"])):
        with FileLock(folder / ".lock"):
            assert run(file, "--output", out, *grid_too) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: Another run writes there, wait for its end: ")
        assert str(folder / ".lock") in error
        assert error.count("\n") == 1


def test_grid_runs_on_dask(tmp_path, capfd):
    from distributed import Client

    file = notebook(tmp_path / "01_x.ipynb", RECORD)
    with (
        Client(n_workers=1, threads_per_worker=1, dashboard_address=None),
        joblib.parallel_config("dask"),
    ):
        assert run(file, "-p", "lr=0.5", "--grid", "seed=4", "--output", tmp_path / "out") == 0
    assert re.search(r"^seed=4\S+: .*, Lucky guess: accuracy 0.900$", capfd.readouterr().out, re.M)


def test_refresh_writes_outputs_measures_and_records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bar = f"display({{'{runner.WIDGET}': {{}}, 'text/plain': '0%|     |'}}, raw=True)"
    good = notebook(tmp_path / "notebooks" / "01_good.ipynb", RECORD, bar, "print('a result')")
    noisy = notebook(
        tmp_path / "notebooks" / "02_noisy.ipynb",
        "import sys",
        "print('qui', end='', flush=True)\nprint('!', file=sys.stderr, flush=True)\nprint('et')",
    )
    made_of = stamp(nbformat.read(good, 4))
    assert run(good, noisy, "--refresh", "--jobs", "2") == 0
    assert texts(noisy) == "quiet\n"
    assert not (tmp_path / "data" / "records" / "02_noisy.jsonl").exists()

    node = nbformat.read(good, 4)
    nbformat.validate(node)
    assert set(node.metadata) == {"kernelspec", "language_info", "run"}
    facts = node.metadata.run
    assert {kind: facts[kind] for kind in made_of} == made_of == stamp(node)
    assert facts.size == "default"
    assert facts.seconds > 0
    assert facts.peak_mb > 0
    assert facts.date[:2] == "20"
    assert {"system", "processor", "cores", "device", "python"} <= set(facts.machine)
    assert re.search(r"^\*Default run:\* \d+:\d\d minutes, 0\.\d GB of memory, on \d+ CPU cores\.$",
                     node.cells[0].source, re.MULTILINE)  # fmt: skip
    assert [dict(c.metadata) for c in node.cells] == [{}, {"tags": ["parameters"]}, *[{}] * 4]
    assert not any(
        runner.WIDGET in o.get("data", {}) for c in node.cells for o in c.get("outputs", [])
    )
    assert texts(good) == "a result\n"
    records = tmp_path / "data" / "records" / "01_good.jsonl"
    assert results.facts(records) == facts
    assert len(records.read_text().splitlines()) == 2
    assert results.read(records)["value"].tolist() == [0.5]


def test_a_notebook_saved_while_it_ran_is_left_as_it_was_saved(tmp_path, monkeypatch, capsys):
    save = "import pathlib\nfile = pathlib.Path('notebooks/01_x.ipynb')\n"
    save += "file.write_text(file.read_text().replace('Nothing comes first', 'My new words'))"
    file = notebook(tmp_path / "notebooks" / "01_x.ipynb", RECORD, save)
    monkeypatch.chdir(tmp_path)
    assert run(file, "--refresh") == 1
    node = nbformat.read(file, 4)
    assert "My new words" in node.cells[0].source
    assert not any(cell.get("outputs") for cell in node.cells)
    assert not (tmp_path / "data" / "records" / "01_x.jsonl").exists()
    assert "the notebook changed while it ran" in capsys.readouterr().out


def test_code_that_changed_while_it_ran_keeps_nothing(tmp_path, monkeypatch):
    file = notebook(tmp_path / "notebooks" / "01_x.ipynb")
    job, before = runner.plan(file, [], tmp_path / "out"), file.read_bytes()
    job = replace(job, made_of=job.made_of | {"helpers": "of then"})
    monkeypatch.setattr(runner, "execute", lambda job: replace(job, seconds=1.0, error=""))
    assert "helpers changed while it ran" in runner.recorded(job).error
    assert file.read_bytes() == before


def test_the_failing_line_of_a_cell_is_named(tmp_path):
    deep = "def inner(x):\n    return 1 / x\n"
    cell = "a = 1\n\n# a comment\nb = [\n    inner(0),\n]\nc = 3"
    file = notebook(tmp_path / "01_x.ipynb", deep, cell)
    job = runner.execute(runner.plan(file, [], tmp_path / "out"))
    assert job.error == "In [4] `inner(0),`: ZeroDivisionError: division by zero"


def test_a_line_of_two_million_characters_takes_no_time(tmp_path):
    file = notebook(tmp_path / "01_x.ipynb", "print('x' * 2_000_000)")
    job = runner.execute(runner.plan(file, [], tmp_path / "out"), timeout=180)
    assert job.error == ""
    assert texts(job.output) == "x" * 2_000_000 + "\n"


def test_outputs_are_put_back_without_warnings_and_bars_and_with_streams_joined(tmp_path):
    def stream(text, name="stdout"):
        return nbformat.v4.new_output("stream", text=text, name=name)

    job = runner.plan(notebook(tmp_path / "01_x.ipynb", "a"), [], tmp_path / "out")
    shown, bar = (nbformat.v4.new_output("display_data", {kind: "x"})
                  for kind in ("text/plain", runner.WIDGET))  # fmt: skip
    node = nbformat.read(job.notebook, 4)
    node.cells[3].outputs = [stream("a\n"), stream("b"), stream("!", "stderr"), stream("c\n"),
                             shown, bar, stream("d")]  # fmt: skip
    provenance.write(job.output, nbformat.writes(node))
    outputs = runner.renewed(job).cells[3].outputs
    assert [o.get("text") for o in outputs] == ["a\nbc\n", None, "d"]
    assert runner.renewed(job, shows="b").cells[3].outputs == []


def test_writes_of_two_threads_do_not_meet(tmp_path):
    names = set()

    def note(part, file):
        names.add(part)
        Path(part).unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", note)
        with ThreadPoolExecutor(2) as pool:
            gate = threading.Barrier(2)
            work = lambda _: (gate.wait(), provenance.write(tmp_path / ("x" * 250), "text"))  # noqa: E731
            list(pool.map(work, range(2)))
    assert len(names) == 2


def test_writes_are_all_or_nothing(tmp_path, monkeypatch):
    file = tmp_path / "x.json"
    provenance.write(file, "old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        provenance.write(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file], "a part stays behind"

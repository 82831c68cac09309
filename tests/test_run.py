"""The runner on tiny notebooks: real papermill, real failing cells, a real kill."""

import argparse
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
import pandas as pd
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers.__main__ import build_parser
from helpers.evaluation import records as results
from helpers.series import execution, grid, readme, runner
from helpers.series.execution import Job
from helpers.series.provenance import stamp

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


def arguments(*texts) -> argparse.Namespace:
    return build_parser().parse_args(["run", *map(str, texts)])


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
    lines = done.stdout.split("notebook  seconds")[1].splitlines()
    assert re.search(r"01_good +\d+ +\d+  Lucky guess: accuracy 0.500 \[0.400, 0.900\] \(coins\)",
                     lines[1])  # fmt: skip
    assert "FAILED In [4] `1 / divisor`: ZeroDivisionError: division by zero" in lines[2]
    assert re.search(r"FAILED cell 5: DeadKernelError", lines[3])
    assert re.search(r"FAILED In \[3\] `x = \(`: SyntaxError", lines[4])
    assert lines[-1] == "Open out"
    assert "never" not in texts(folder / "out" / "02_bad.ipynb")


def test_without_a_terminal_there_is_a_line_at_each_start_and_end(series):
    log = series[0].stdout
    assert "\r" not in log
    assert "\x1b" not in log
    assert len(re.findall(r"^\w+: started", log, re.MULTILINE)) == 4
    assert len(re.findall(r"^\w+: (done|FAILED)", log, re.MULTILINE)) == 4


def test_kernel_is_this_python_in_the_callers_folder_with_its_share_of_the_cores(series):
    python, folder, threads, *rest = texts(series[1] / "out" / "01_good.ipynb").split()
    assert python == sys.executable
    assert Path(folder) == series[1].resolve()
    assert int(threads) == max(1, joblib.cpu_count() // 2)
    assert rest == ["PASSIVE", "1"]


def test_peak_memory_is_the_kernels(series):
    peak = int(re.search(r"01_good +\d+ +(\d+)", series[0].stdout)[1])
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
        (["-p", "seed"], "not of the form name=value"),
        (["--grid", "seed=1,two"], "'seed' takes int"),
        (["--grid", "sead=1,2"], "did you mean 'seed'"),
        (["--grid", "seed=1,2", "-p", "lr=[]"], "'lr' takes float"),
        (["--record", "-p", "seed=1"], "Only -p size=... goes with --record"),
        (["--refresh", "-p", "size=full"], "nothing with --refresh"),
        (["--record", "--grid", "seed=1,2"], "Only -p size=... goes with --record"),
        (["--grid", "seed="], "'seed=' is not of the form name=value"),
        (["--grid", "train_file="], "'train_file=' is not of the form name=value"),
        (["--grid", "seed=1", "seed=2"], "'seed' is named twice: a grid takes seed=1,2"),
        (["-p", "seed=1", "-p", "seed=2"], "'seed' is named twice"),
        (["--grid", "seed=1,2", "-p", "seed=3"], "seed stands in both -p and --grid"),
        (["--jobs", "0"], "--jobs takes 1 or more, or -1 for one a core, not 0"),
        (["--grid", "seed=1", "--jobs", "0"], "--jobs takes 1 or more"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(tmp_path, capsys, options, message):
    file = notebook(tmp_path / "01_x.ipynb", "raise RuntimeError")
    assert runner.main(arguments(file, "--output", tmp_path / "out", *options)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["notebooks", "data/records"])
def test_output_never_goes_where_the_notebooks_or_their_records_are(tmp_path, capsys, place):
    file = notebook(tmp_path / "notebooks" / "01_x.ipynb", "x = 1")
    before, output = file.read_bytes(), tmp_path / place
    assert runner.main(arguments(file, "--output", output)) == 2
    assert "would overwrite what is there" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_output_that_cannot_be_written_and_a_folder_are_one_sentence(tmp_path, capsys):
    file, taken = notebook(tmp_path / "01_x.ipynb"), tmp_path / "taken"
    taken.write_text("")
    for options in ([file, "--output", taken], [file, "--output", taken / "below"], [tmp_path]):
        for grid_too in ([], ["--grid", "seed=1"]):
            assert runner.main(arguments(*options, *grid_too)) == 2
            error = capsys.readouterr().err
            assert error.startswith("error: ")
            assert error.count("\n") == 1
            assert str(options[-1]) in error


def test_two_notebooks_of_one_name_would_share_their_output(tmp_path, capsys):
    files = [notebook(tmp_path / folder / "01_x.ipynb") for folder in ("a", "b")]
    assert runner.main(arguments(*files, "--output", tmp_path / "out")) == 2
    assert "the same name" in capsys.readouterr().err


NO_NOTEBOOKS = ["", "{}", "[]", "null", "no JSON", "\xff", '{"cells": 3, "metadata": {}}',
                '{"cells": [], "metadata": 1, "nbformat": 4, "nbformat_minor": 5}']  # fmt: skip


@pytest.mark.parametrize("text", NO_NOTEBOOKS)
def test_a_file_that_is_no_notebook_does_not_stop_the_others(tmp_path, capsys, monkeypatch, text):
    odd, good = tmp_path / "00_odd.ipynb", notebook(tmp_path / "01_x.ipynb")
    odd.write_bytes(text.encode("latin-1"))
    work = execution.run_all  # the good one without a kernel
    done = lambda job, *_, **__: replace(job, seconds=1.0, error="")  # noqa: E731
    monkeypatch.setattr(runner, "run_all", lambda jobs, n, _: work(jobs, n, done))
    assert runner.main(arguments(odd, good, "--output", tmp_path / "out")) == 1
    out = capsys.readouterr().out
    assert re.search(
        r"^00_odd +0 +0  FAILED .*00_odd.ipynb is no notebook: \S.*$", out, re.MULTILINE
    )
    assert "01_x: done" in out
    assert runner.main(arguments(odd, "--grid", "seed=1", "--output", tmp_path / "out")) == 2
    assert "is no notebook" in capsys.readouterr().err


def test_a_missing_notebook_is_named(capsys):
    assert runner.main(arguments("nowhere.ipynb")) == 2
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
    names = [p.output.name for p in grid.points(job, values, tmp_path)]
    assert len(set(names)) == len(both)


def test_terminal_gets_a_bar_over_the_notebooks(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    done = lambda job, **_: replace(job, seconds=75.2, error="")  # noqa: E731
    jobs = [Job(Path(name), Path(name)) for name in ("a", "b")]
    assert [job.name for job in execution.run_all(jobs, work=done)] == ["a", "b"]
    told = capsys.readouterr()
    assert "2/2" in told.err
    assert "a: done, 75 s" in told.out


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def alive(pid_file: Path) -> bool:
    try:
        return psutil.Process(int(pid_file.read_text())).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_timeout_ends_the_notebook_and_its_kernel(tmp_path):
    slow = (
        "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(99)"
    )
    job = runner.plan(notebook(tmp_path / "01_slow.ipynb", slow), [], tmp_path / "out")
    outcome = execution.execute(job, timeout=20, cwd=tmp_path)
    assert "stopped" in outcome.error
    wait_for(lambda: not alive(tmp_path / "pid"), seconds=10)


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


def test_a_killed_grid_goes_on_where_it_was(tmp_path):
    file, out = notebook(tmp_path / "01_x.ipynb", TALLY, RECORD), tmp_path / "out" / "01_x"
    command = [sys.executable, "-m", "helpers", "run", file, "--grid", "seed=1,2,3", "n_labels=10"]
    command += ["--output", "out", "--jobs", "2"]
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        wait_for(lambda: (tmp_path / "pid3").exists() and list(out.glob("seed=1*.done")))
        first.send_signal(signal.SIGKILL)
        first.wait()
    wait_for(lambda: not alive(tmp_path / "pid3"), seconds=10)
    (tmp_path / "go").touch()
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert second.returncode == 1  # seed 2 fails, and nothing else
    assert "1 of 3 points were finished before" in second.stdout
    assert re.search(r"seed=2\S+ .*AssertionError: no luck with two", second.stdout)
    tally = (tmp_path / "tally.txt").read_text().split()
    assert (tally.count("1"), tally.count("2"), tally.count("3")) == (1, 2, 2)

    table = pd.read_parquet(out / "index.parquet")
    assert [bool(error) for error in table["error"]] == [False, True, False]
    assert table["seed"].tolist() == [1, 2, 3]
    assert pd.read_parquet(out / "records.parquet")["value"].tolist() == pytest.approx([0.6, 0.8])
    page = (out / "index.html").read_text()
    assert all(f'href="{name}"' in page for name in table["notebook"])
    assert "Lucky guess (n_labels=10)" in page
    assert "0.7" in page  # the league table's mean of the seeds


def test_finished_points_run_again_when_code_or_file_changed(tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("text,label\n")
    job = runner.plan(notebook(tmp_path / "01_x.ipynb"), [f"train_file={own}"], tmp_path)
    file, made_of = grid._marker(job)
    took = {"took": {"seconds": 1.0, "peak_mb": 2.0, "error": ""}, "records": ""}
    job.output.touch()
    file.write_text(json.dumps(made_of | took))
    assert grid._resumed(job).seconds == 1.0
    own.write_text("text,label\nfine,1\n")
    assert grid._resumed(job).seconds is None
    own.unlink()
    job = runner.plan(notebook(tmp_path / "01_x.ipynb", "x = 1"), [], tmp_path)
    assert grid._resumed(job).seconds is None


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "3", '{"took": 1, "records": ""}'])
def test_a_damaged_marker_means_that_a_point_runs_again(tmp_path, damage):
    job = runner.plan(notebook(tmp_path / "01_x.ipynb"), [], tmp_path)
    grid._marker(job)[0].write_text(damage)
    assert grid._resumed(job).error is None


def test_records_that_changed_mean_that_a_point_runs_again(tmp_path):
    job = runner.plan(notebook(tmp_path / "01_x.ipynb"), [], tmp_path / "out")
    done = lambda job, *_, **__: replace(job, seconds=1.0, peak_mb=2.0, error="")  # noqa: E731
    execution.write(job.records, '{"metric": "x"}\n')
    execution.write(job.output, "{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "execute", done)
        grid._point(job)
    assert grid._resumed(job).seconds == 1.0
    job.records.write_text('{"metric": "')  # half of it
    assert grid._resumed(job).error is None
    job.records.unlink()
    assert grid._resumed(job).error is None


def test_long_and_odd_texts_make_a_grid(tmp_path, monkeypatch):
    done = lambda job, *_, **__: replace(job, seconds=1.0, peak_mb=2.0, error="")  # noqa: E731
    monkeypatch.setattr(grid, "execute", done)
    links = ["javascript:alert(1).ipynb", "<script>alert(2)</script>", "a" * 5000, "語" * 300, "\0"]
    file = notebook(tmp_path / "01_x.ipynb")
    jobs = grid.run(runner.plan(file, [], tmp_path), {"train_file": links}, tmp_path / "out")
    assert [job.error for job in jobs] == [""] * len(links)
    assert all(len(os.fsencode(job.output.name)) < 120 for job in jobs)
    page = (tmp_path / "out" / "index.html").read_text()
    assert re.findall(r'href="([^"]*)"', page) == [job.output.name for job in jobs]
    assert "<script>" not in page
    assert page.count("javascript:alert(1).ipynb") == 1


def test_two_runs_of_one_folder_do_not_mix(tmp_path, capsys):
    file, out = notebook(tmp_path / "01_x.ipynb"), tmp_path / "out"
    with execution.alone(out):
        assert runner.main(arguments(file, "--output", out)) == 2
    assert f"Another run writes to {out}" in capsys.readouterr().err
    with execution.alone(out / "01_x"):
        assert runner.main(arguments(file, "--output", out, "--grid", "seed=1")) == 2
    assert "Another run writes to" in capsys.readouterr().err


def test_a_point_that_fails_again_is_no_longer_finished(tmp_path):
    job = runner.plan(notebook(tmp_path / "01_x.ipynb", "1 / 0"), [], tmp_path / "out")
    file, made_of = grid._marker(job)
    execution.write(file, json.dumps(made_of | {"took": {"seconds": 1.0}}))
    assert "ZeroDivisionError" in grid._point(job).error
    assert not file.exists()


def test_grid_runs_on_dask(tmp_path, capfd):
    from distributed import Client

    job = runner.plan(notebook(tmp_path / "01_x.ipynb", RECORD), ["lr=0.5"], tmp_path)
    with (
        Client(n_workers=1, threads_per_worker=1, dashboard_address=None),
        joblib.parallel_config("dask"),
    ):
        (done,) = grid.run(job, {"seed": [4]}, tmp_path / "out")
    assert done.error == ""
    assert runner.main_result(done.records).startswith("Lucky guess: accuracy 0.900")
    assert capfd.readouterr().out.count("done") == 1


def test_refresh_writes_outputs_measures_and_records(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bar = f"display({{'{runner.WIDGET}': {{}}, 'text/plain': '0%|     |'}}, raw=True)"
    good = notebook(tmp_path / "notebooks" / "01_good.ipynb", RECORD, bar, "print('a result')")
    noisy = notebook(
        tmp_path / "notebooks" / "02_noisy.ipynb", "import sys", "sys.stderr.write('!')"
    )
    before, made_of = noisy.read_text(), stamp(nbformat.read(good, 4))
    assert runner.main(arguments(good, noisy, "--refresh", "--jobs", "2")) == 1
    assert noisy.read_text() == before
    assert not (tmp_path / "data" / "records" / "02_noisy.jsonl").exists()

    node = nbformat.read(good, 4)
    nbformat.validate(node)
    assert set(node.metadata) == {"kernelspec", "language_info", "run"}
    run = node.metadata.run
    assert {kind: run[kind] for kind in made_of} == made_of == stamp(node)
    assert run.size == "default"
    assert run.seconds > 0
    assert run.peak_mb > 0
    assert run.date[:2] == "20"
    assert {"system", "processor", "cores", "device", "python"} == set(run.machine)
    assert re.search(r"^\*Default run:\* \d+:\d\d minutes, 0\.\d GB of memory, on \d+ CPU cores\.$",
                     node.cells[0].source, re.MULTILINE)  # fmt: skip
    assert [dict(c.metadata) for c in node.cells] == [{}, {"tags": ["parameters"]}, *[{}] * 4]
    assert not any(
        runner.WIDGET in o.get("data", {}) for c in node.cells for o in c.get("outputs", [])
    )
    assert texts(good) == "a result\n"
    records = tmp_path / "data" / "records" / "01_good.jsonl"
    assert results.facts(records) == run
    assert len(records.read_text().splitlines()) == 2
    assert results.read(records)["value"].tolist() == [0.5]


def test_a_notebook_saved_while_it_ran_is_left_as_it_was_saved(tmp_path, monkeypatch):
    save = "import pathlib\nfile = pathlib.Path('notebooks/01_x.ipynb')\n"
    save += "file.write_text(file.read_text().replace('Nothing comes first', 'My new words'))"
    file = notebook(tmp_path / "notebooks" / "01_x.ipynb", RECORD, save)
    monkeypatch.chdir(tmp_path)
    assert runner.main(arguments(file, "--refresh")) == 1
    node = nbformat.read(file, 4)
    assert "My new words" in node.cells[0].source
    assert not any(cell.get("outputs") for cell in node.cells)
    assert not (tmp_path / "data" / "records" / "01_x.jsonl").exists()


def test_code_that_changed_while_it_ran_keeps_nothing(tmp_path, monkeypatch):
    file = notebook(tmp_path / "notebooks" / "01_x.ipynb")
    job, before = runner.plan(file, [], tmp_path / "out"), file.read_bytes()
    job = replace(job, made_of=job.made_of | {"helpers": "of then"})
    monkeypatch.setattr(runner, "execute", lambda job: replace(job, seconds=1.0, error=""))
    assert "helpers changed while it ran" in runner.recorded(job, refresh=True).error
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "text", ["a\n{0}\nb\n", "a\n{1}\nb\n{0}\nc\n", "{0}\n{0}\n{1}\n", "none\n"]
)
def test_a_readme_with_a_lone_mark_is_refused_before_anything_runs(tmp_path, capsys, text):
    readme_file = tmp_path / "README.md"
    readme_file.write_text(text := text.format(readme.START, readme.END))
    file = notebook(tmp_path / "notebooks" / "01_x.ipynb", RECORD)
    assert runner.main(arguments(file, "--record", "--output", tmp_path / "out")) == 2
    assert "once each" in capsys.readouterr().err
    assert readme_file.read_text() == text
    assert not (tmp_path / "out").exists()


def test_the_failing_line_of_a_cell_is_named(tmp_path):
    deep = "def inner(x):\n    return 1 / x\n"
    cell = "a = 1\n\n# a comment\nb = [\n    inner(0),\n]\nc = 3"
    file = notebook(tmp_path / "01_x.ipynb", deep, cell)
    job = execution.execute(runner.plan(file, [], tmp_path / "out"))
    assert job.error == "In [4] `inner(0),`: ZeroDivisionError: division by zero"


def test_a_line_of_two_million_characters_takes_no_time(tmp_path):
    file = notebook(tmp_path / "01_x.ipynb", "print('x' * 2_000_000)\nprint('0%\\r50%\\r100%')")
    job = execution.execute(runner.plan(file, [], tmp_path / "out"), timeout=60)
    assert job.error == ""
    assert texts(job.output).split() == ["x" * 2_000_000, "100%"]


def test_streams_are_joined_and_carriage_returns_settled():
    def stream(text, name="stdout"):
        return nbformat.v4.new_output("stream", text=text, name=name)

    shown = nbformat.v4.new_output("display_data", {"text/plain": "x"})
    outputs = [stream("a\n10%"), stream("\r99%\r\n"), stream("!", "stderr"), shown, stream("b\rc")]
    found = execution.settled(outputs)
    assert [o.get("text") for o in found] == ["a\n99%\n", "!", None, "c"]


def test_writes_of_two_threads_do_not_meet(tmp_path):
    names = set()

    def note(part, file):
        names.add(part)
        Path(part).unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", note)
        with ThreadPoolExecutor(2) as pool:
            gate = threading.Barrier(2)
            work = lambda _: (gate.wait(), execution.write(tmp_path / ("x" * 250), "text"))  # noqa: E731
            list(pool.map(work, range(2)))
    assert len(names) == 2
    assert str(os.getpid()) in str(names)


def test_writes_are_all_or_nothing(tmp_path, monkeypatch):
    file = tmp_path / "x.json"
    execution.write(file, "old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        execution.write(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file], "a part stays behind"

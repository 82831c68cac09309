"""Finished runs: what is kept, what is made anew."""

import os
import subprocess
import sys

import numpy as np
import pytest

from helpers.evaluation import FinishedRuns, finished_runs
from helpers.evaluation.finished_runs import PACKAGE


@pytest.fixture
def work():
    calls = []

    def train(n: int, seed: int) -> dict:
        calls.append((n, seed))
        return {"predictions": np.arange(n) + seed, "loss": 0.5 * seed, "precision": "bf16"}

    train.calls = calls
    return train


def test_a_run_is_made_once_and_another_process_reads_it(work, tmp_path):
    first = FinishedRuns(tmp_path / "runs", data=["a", "b"])
    made = [first(work, n=3, seed=1), first(work, n=3, seed=1), first(work, n=3, seed=2)]
    later = FinishedRuns(tmp_path / "runs", data=["a", "b"])(work, n=3, seed=1)
    assert work.calls == [(3, 1), (3, 2)]
    assert made[0] is made[1]
    np.testing.assert_array_equal(later["predictions"], made[0]["predictions"])
    assert (later["loss"], later["precision"]) == (0.5, "bf16")


def test_without_a_folder_nothing_is_written(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FinishedRuns()(work, n=2, seed=0)
    assert not list(tmp_path.iterdir())


def test_other_settings_other_keys_and_other_work_are_made_anew(work, tmp_path):
    FinishedRuns(tmp_path, data=["a", "b"])(work, n=3, seed=1)
    FinishedRuns(tmp_path, data=["a", "c"])(work, n=3, seed=1)

    def train(n, seed):
        return {"loss": -1.0}

    assert FinishedRuns(tmp_path, data=["a", "b"])(train, n=3, seed=1)["loss"] == -1
    assert work.calls == [(3, 1), (3, 1)]


def test_other_code_of_helpers_makes_them_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(finished_runs, "PACKAGE", tmp_path)
    bases = set()
    for code in ("x = 1\n", "x = 2\n", "x = 1\n"):
        (tmp_path / "a.py").write_text(code)
        bases.add(FinishedRuns().base)
    assert len(bases) == 2


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"{}"])
def test_a_damaged_file_is_made_anew(work, tmp_path, damage):
    FinishedRuns(tmp_path)(work, n=3, seed=1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert FinishedRuns(tmp_path)(work, n=3, seed=1)["loss"] == 0.5
    assert len(work.calls) == 2
    assert FinishedRuns(tmp_path)(work, n=3, seed=1)["loss"] == 0.5
    assert len(work.calls) == 2, "the mended file is read again"


def test_a_run_that_fails_leaves_nothing(tmp_path):
    def train():
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        FinishedRuns(tmp_path)(train)
    assert not list(tmp_path.iterdir())


def test_a_file_that_would_run_code_is_not_loaded(work, tmp_path):
    FinishedRuns(tmp_path)(work, n=3, seed=1)
    (file,) = tmp_path.iterdir()
    np.savez(file, loss=np.array([object()], dtype=object))  # a pickle inside
    assert FinishedRuns(tmp_path)(work, n=3, seed=1)["loss"] == 0.5


def test_a_cell_that_runs_again_and_a_whole_run_again_find_what_was_made(monkeypatch):
    """After an interruption, say; but not if a cell before is another one."""

    def base(*cells):
        monkeypatch.setattr(sys.modules["__main__"], "In", ["", *cells], raising=False)
        return FinishedRuns().base

    first = base("win", "data", "train")
    assert base("win", "data", "train", "train") == first
    assert base("win", "data", "train", "plot", "win", "data", "train") == first
    assert base("win", "data", "data of mine", "train") != first
    assert base("win", "data", "data of mine", "data", "train") != first, "which data ran last"
    assert base() == base()


SCRIPT = """
import os, sys, time
from pathlib import Path
import numpy as np
import torch
from helpers.evaluation import FinishedRuns

table, folder = np.arange(10), Path(sys.argv[1])  # what `train` reads of its notebook

def train(n, seed):
    if n < 0:  # fails when the others have ended
        while len(list(folder.glob("*.npz"))) < 4:
            time.sleep(0.05)
        raise ValueError(f"n is {n}")
    print("seen by nobody", file=sys.stderr)
    x = torch.ones(n)
    mode = os.environ.get("ACCELERATE_MIXED_PRECISION", "")
    return {"sum": int(table[:n].sum()) + seed, "process": os.getpid(),
            "threads": torch.get_num_threads(), "mode": mode}

if __name__ == "__main__":
    torch.set_num_threads(2)
    keys = [{"n": n, "seed": seed} for n in (3, 2) for seed in (0, 1)]
    %s
"""


def script(tmp_path, body, **env):
    file = tmp_path / "script.py"
    file.write_text(SCRIPT % body.replace("\n", "\n    "))
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), **env}
    command = [sys.executable, file, tmp_path / "kept"]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


def test_runs_side_by_side_are_those_of_one_after_the_other(tmp_path):
    """In processes of one thread, all in one precision, in the order that was asked for."""
    done = script(
        tmp_path,
        """runs = FinishedRuns(workers=2)
found = runs.all(train, [*keys, keys[0]])
assert [each["sum"] for each in found] == [3, 4, 1, 2, 3], found
assert os.getpid() not in {each["process"] for each in found}
assert {each["threads"] for each in found} == {1}, found
assert {each["mode"] for each in found} in ({"no"}, {"bf16"}), found
assert runs(train, **keys[1]) is found[1]""",
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "nobody" not in done.stderr


def test_as_many_run_side_by_side_as_there_are_threads(tmp_path):
    body = "print(sorted({f['threads'] for f in FinishedRuns().all(train, keys)}), os.getpid() in {"
    body += "f['process'] for f in FinishedRuns().all(train, keys)})"
    assert script(tmp_path, body).stdout == "[1] False\n"


def test_runs_side_by_side_take_the_precision_that_was_asked_for(tmp_path):
    body = 'found = FinishedRuns(workers=2).all(train, keys)\nprint({f["mode"] for f in found})'
    assert script(tmp_path, body, ACCELERATE_MIXED_PRECISION="bf16").stdout == "{'bf16'}\n"


def test_a_run_that_alone_is_left_has_the_threads_of_the_others(tmp_path):
    body = """runs = FinishedRuns(workers=2)
runs(train, **keys[0])
print(runs.all(train, keys[:2])[1]["threads"])"""
    assert script(tmp_path, body).stdout == "1\n"


def test_runs_side_by_side_that_ended_are_kept_when_another_fails(tmp_path):
    body = """runs = FinishedRuns(folder, workers=2)
try:
    runs.all(train, [*keys, {"n": -1, "seed": 0}])
except ValueError as error:
    print(error)
found = FinishedRuns(folder, workers=1).all(train, keys)
assert os.getpid() not in {each["process"] for each in found}, found"""
    done = script(tmp_path, body)
    assert (done.returncode, done.stdout) == (0, "n is -1\n"), done.stderr


def test_a_single_run_and_a_single_worker_stay_in_this_process(work, tmp_path):
    FinishedRuns(workers=4).all(work, [{"n": 1, "seed": 0}])
    FinishedRuns(workers=1).all(work, [{"n": 1, "seed": 0}, {"n": 2, "seed": 0}])
    assert work.calls == [(1, 0), (1, 0), (2, 0)]

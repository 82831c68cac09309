"""Finished runs: what is kept, what is made anew."""

import numpy as np
import pytest

from helpers.evaluation import FinishedRuns


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

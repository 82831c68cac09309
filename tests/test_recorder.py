"""Records go to a file and come back; league tables."""

import json
from importlib.metadata import PackageNotFoundError

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.evaluation import Interval
from helpers.evaluation import records as results


def test_a_record_comes_back_with_its_interval_machine_and_versions(tmp_path):
    file = tmp_path / "a" / "02.jsonl"
    records = results.Recorder("02_x", size="quick", file=file)
    interval = Interval(np.float64(0.8), 0.7, 0.9)
    records.add(method="GloVe", metric="accuracy", value=interval, dataset="tweets", n_train=200)
    line = json.loads(file.read_text())
    assert (line["value"], line["low"], line["high"]) == (0.8, 0.7, 0.9)
    assert line["notebook"] == "02_x"
    assert {"torch", "tokenizers", "accelerate", "peft"} <= set(line["machine"])
    assert line["machine"]["processor"] == results.machine()["processor"] != ""
    assert str(tmp_path) not in file.read_text()
    frame = results.read(tmp_path)
    assert frame.loc[0, "method"] == "GloVe"
    assert frame[["value"]].equals(records.table()[["value"]])


def test_a_recorder_starts_its_file_anew_and_the_runner_chooses_the_place(tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_TRANSFER_RECORDS", str(tmp_path / "r.jsonl"))
    for value in (1.0, 2.0):
        results.Recorder("n").add(method="m", metric="accuracy", value=value)
    assert list(results.read(tmp_path / "r.jsonl")["value"]) == [2.0]
    monkeypatch.delenv("NLP_TRANSFER_RECORDS")
    monkeypatch.chdir(tmp_path)
    results.Recorder("n").add(method="m", metric="accuracy", value=3.0)
    assert list(results.read(tmp_path / "build" / "results" / "n.jsonl")["value"]) == [3.0]


def test_an_unknown_field_is_refused(tmp_path):
    records = results.Recorder("n", file=tmp_path / "r.jsonl")
    with pytest.raises(TypeError, match="unknown field sed"):
        records.add(method="m", metric="accuracy", value=1.0, sed=3)


def test_what_records_have_in_common_is_said_once_and_can_be_overruled(tmp_path):
    records = results.Recorder("n", file=tmp_path / "r.jsonl")
    with pytest.raises(TypeError, match="needs a metric"):
        records.add(method="a", value=1.0)
    records.always(metric="accuracy", dataset="tweets")
    records.add(method="a", value=1.0)
    records.add(method="b", value=2.0, metric="macro-F1")
    assert list(records.table()["metric"]) == ["accuracy", "macro-F1"]
    assert set(records.table()["dataset"]) == {"tweets"}


def test_what_a_cell_measures_again_stands_in_the_table_once(tmp_path):
    """As last measured, where it stood; a later cell may pivot the table."""
    records = results.Recorder("n", file=tmp_path / "r.jsonl")
    for value in (1.0, 2.0):
        for method, seed in (("a", None), ("b", "0"), ("b", "1")):
            records.add(method=method, metric="accuracy", value=value, seed=seed)
    table = records.table()
    assert table[["method", "value"]].values.tolist() == [["a", 2.0], ["b", 2.0], ["b", 2.0]]
    assert list(table["seed"])[1:] == ["0", "1"]


def test_records_say_which_precision(tmp_path):
    records = results.Recorder("n", file=tmp_path / "r.jsonl")
    records.always(metric="accuracy", precision="bf16")
    records.add(method="a", value=1.0)
    assert results.read(tmp_path / "r.jsonl").loc[0, "precision"] == "bf16"


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(False, False, "cpu"), (False, True, "mps"), (True, False, "NVIDIA H100")],
)
def test_the_machine_is_told_with_its_device(monkeypatch, cuda, mps, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert results.machine()["device"] == device


def test_the_machine_is_told_where_extras_are_missing(monkeypatch):
    def version(name):
        if name == "peft":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(results, "version", version)
    assert results.machine().keys() & {"peft", "torch"} == {"torch"}


def test_facts_stand_before_the_records_and_are_none(tmp_path):
    file = tmp_path / "r.jsonl"
    results.Recorder("n", file=file).add(method="m\u2028", metric="accuracy", value=1.0)
    assert results.facts(file) == {}
    made = {"commit": "abc", "machine": {"cores": 2}}
    file.write_text(json.dumps({"facts": made}) + "\n" + file.read_text())
    assert results.facts(file) == made
    (record,) = results.read(file).to_dict("records")
    assert record["method"] == "m\u2028"  # ends no line
    assert "facts" not in record
    file.write_text("")
    assert results.facts(file) == {}
    assert results.read(file).empty


@pytest.mark.parametrize("line", ["{", '{"value": 1', "[1]", "3", "\x00", "[" * 100_000])
def test_a_damaged_line_is_named(tmp_path, line):
    file = tmp_path / "r.jsonl"
    file.write_text(f'{{"value": 1}}\n\n{line}\n')
    with pytest.raises(ValueError, match=r"r\.jsonl, line 3, is damaged"):
        results.read(tmp_path)
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match="line 1, is damaged"):
        results.facts(file)


def test_the_league_ranks_within_data_set_and_number_of_labels(tmp_path):
    records = results.Recorder("n", file=tmp_path / "r.jsonl")
    for method, n, values in [("a", 50, [0.5, 0.7]), ("b", 50, [0.9]), ("a", 100, [0.8])]:
        for seed, value in enumerate(values):
            given = Interval(value, value - 0.1, value + 0.1)
            records.add(
                method=method, metric="accuracy", value=given, dataset="d", n_train=n, seed=seed
            )
    table = results.league(records.table())
    assert list(table["method"]) == ["b", "a", "a"]
    assert list(table["runs"]) == [1, 2, 1]
    assert table.loc[1, ["value", "low", "high"]].tolist() == pytest.approx([0.6, 0.4, 0.8])
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx([0.8, 1.0])
    assert results.league(pd.DataFrame()).empty

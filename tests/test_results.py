"""Records go to a file and come back; league tables; figures draw what they are given."""

import json

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from helpers.evaluation import Interval, plots
from helpers.evaluation import records as results

mpl.use("Agg")


def test_a_record_comes_back_with_its_interval_machine_and_versions(tmp_path):
    file = tmp_path / "a" / "02.jsonl"
    records = results.Recorder("02_x", size="quick", file=file)
    interval = Interval(np.float64(0.8), 0.7, 0.9)
    records.add(method="GloVe", metric="accuracy", value=interval, dataset="tweets", n_train=200)
    line = json.loads(file.read_text())
    assert (line["value"], line["low"], line["high"]) == (0.8, 0.7, 0.9)
    assert line["notebook"] == "02_x"
    assert line["machine"]["torch"]
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
    assert str(results.records_file("n")) == str(results.Path("build/results/n.jsonl"))


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
    assert table.loc[1, ["value", "low", "high"]].tolist() == pytest.approx([0.6, 0.5, 0.7])
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx([0.8, 1.0])
    assert results.league(pd.DataFrame()).empty


def test_the_figures_show_the_numbers_and_label_their_axes():
    frame = pd.DataFrame({"n_train": [50, 200, 50, 200], "method": ["a", "a", "b", "b"],
                          "value": [0.5, 0.6, 0.7, 0.8]})  # fmt: skip
    frame["low"], frame["high"] = frame["value"] - 0.05, frame["value"] + 0.05
    ax = plots.learning_curves(frame)
    assert [list(line.get_ydata()) for line in ax.lines] == [[0.5, 0.6], [0.7, 0.8]]
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["50", "200"]
    bars = plots.intervals(frame[:2], reference=0)
    assert [tick.get_text() for tick in bars.get_yticklabels()] == ["a", "a"]
    matrix = plots.confusion([0, 0, 1], [0, 1, 1], ["no", "yes"])
    assert [text.get_text() for text in matrix.texts] == ["0.50", "0.50", "0.00", "1.00"]
    words = plots.word_map([[0, 1], [2, 3]], ["cat", "dog"])
    assert [text.get_text() for text in words.texts] == ["cat", "dog"]
    warm = plots.heatmap(frame[["value"]], label="accuracy", center=0)
    for axes in (ax, matrix, words):
        assert axes.get_xlabel()
        assert axes.get_ylabel()
    assert len(warm.texts) == 4
    mpl.pyplot.close("all")

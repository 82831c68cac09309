"""The README's tables and its figure are those of the records."""

import json
import shutil
import sys

import pytest
from PIL import Image

from helpers.evaluation import records as results
from helpers.series.provenance import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import readme

NOTEBOOK = "02_pretrained_vectors"


@pytest.fixture
def project(tmp_path):
    """A project with one notebook's records: two methods, two numbers of labels, one gain."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / f"{NOTEBOOK}.ipynb", tmp_path / "notebooks")
    (tmp_path / "README.md").write_text(f"before\n{readme.START}\nold\n{readme.END}\nafter\n")
    write(tmp_path, f"{NOTEBOOK}.jsonl", "default", 0.0)
    return tmp_path


def write(project, name, size, more):
    recorder = results.Recorder(NOTEBOOK, size, project / "data" / "records" / name)
    recorder.always(dataset="films", metric="accuracy", n_test=1000)
    for method in ("random start", "GloVe tuned"):
        for n in (50, 200, 1000, 5000):
            value = 0.5 + n / 25000 + more
            recorder.add(method=method, n_train=n, value=value, low=value - 0.1, high=value + 0.1)
    recorder.add(method="GloVe halved", n_train=200, value=0.8, low=0.7, high=0.9)
    recorder.add(method="gain", n_train=50, metric="accuracy gain", value=0.1)
    recorder.add(method="GloVe tuned", dataset="tweets", n_train=50, value=0.9)
    recorder.add(
        method="best", n_train=5000, value=value, low=value - 0.1, high=value + 0.1, main=True
    )


def test_the_committed_table_is_that_of_the_records():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    inside = text.split(readme.START)[1].split(readme.END)[0]
    assert inside.strip() == readme.tables().strip(), "stale: make numbers"
    assert (ROOT / "docs" / "result.png").stat().st_size < 150_000


def test_the_figure_is_drawn_from_the_committed_records(tmp_path):
    readme.draw(tmp_path / "result.png")
    drawn, shown = (Image.open(folder / "result.png") for folder in (tmp_path, ROOT / "docs"))
    assert shown.text["Description"] == drawn.text["Description"], "stale: make numbers"
    assert shown.size == drawn.size


def test_methods_of_the_main_result_by_number_of_labels(project):
    readme.update(project)
    text = (project / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| | 50 labels | 1,000 labels | 5,000 labels | seconds |" in text
    assert "| random start | 0.502 [0.402, 0.602] | 0.540 [0.440, 0.640] | 0.700" in text
    assert "gain" not in text
    assert "GloVe halved" not in text  # it has no value in the columns shown
    assert "best" not in text  # the main result repeats a method's under another name
    assert "0.900" not in text


@pytest.mark.parametrize(
    "text", ["a\n{0}\nb\n", "a\n{1}\nb\n{0}\nc\n", "{0}\n{0}\n{1}\n", "none\n"]
)
def test_a_readme_with_a_lone_mark_is_refused_and_left_as_it_is(project, text):
    file = project / "README.md"
    file.write_text(text := text.format(readme.START, readme.END))
    with pytest.raises(ValueError, match="once each"):
        readme.update(project)
    assert file.read_text() == text


def test_a_method_without_labels_has_a_column_that_says_so(project):
    file = project / "data" / "records" / f"{NOTEBOOK}.jsonl"
    kept = [line for line in file.read_text().splitlines() if '"n_train": 50,' not in line]
    file.write_text("\n".join(kept) + "\n")
    recorder = results.Recorder(NOTEBOOK, "default", project / "more.jsonl")
    more = {"dataset": "films", "metric": "accuracy", "n_test": 1000}
    recorder.add(method="of another source", n_train=0, value=0.6, low=0.5, high=0.7, **more)
    with open(file, "a") as lines:
        lines.write((project / "more.jsonl").read_text())
    text = readme.tables(project)
    assert "| | 0 labels | 1,000 labels | 5,000 labels | seconds |" in text
    assert "| of another source | 0.600 [0.500, 0.700] |" in text


def test_records_of_the_full_size_go_before_those_of_the_default(project):
    write(project, f"{NOTEBOOK}.quick.jsonl", "quick", 0.2)  # never shown
    assert "0.502" in readme.tables(project)
    write(project, f"{NOTEBOOK}.full.jsonl", "full", 0.1)
    assert list(readme.files(project)) == [NOTEBOOK]
    assert "0.602" in readme.tables(project)
    assert "size full" in readme.tables(project)


def test_a_main_result_that_is_a_method_of_its_own_is_in_the_table(project):
    file = project / "data" / "records" / f"{NOTEBOOK}.jsonl"
    lines = file.read_text().splitlines()
    main = json.loads(lines[-1]) | {"value": 0.72, "method": "GloVe frozen"}
    file.write_text("\n".join([*lines[:-1], json.dumps(main), ""]))
    assert "| GloVe frozen |  |  | 0.720" in readme.tables(project)


def test_records_without_numbers_of_labels_make_one_column(project):
    file = project / "data" / "records" / f"{NOTEBOOK}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        del line["n_train"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "| | accuracy | seconds |" in readme.tables(project)

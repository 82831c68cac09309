"""Every notebook: its form, its committed outputs, and a real run in the quick size.

Notebooks are found by glob: a new one is tested without a word here.
"""

import base64
import html
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from gensim.test.utils import datapath

from helpers import assets
from helpers.series import runner, verify
from helpers.series.parameters import Declared
from helpers.series.provenance import stamp
from helpers.series.runner import WIDGET

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
RECORDS = sorted((ROOT / "data" / "records").glob("*.jsonl"))
SIZES = {"quick", "default", "full"}
# Folders that name a machine or its user: none of them may stand in an output
PLACES = re.compile(
    r"(?:file://|(?<![\w./])/(?:home|Users|root|tmp|work|mnt|var/folders)/|[A-Z]:\\Users\\)"
    r"|site-packages|\b\w+@\w+:[~/]"
)
each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


@pytest.fixture
def node(file):
    return nbformat.read(file, 4)


def parameters_of(node) -> Declared:
    """What the cell tagged `parameters` declares."""
    tagged = [c.source for c in node.cells if "parameters" in c.metadata.get("tags", [])]
    return Declared("".join(tagged[:1]))


def code(node) -> list:
    return [cell for cell in node.cells if cell.cell_type == "code" and cell.source.strip()]


def outputs(node) -> list:
    return [output for cell in code(node) for output in cell.outputs]


def figures(node) -> list[bytes]:
    data = [output.get("data", {}) for output in outputs(node)]
    drawn = [base64.b64decode(d["image/png"]) for d in data if "image/png" in d]
    return drawn + [d["image/svg+xml"].encode() for d in data if "image/svg+xml" in d]


def words(output) -> str:
    """All text of an output, without its images."""
    data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/png")}
    return json.dumps([output.get("text", ""), data], ensure_ascii=False)


def test_the_series_has_no_gap_that_the_readme_does_not_announce():
    numbers = [file.name[:2] for file in FILES]
    assert len(numbers) >= 7
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d\d) \| \[", readme, re.MULTILINE) == numbers  # none twice
    to_come = re.search(r"^To come: .*?\n\n", readme, re.MULTILINE | re.DOTALL)[0]
    missing = {f"{i:02}" for i in range(int(numbers[-1]))} - set(numbers)
    assert missing <= set(re.findall(r"\b\d\d\b", to_come))


@each
def test_format_is_valid(node):
    nbformat.validate(node)


@each
def test_first_cell_has_title_and_measured_run(file, node):
    first = node.cells[0]
    assert first.cell_type == "markdown"
    assert re.match(rf"# {file.name[:2]} · \S", first.source)
    assert len(re.findall(r"^\*Default run:\* \d+:\d\d minutes", first.source, re.MULTILINE)) == 1


@each
def test_parameters_are_declared_explained_and_verified(node):
    tagged = [i for i, c in enumerate(node.cells) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    cell = node.cells[tagged[0]]
    own = parameters_of(node)
    assert own["size"] == "default"
    assert own.keys() == own.kinds.keys(), "each parameter says its type"
    lines = [line for line in cell.source.splitlines() if re.match(r"\w+\s*[:=]", line)]
    assert len(lines) == len(own), "only literals: papermill can pass nothing else"
    assert all("#" in line for line in lines), "each parameter has its comment"
    imports = [c.source for c in node.cells[tagged[0] + 1 :] if c.cell_type == "code"][:2]
    assert "parameters.verify(" in "".join(imports), "checked before anything takes time"


@each
def test_rows_in_the_data_file_are_asked_for_by_the_number_in_the_title(file, node):
    """By that number the proof of records finds them."""
    asked = re.findall(r"""settings\(\w+, ["'](\w+)""", "\n".join(c.source for c in code(node)))
    assert {name[:2] for name in asked} <= {file.name[:2]}


@each
def test_cells_are_short_and_there_is_prose(node):
    copied = [cell for cell in code(node) if "stand-alone" in cell.metadata.get("tags", [])]
    lines = [len(c.source.strip().splitlines()) for c in code(node) if c not in copied]
    assert max(lines) <= 25
    assert statistics.median(lines) <= 8
    prose = " ".join(cell.source for cell in node.cells if cell.cell_type == "markdown")
    assert len(prose.split()) >= 400


@each
def test_outputs_are_those_of_one_complete_run(node):
    counts = [cell.execution_count for cell in code(node)]
    assert counts == list(range(1, len(counts) + 1))
    kinds = {output.get("name", output.output_type) for output in outputs(node)}
    assert kinds
    assert not kinds & {"stderr", "error"}
    assert not any(WIDGET in output.get("data", {}) for output in outputs(node)), "a progress bar"


@each
def test_figures_are_two_at_least_and_light(node):
    sizes = [len(figure) for figure in figures(node)]
    assert len(sizes) >= 2
    assert max(sizes) < 150_000


@each
def test_outputs_tell_nothing_of_the_machine(node):
    found = [match[0] for output in outputs(node) for match in PLACES.finditer(words(output))]
    assert not found
    assert node.metadata.keys() <= {"kernelspec", "language_info", "run"}
    assert node.metadata.kernelspec.name == "python3"
    assert all(cell.metadata.keys() <= {"tags"} for cell in node.cells)


@each
def test_outputs_and_records_come_from_what_there_is_or_were_proven_equal(file):
    assert not verify.stale(file)


@each
def test_outputs_are_those_of_a_short_default_run(node):
    stored = node.metadata.run
    assert stored.size == "default"
    assert stored.seconds <= 300, "a default run takes five minutes at most"
    assert not PLACES.search(json.dumps(stored))


@each
def test_a_notebook_that_records_has_its_records(file, node):
    records = any("Recorder(" in cell.source for cell in code(node))
    assert (ROOT / "data" / "records" / f"{file.stem}.jsonl").exists() == records


@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.stem)
def test_records_say_what_made_them(file):
    name, _, size = file.stem.partition(".")
    assert (ROOT / "notebooks" / f"{name}.ipynb").exists(), "records of no notebook"
    first, *entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    facts = first["facts"]
    assert {"commit", "dirty", "date", "machine", "versions", "cells", "helpers"} <= facts.keys()
    assert facts["size"] == (size or "default")
    assert entries
    assert {e["notebook"] for e in entries} == {name}
    assert {e["size"] for e in entries} == {size or "default"} <= SIZES
    assert not PLACES.search(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def cached():
    """The assets of all notebooks, fetched before any run is timed."""
    assets.fetch({name for file in FILES for name in stamp(nbformat.read(file, 4))["assets"]})


@each
def test_quick_run(file, tmp_path, monkeypatch, cached):
    job = runner.plan(file, ["size=quick"], tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    outcome = runner.execute(job, timeout=300)
    assert outcome.error == ""
    assert outcome.seconds <= 90, "quick means 45 seconds; twice that on a busy machine"
    executed = nbformat.read(job.output, 4)
    assert "stderr" not in {output.get("name") for output in outputs(executed)}
    assert len(figures(executed)) >= 2
    assert {p.name for p in tmp_path.iterdir()} <= {"out", "build"}, "litter in the user's folder"


OWN = {"train_file", "test_file"}
FILES_FOR_OWN = [f for f in FILES if parameters_of(nbformat.read(f, 4)).keys() >= OWN]


def own_texts(folder: Path) -> dict[str, str]:
    """30 texts of three classes, an emoji, a Chinese and an endless one among them, and 10 texts
    to test on, one of them seen before: the parameters that name them."""
    things = [f"{a} {b}" for a in ("grand", "dull", "warm") for b in ("hotel", "film", "book")]
    rows = [f'{"135"[i % 3]},"the {things[i % 9]}, seen on day {i}"' for i in range(27)]
    odd = ["1,😀😀🎉", "3,质量太差，用两天就坏了", f"5,{'very ' * 3000}long"]
    new = [f"{'135'[i % 3]},another {thing} of number {i}" for i, thing in enumerate(things)]
    for name, lines in {"my.csv": [*rows, *odd], "official.csv": [*new, rows[0]]}.items():
        (folder / name).write_text("\n".join(["stars,review", *lines, ""]), encoding="utf-8")
    given = {"train_file": "my.csv", "test_file": "official.csv"}
    return given | {"text_column": "review", "label_column": "stars"}


def own_words(folder: Path) -> dict[str, str]:
    """A text with the words of WordSim-353, and its pairs, with a header, to test on."""
    lines = Path(datapath("wordsim353.tsv")).read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    text = [" ".join([*row[:2], *rows[i % 350][:2]]) for i, row in enumerate(rows * 6)]
    (folder / "my.txt").write_text("\n".join(text), encoding="utf-8")
    pairs = ["first,second,score", *map(",".join, rows)]
    (folder / "official.csv").write_text("\n".join(pairs), encoding="utf-8")
    return {"train_file": "my.txt", "test_file": "official.csv", "fraction": "1.0"}


def own_tags(folder: Path) -> dict[str, str]:
    """30 tagged sentences, and 8 to test on: the parameters that name them."""
    names = ["Oslo B-LOC", "Ada B-PER\nLovelace I-PER", "Reuters B-ORG", "Paris B-LOC"]
    names += ["Marie B-PER\nCurie I-PER", "Unicef B-ORG"]
    sentences = [
        f"{names[i % 6]}\nmet O\n{names[(i + 1 + i // 6) % 6]}\non O\nday{i} O\n. O\n"
        for i in range(38)
    ]
    for name, part in {"my.conll": sentences[:30], "official.conll": sentences[30:]}.items():
        (folder / name).write_text("\n".join(part))
    return {"train_file": "my.conll", "test_file": "official.conll"}


@pytest.mark.parametrize("file", FILES_FOR_OWN, ids=lambda file: file.stem)
def test_own_small_files_with_plain_papermill_from_any_folder(file, tmp_path, cached):
    make = {"01": own_words, "10": own_tags}.get(file.stem[:2], own_texts)
    given = {"size": "quick", **make(tmp_path)}
    options = [word for pair in given.items() for word in ("-p", *pair)]
    command = [sys.executable, "-m", "papermill", file, "out.ipynb", *options, "--no-progress-bar"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    said = " ".join(words(output) for output in outputs(nbformat.read(tmp_path / "out.ipynb", 4)))
    assert given["train_file"] in html.unescape(said), "the run says nothing of the file"

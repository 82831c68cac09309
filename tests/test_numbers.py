"""Numbers in prose: references to records, their rewriting, and a finder of typed ones."""

import re
from pathlib import Path

import nbformat
import pytest
from form import NEW_FORM
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers.evaluation.records import Recorder
from helpers.series import numbers
from helpers.series.parameters import ParameterError

ROOT = Path(__file__).resolve().parents[1]

ASIDE = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$"  # code and formulas
    r"|^\*Default run:\*.*$|<!--.*?-->|!?\[[^\]]*\]\([^)]*\)",  # the measured run, links
    re.DOTALL | re.MULTILINE,
)
TYPED = re.compile(
    r"(?<![\w.,])[-+−]?(?:"
    r"0?\.\d{2,}"  # a score: 0.87
    r"|(?<!Python )\d+\.\d+(?![.\d])"  # a perplexity, a factor: 35.2
    r"|\d[\d,.]*[  ]?(?:%|percent\b|(?:percentage )?points?\b)"
    r"|\d[\d,.]*[  ](?:s|seconds?|minutes?|hours?|ms)\b|\d+:\d\d\b)"
)


def typed_numbers(prose: str) -> list[str]:
    """Scores, percentages and durations in Markdown that no reference stands behind."""
    prose = numbers.NUMBER.sub("", prose)
    return [match[0].strip() for match in TYPED.finditer(ASIDE.sub(" ", prose))]


@pytest.mark.parametrize(
    "prose",
    ["It reaches 0.872.", "an F1 of .91", "87.2 % of the texts", "87% right", "12 percent",
     "+4.8 points", "−2 points against it", "one point or 1.5 points", "takes 26 seconds",
     "in 3 minutes", "over 1.5 hours", "0:20 minutes", "(0.87, 0.88)", "about 30 s", "0.5 %",
     "a perplexity of 35.2", "2.6 times", "accuracy 0.9", "1.00"],
)  # fmt: skip
def test_typed_scores_percentages_and_durations_are_found(prose):
    assert typed_numbers(prose)


@pytest.mark.parametrize(
    "prose",
    ["Peters et al. 2019 show it.", "F1 and top-5 accuracy", "## 3. What 100 labels are worth",
     "300 dimensions, 6 layers of 384", "6 billion words", "a 2×2 table", "`lr=0.001` and `0.87`",
     "$p = 0.05$ and $$x = 0.25$$", "87.2 %<!--= 03 full: all layers @7050 -->", "section 4",
     "```python\nx = 0.87\n```", "*Default run:* 3:17 minutes, 2.7 GB of memory, on 2 CPU cores.",
     "[0.87 here](https://example.org/0.87)", "MiniLM-L6-v2", "Python 3.11", "80/10/10 masking",
     "version 2.13.0", "1,983 texts for test", "0.872<!--= 03: x .low -->", "GloVe 6B, 50-d"],
)  # fmt: skip
def test_years_names_sizes_and_code_are_no_typed_numbers(prose):
    assert typed_numbers(prose) == []


@pytest.mark.parametrize("name", NEW_FORM)
def test_a_notebook_of_the_new_form_has_no_typed_number(name):
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells
    prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert typed_numbers(prose) == []


@pytest.mark.parametrize("file", [ROOT / "README.md", *sorted(ROOT.glob("notebooks/*.ipynb"))],
                         ids=lambda file: file.stem)  # fmt: skip
def test_numbers_with_a_reference_are_those_of_the_records(file):
    texts = [file.read_text(encoding="utf-8")]
    if file.suffix == ".ipynb":
        cells = nbformat.reads(texts[0], 4).cells
        texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    for text in texts:
        assert numbers.rewritten(text) == text, "stale: python -m helpers numbers"


@pytest.fixture
def project(tmp_path):
    """Records of a notebook in two sizes."""
    for size, suffix in (("default", ""), ("full", ".full")):
        file = tmp_path / "data" / "records" / f"03_x{suffix}.jsonl"
        recorder, more = Recorder("03_x", size, file), 0.1 * (size == "full")
        recorder.always(dataset="films", metric="accuracy")
        for n in (100, 7050):
            value = 0.5 + n / 50_000 + more
            recorder.add(method="all layers", n_train=n, value=value, low=value - 0.01, seconds=n)
        recorder.add(method="all layers − scratch, 2.6", metric="gain", value=-0.0481, n_train=100)
        recorder.add(method="labels that match", metric="labels", value=1500)
        recorder.add(method="plain", value=0.25)
        recorder.add(method="plain", value=0.75, metric="macro-F1")
        recorder.add(method="plain", value=0.5, dataset="tweets")
    return tmp_path


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("0.1<!--= 03: all layers @7050 -->", "0.6<!--= 03: all layers @7050 -->"),
        ("0.999<!--= 03: all layers @7050 -->", "0.641<!--= 03: all layers @7050 -->"),
        ("0.999<!--= 03 full: all layers @7,050 -->", "0.741<!--= 03 full: all layers @7,050 -->"),
        ("0.9<!--=03 default: all layers @100 -->", "0.5<!--=03 default: all layers @100 -->"),
        ("1.00<!--= 03: all layers @7050 .low -->", "0.63<!--= 03: all layers @7050 .low -->"),
        ("9 %<!--= 03: all layers @7050 -->", "64 %<!--= 03: all layers @7050 -->"),
        ("9.1%<!--= 03: all layers @7050 -->", "64.1%<!--= 03: all layers @7050 -->"),
        ("+9.9 points<!--= 03: all layers − scratch, 2.6 -->",
         "−4.8 points<!--= 03: all layers − scratch, 2.6 -->"),
        ("-9.9 points<!--= 03: all layers − scratch, 2.6 -->",
         "-4.8 points<!--= 03: all layers − scratch, 2.6 -->"),
        ("−9.9 points<!--= 03: all layers @7050 -->",
         "+64.1 points<!--= 03: all layers @7050 -->"),
        ("2,000<!--= 03: labels that match -->", "1,500<!--= 03: labels that match -->"),
        ("20<!--= 03: labels that match -->", "1500<!--= 03: labels that match -->"),
        ("1.5 minutes<!--= 03: all layers @7050 .seconds -->",
         "117.5 minutes<!--= 03: all layers @7050 .seconds -->"),
        ("0.1<!--= 03: plain | films | accuracy -->", "0.2<!--= 03: plain | films | accuracy -->"),
        ("0.10<!--= 03: plain | macro-F1 -->", "0.75<!--= 03: plain | macro-F1 -->"),
        ("0.10<!--= 03: plain .value | tweets -->", "0.50<!--= 03: plain .value | tweets -->"),
        ("0.7 or (0.9<!--= 03: all layers @100 -->, 5 %)",
         "0.7 or (0.5<!--= 03: all layers @100 -->, 5 %)"),
    ],
)  # fmt: skip
def test_a_number_is_rewritten_in_its_form(project, written, right):
    assert numbers.rewritten(written, project) == right
    assert numbers.rewritten(right, project) == right


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("0.1<!--= 03: plain -->", "'03: plain' names 3 records and not one"),
        ("0.1<!--= 03: no such -->", "names 0 records"),
        ("0.1<!--= 04: plain -->", "names 0 records"),
        ("0.1<!--= 03 full: all layers -->", "names 2 records"),
        ("0.1<!--= 03: all layers @7050 .high -->", "names 0 records"),
        ("0.1<!--= 03: all layers @7050 .lower -->", "names 0 records"),
        ("0.1<!--= plain -->", "is no reference"),
        ("much<!--= 03: all layers @7050 -->", "stands behind no number"),
    ],
)
def test_a_reference_that_names_no_record_or_several_is_refused(project, written, message):
    with pytest.raises(ParameterError, match=message):
        numbers.rewritten(written, project)


def test_update_rewrites_readme_and_prose(project):
    text, right = "0.999<!--= 03: all layers @7050 -->", "0.641<!--= 03: all layers @7050 -->"
    (project / "notebooks").mkdir()
    (project / "README.md").write_text(f"{text}\n")
    file = project / "notebooks" / "03_x.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell(text), new_code_cell("x = 0.999")]), file)
    numbers.update(project)
    assert (project / "README.md").read_text() == f"{right}\n"
    assert [cell.source for cell in nbformat.read(file, 4).cells] == [right, "x = 0.999"]
    before = file.read_bytes()
    numbers.update(project)
    assert file.read_bytes() == before
    (project / "README.md").write_text("0.1<!--= 03: plain -->")
    with pytest.raises(ParameterError, match=r"README\.md: '03: plain' names 3 records"):
        numbers.update(project)

"""The form of the notebooks that have taken it, and a small one that breaks each rule in turn."""

import base64

import form
import nbformat
import pytest
from form import NEW_FORM, RULES
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

STUB = "def twice(x):\n    ...  # your code\n\ncheck.twice(twice)"
FOLDED = """<details><summary>Hint</summary>

Add.

</details>

<details><summary>Solution</summary>

```python
def twice(x):
    return x + x
```

It adds.

</details>
"""


def cell(source: str, tag: str = "", outputs=()):
    return new_code_cell(source, metadata={"tags": [tag]} if tag else {}, outputs=list(outputs))


def said(text: str):
    return new_output("execute_result", {"text/plain": text})


@pytest.fixture
def node():
    """A notebook in the form."""
    cells = [
        new_markdown_cell("# 42 · What is twice?\n\n![An arrow twice as long](figures/x.svg)"),
        cell("from operator import add\n\nadd(2, 2)", outputs=[said("4")]),
        cell('size: str = "default"  # how much', "parameters"),
        cell("import math", "setup"),
        new_markdown_cell("Twice is a sum. It has a learning rate in `rate` and $rate$."),
        cell("\n".join(["import numpy", *["x = 1"] * 15]), "stand-alone"),
    ]
    for i in (1, 2, 3):
        cells += [new_markdown_cell(f"### Exercise {i} · Twice\n\nWrite `twice`.")]
        cells += [cell(STUB, "exercise"), new_markdown_cell(FOLDED)]
    return new_notebook(cells=cells)


def faults(node) -> list[str]:
    return [fault for rule in RULES for fault in rule(node)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", NEW_FORM)
def test_a_notebook_of_the_new_form_keeps_it(name, rule):
    assert rule(form.notebook(name)) == []


def test_the_list_names_notebooks_once():
    assert len(set(NEW_FORM)) == len(NEW_FORM)
    assert all((form.ROOT / "notebooks" / f"{name}.ipynb").is_file() for name in NEW_FORM)


def test_the_small_notebook_has_the_form(node):
    assert faults(node) == []
    nbformat.validate(node)


def put(place: int, source: str):
    return lambda node: node.cells[place].update(source=source)


def add(*cells):
    return lambda node: node.cells.extend(cells)


def drop(place: int):
    return lambda node: node.cells.pop(place)


PNG = base64.b64encode(b"x" * 150_000).decode()
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (put(0, "# 42 · Twice\n\n![An arrow](x.svg)"), "no question as title: '# 42 · Twice'"),
        (put(0, "# 42 · What is twice?"), "the first cell shows no picture"),
        (drop(1), "nothing is won before the parameters"),
        (put(1, "\n".join(["x = 1"] * 7)), "the win has 7 lines: 6 at most"),
        (lambda node: node.cells[1].update(outputs=[]), "the win shows no result"),
        (add(*[cell("x")] * 65), "72 code cells: 70 at most"),
        (add(new_markdown_cell("\n\n".join(["word " * 70] * 50))), "3,5"),
        (add(*[cell("\n".join(["x"] * 9))] * 9), "the median code cell has 9 lines: 8 at most"),
        (add(cell("\n".join(["x"] * 26))), "26 lines, 25 at most: x"),
        (add(new_markdown_cell("Well " * 91)), "a paragraph of 91 words, 90 at most: Well"),
        (add(new_markdown_cell("- few\n- " + "many " * 91)), "a paragraph of 92 words"),
        (drop(2), "0 cells tagged parameters"),
        (add(*[cell("x = 1", "setup")] * 2), "3 cells tagged setup"),
        (drop(5), "0 cells tagged stand-alone"),
        (drop(7), "2 cells tagged exercise"),
        (add(cell("x = 1", "raises-exception")), "the tag raises-exception is not known"),
        (add(cell("x", outputs=[new_output("stream", name="stderr", text="?")])), "stderr: x"),
        (add(cell("x", outputs=[new_output("error", ename="E", evalue="")])), "an error or stderr"),
        (add(cell("x", outputs=[said("FutureWarning: soon")])), "a warning: x"),
        (add(cell("x", outputs=[said(" 50%|█████     | 1/2")])), "a progress bar: x"),
        (add(cell("x", outputs=[new_output("display_data", {WIDGET: {}})])), "a progress bar: x"),
        (add(cell("x", outputs=[new_output("display_data", {"image/png": PNG})])), "of 150 KB: x"),
        (put(5, "x = 1"), "1 lines, not 15 to 40"),
        (put(5, "\n".join(["x = 1"] * 41)), "41 lines, not 15 to 40"),
        (put(5, "from helpers.models import x\n" + "x\n" * 15), "imports helpers.models, which"),
        (put(5, "import numpy, helpers as h\n" + "x\n" * 15), "imports helpers, which"),
        (put(5, "from . import x\n" + "x\n" * 15), "imports ., which"),
        (put(6, "Write `twice`."), "no heading '### Exercise 1 · …'"),
        (put(9, "### Exercise 3 · Twice"), "no heading '### Exercise 2 · …'"),
        (
            put(7, "def twice(x):\n    return x\n\ncheck.twice(twice)"),
            "its stub has no '...  # your",
        ),
        (put(7, STUB + "\nx = 1"), "the last line of its cell is no check"),
        (put(8, FOLDED.replace("Hint", "Answer")), "Exercise 1 · Twice: no folded hint"),
        (put(8, FOLDED.replace("Solution", "Answer")), "0 fences of Python in its folded solution"),
        (put(8, FOLDED.replace("It adds.", "```python\nx\n```")), "2 fences of Python in its fold"),
        (put(8, FOLDED.replace("Solution", "Spoiler")), "a fold is called Spoiler"),
        (put(8, FOLDED + "<details>"), "a fold is not closed"),
    ],
)
def test_a_notebook_that_breaks_the_form_is_told_so(node, change, fault):
    change(node)
    assert fault in " / ".join(faults(node))


@pytest.mark.parametrize(
    "text",
    ["The rate is 1e-4.", "eleven word pieces", "a piece is a token", "13 million running words",
     "a mark before each text", "the special marks", "it fills each gap", "predict the filled gaps",
     "to play the game", "both floors", "the random start", "The random-start control",
     "training from noise", "the weights of noise", "a team of four", "the random field",
     "tags without the field", "two passes", "one pass over the data", "as many passes",
     "texts of like length share a batch", "the upper layers", "upper two layers", "deeper layers",
     "missed entities", "invented names", "It takes 0:20 minutes."],
)  # fmt: skip
def test_private_words_are_found(node, text):
    node.cells.append(new_markdown_cell(f"Look:\n{text}"))
    (fault,) = form.private_words(node)
    assert "write " in fault


@pytest.mark.parametrize(
    "text",
    ["The learning rate falls.", "learning-rate multipliers", "an error rate of a third",
     "a dropout rate", "human-rated reviews", "WordPiece tokens", "a piece of advice",
     "a question mark", "The star marks the mean.", "the gap between train and test",
     "noise-contrastive estimation", "differences are noise", "a conditional random field (CRF)",
     "the forward pass", "one pass through the encoder", "one backward pass",
     "It passes the test.", "the field's own terms",
     "`random start`", "$rate$", "```\nrate\n```", "*Default run:* 3:17 minutes, 2.7 GB",
     "[see](https://x.y/rate)", "<!-- the rate -->", "deep learning", "the top layers"],
)  # fmt: skip
def test_ordinary_words_are_left_alone(node, text):
    node.cells.append(new_markdown_cell(text))
    assert form.private_words(node) == []


def test_words_are_those_that_a_reader_reads(node):
    text = "<!-- a b --> [c](https://d.e) ![f](g.svg) $$h$$ https://i.j <details> `k` l"
    text += "\n\n```\nm n\n```"
    (prose,) = form.prose(new_notebook(cells=[new_markdown_cell(text)]))
    assert prose.split() == ["c", "f", "`k`", "l"]

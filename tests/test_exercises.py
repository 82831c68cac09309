"""Exercises: a check says what is missing and never raises; solutions pass, wrong answers do not.

A notebook's stand-alone cell runs here, too. It names a model of the Hub as the default of
`os.environ.get("MODEL", "owner/name")`; the notebook's set-up sets `MODEL` to the folder of the
asset where the Hub is not reached, and so do the tests, for the models in `ASSETS`.
"""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from unittest.mock import patch

import form
import matplotlib
import nbformat
import pytest
from form import NEW_FORM
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers import assets
from helpers.exercises import Outcome, exercise

ASSETS = {"sentence-transformers/all-MiniLM-L6-v2": "minilm"}
WRONG = Path(__file__).parent / "wrong_answers"


@pytest.fixture(autouse=True)
def own_look():
    """A notebook's set-up changes the look of all figures: not those of other tests."""
    with matplotlib.rc_context():
        yield


# --- checks ---------------------------------------------------------------------------------------


@exercise
def doubled(twice, start) -> str:
    """A check of a function and a value."""
    assert start == 1, "start with one"
    assert len(twice([start])) == 2, "the list has another length"
    if twice([2]) != [2, 2]:
        raise AssertionError  # as `assert` does; pytest would add words to it here
    return "lists are added end to end"


def test_a_right_answer_is_solved():
    outcome = doubled(lambda x: x + x, 1)
    assert outcome.solved
    assert repr(outcome) == "solved: lists are added end to end"
    assert outcome._repr_markdown_() == "> **solved**: lists are added end to end"
    assert doubled(start=1, twice=lambda x: 2 * x).solved


def stub(x): ...


def raises(fault):
    def answer(*_):
        raise fault

    return answer


def warns(x):
    warnings.warn("soon", FutureWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((stub, 1), "`twice` returned None"),
        ((lambda x: ..., 1), "`twice` returned None"),
        ((None, 1), "`twice` is empty"),
        ((lambda x: x + x, ...), "`start` is empty"),
        ((lambda x: x + x, 2), "start with one"),
        ((lambda x: x, 1), "the list has another length"),
        ((lambda x: [1, 1], 1), "the result is not right"),
        ((raises(ValueError("no | <b>`x`</b>\n\nat all")), 1),
         "your `twice` raised `ValueError: no | <b>'x'</b> at all`"),
        ((raises(KeyError()), 1), "your `twice` raised `KeyError`"),
        ((raises(AssertionError("mine")), 1), "your `twice` raised `AssertionError: mine`"),
        ((raises(SystemExit(1)), 1), "your `twice` raised `SystemExit: 1`"),
        ((raises(ValueError("x" * 999)), 1), "your `twice` raised `ValueError: xxx"),
        ((lambda: 1, 1), "your `twice` raised `TypeError: "),
        ((lambda x: doubled_forever(x), 1), "your `twice` raised `RecursionError: "),
        ((lambda x: 3, 1), "the check cannot use your answer (`TypeError: object of type 'int'"),
        (("text", 1), "the check cannot use your answer (`TypeError: 'str' object is not cal"),
        ((), "the check cannot use your answer (`TypeError: missing a required argument: 'tw"),
        ((warns, 1), "`twice` returned None"),
    ],
)  # fmt: skip
def test_whatever_is_missing_is_said_in_a_line(answers, said, recwarn, capsys):
    outcome = doubled(*answers)
    assert isinstance(outcome, Outcome)
    assert not outcome.solved
    assert outcome.said.startswith(said)
    assert len(repr(outcome)) < 250
    assert "\n" not in outcome._repr_markdown_()
    assert outcome._repr_markdown_() == f"> *not yet*: {outcome.said}"
    assert not recwarn.list
    assert capsys.readouterr() == ("", "")


def doubled_forever(x):
    return doubled_forever(x)


def test_a_function_that_works_in_place_may_return_none():
    @exercise(in_place=True)
    def emptied(clear) -> str:
        """A check of a function without a result."""
        clear(items := [1])
        assert not items, "something is left"
        return "nothing is left"

    assert emptied(lambda items: items.clear()).solved
    assert emptied(stub).said.startswith("something is left")


def test_a_check_keeps_its_name_and_its_docstring():
    assert (doubled.__name__, doubled.__doc__) == ("doubled", "A check of a function and a value.")


# --- the exercises of notebooks -------------------------------------------------------------------


def names_of(node) -> dict:
    """What the cheap cells of a notebook define: parameters in the quick size, set-up, and those
    that the exercises need."""
    names = {"__name__": "__main__"}
    with patch.dict(os.environ):
        for cell in node.cells:
            if {"parameters", "setup", "for-exercises"} & set(cell.metadata.get("tags", [])):
                exec(compile(cell.source, "<cell>", "exec"), names)
                names["size"] = "quick"
    return names


def unfit(node, wrong: dict[str, list[str]]) -> list[str]:
    """Solutions that are refused; stubs and wrong answers that pass, are few or do not run."""
    names, found = names_of(node), []
    for task in form.exercises(node):
        answers = wrong.get(task.title.partition(" ·")[0], [])
        if not (outcome := task.outcome(task.solution, names)).solved:
            found.append(f"{task.title}, solution: {outcome}")
        if len(answers) < 2:
            found.append(f"{task.title}: two wrong answers at least")
        for number, answer in enumerate(["", *answers]):
            which = f"{task.title}, wrong answer {number}" if number else f"{task.title}, stub"
            outcome = task.outcome(answer, names)
            empty = re.match(r"`(\w+)` returned None", outcome.said)
            if outcome.solved:
                found.append(f"{which} passes")
            if empty and empty[1] not in task.stub:
                found.append(f"{which} has other names than its check: {outcome}")
            if (empty and answer) or re.search(r"NameError|SyntaxError", outcome.said):
                found.append(f"{which} is no answer: {outcome}")
    return found


@pytest.mark.parametrize("name", NEW_FORM)
def test_solutions_pass_and_stubs_and_wrong_answers_do_not(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (WRONG / f"{name[:2]}.md").read_text(encoding="utf-8")
    with matplotlib.rc_context():
        assert unfit(form.notebook(name), form.wrong_answers(text)) == []


SOLUTION = "def twice(x):\n    return x + x\n"
STUB = "def twice(x):\n    ...  # your code\n\ncheck(twice, one)"


OTHER = STUB.replace("def twice", "def double").replace("(twice", "(double")


def small(solution: str = SOLUTION, stub: str = STUB) -> nbformat.NotebookNode:
    """A notebook with one exercise, which needs two cells and not the third."""
    folds = f"<details><summary>Hint</summary>\n\nAdd.\n\n</details>\n\n<details><summary>Solution\
</summary>\n\n```python\n{solution}```\n\n</details>"
    setup = "from test_exercises import doubled as check"
    cells = [(setup, "setup"), ("one = {'quick': 1}[size]", "for-exercises"), ("1 / 0", "other")]
    cells = [new_code_cell(source, metadata={"tags": [tag]}) for source, tag in cells]
    cells.insert(0, new_code_cell('size = "default"', metadata={"tags": ["parameters"]}))
    heading = new_markdown_cell("### Exercise 1 · Twice")
    task = new_code_cell(stub, metadata={"tags": ["exercise"]})
    return new_notebook(cells=[*cells, heading, task, new_markdown_cell(folds)])


WRONG_ANSWERS = """Wrong answers.

## Exercise 1 · Twice

It forgets to add.

```python
def twice(x):
    return x
```

It always says the same.

```python
def twice(x):
    return [1, 1]
```
"""


def test_a_right_exercise_is_fit():
    wrong = form.wrong_answers(WRONG_ANSWERS)
    assert {number: len(fences) for number, fences in wrong.items()} == {"Exercise 1": 2}
    assert unfit(small(), wrong) == []


@pytest.mark.parametrize(
    ("node", "wrong", "fault"),
    [
        (small("def twice(x):\n    return x\n"), WRONG_ANSWERS, "solution: not yet: the list has"),
        (small(SOLUTION, "twice = lambda x: 2 * x  # ...  # your code\ncheck(twice, one)"),
         WRONG_ANSWERS, "Exercise 1 · Twice, stub passes"),
        (small(SOLUTION, OTHER), WRONG_ANSWERS, "stub has other names than its check"),
        (small(), WRONG_ANSWERS.replace("return x", "return 2 * x"), "wrong answer 1 passes"),
        (small(), WRONG_ANSWERS[: WRONG_ANSWERS.index("It always")], "two wrong answers at least"),
        (small(), WRONG_ANSWERS.replace("return x", "return y"), "1 is no answer: not yet: your"),
        (small(), WRONG_ANSWERS.replace("return x", "pass"), "wrong answer 1 is no answer"),
    ],
)  # fmt: skip
def test_an_exercise_that_is_unfit_is_told_so(node, wrong, fault):
    assert fault in " / ".join(unfit(node, form.wrong_answers(wrong)))


def test_the_checks_leave_the_environment_as_it_was():
    node = small()
    node.cells[1].source += "\nimport os; os.environ['MODEL'] = 'x'"
    names_of(node)
    assert "MODEL" not in os.environ


# --- stand-alone cells ----------------------------------------------------------------------------


def run_alone(source: str, folder: Path, seconds: float = 120) -> str:
    """What a cell writes to stderr as it fails, run in an empty namespace in `folder`; "" if it
    does not. Raises `KeyError` for a model that is not in `ASSETS`."""
    models = dict(re.findall(r'environ\.get\(\s*"(\w+)",\s*"([^"]+)"', source))
    given = {name: str(assets.path(ASSETS[model])) for name, model in models.items()}
    given |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "TOKENIZERS_PARALLELISM": "false"}
    (folder / "cell.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-I", "cell.py"]
    try:
        done = subprocess.run(command, cwd=folder, env=os.environ | given, capture_output=True,
                              encoding="utf-8", timeout=seconds)  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"longer than {seconds} s"
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("name", NEW_FORM)
def test_the_stand_alone_cell_runs_in_an_empty_namespace(name, tmp_path):
    (cell,) = form.tagged(form.notebook(name), "stand-alone")
    assert run_alone(cell.source, tmp_path) == ""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import json\nprint(json.dumps(1))", ""),
        ("print(train_texts)", "NameError: name 'train_texts' is not defined"),
        ("open('data.csv')", "No such file or directory: 'data.csv'"),
        ("import time\ntime.sleep(9)", "longer than 3 s"),
    ],
)
def test_a_cell_that_does_not_stand_alone_is_told_so(source, said, tmp_path):
    found = run_alone(source, tmp_path, seconds=3)
    assert said in found
    assert bool(found) == bool(said)


def test_a_stand_alone_cell_finds_its_model_as_an_asset(tmp_path):
    name = "sentence-transformers/all-MiniLM-L6-v2"
    source = f'import os\nfolder = os.environ.get("MODEL", "{name}")\n'
    assert run_alone(source + "open(os.path.join(folder, 'config.json'))", tmp_path) == ""
    with pytest.raises(KeyError, match="owner/name"):
        run_alone(source.replace(name, "owner/name"), tmp_path)

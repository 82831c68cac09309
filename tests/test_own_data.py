"""A reader's own data and parameters: what each notebook takes, and what it refuses at once.

`test_notebooks.py` runs whole notebooks; here the first cells run in this process, up to the one
that loads the data.
"""

import ast
import os
import re
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from gensim.test.utils import datapath

from helpers.data import DataError
from helpers.series.parameters import Declared, ParameterError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = {
    file.stem[:2]: nbformat.read(file, 4)
    for file in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
}
DECLARED = {
    number: Declared(cell.source)
    for number, node in NOTEBOOKS.items()
    for cell in node.cells
    if "parameters" in cell.metadata.get("tags", [])
}
TEXTS = [n for n, own in DECLARED.items() if {"train_file", "label_column"} <= own.keys()]
FREE = {
    "text_column",
    "label_column",
    "sentences",
    "own_sentences",
    "pretrain",
    "prefix",
    "size",
    "run_folder",
}
FILES = {"vectors_name", "checkpoint", "awd_lstm_checkpoint", "head_checkpoint", "elmo_options"}
FILES |= {"elmo_weights", "awd_lstm_words"}  # opened before anything is trained
each = pytest.mark.parametrize("number", NOTEBOOKS)
each_of_texts = pytest.mark.parametrize("number", TEXTS)


@pytest.fixture(autouse=True)
def tidy(monkeypatch, tmp_path):
    """Records go to a folder of the test; environment, threads and figures are as they were."""
    monkeypatch.setenv("NLP_TRANSFER_RECORDS", str(tmp_path / "records.jsonl"))
    threads = torch.get_num_threads()
    with patch.dict(os.environ):
        yield
    torch.set_num_threads(threads)
    plt.close("all")


def cells(number: str) -> list:
    return [c for c in NOTEBOOKS[number].cells if c.cell_type == "code"]


def code(number: str) -> list[str]:
    return [cell.source for cell in cells(number)]


def calls(number: str, name: str) -> list[ast.Call]:
    """All calls of a function in a notebook, by its name as it stands there."""
    nodes = (node for source in code(number) for node in ast.walk(ast.parse(source)))
    return [n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == name]


def begin(number: str, until: str, **given) -> dict:
    """Run the cells of a notebook up to the first that holds `until`; returns its variables. What
    is given takes its place after the cell of the parameters, wherever that stands."""
    scope = {"__name__": "__main__"}
    for i, cell in enumerate(cells(number)):
        exec(compile(cell.source, f"{number}, cell {i + 1}", "exec"), scope)
        if "parameters" in cell.metadata.get("tags", []):
            scope |= {"size": "quick", **given}
        if until in cell.source:
            return scope
    raise AssertionError(f"{number} has no cell with {until}")


@each
def test_every_parameter_has_its_rule(number):
    (call,) = calls(number, "parameters.verify")
    ruled = {keyword.arg for keyword in call.keywords}
    assert ruled <= DECLARED[number].keys()
    own_corpus = {"train_file"} if number == "01" else set()  # running text, whatever its ending
    assert DECLARED[number].keys() - FREE - FILES - own_corpus == ruled


@each
def test_the_defaults_hold(number):
    begin(number, "parameters.verify(")


@each
def test_a_test_file_beside_each_train_file(number):
    own = DECLARED[number]
    assert own["train_file"] == own["test_file"] == ""


BAD = {
    "n_seeds": [-1, 10**6],
    "n_texts": [-1],
    "n_target": [-3],
    "n_labels": [-1],
    "label_counts": [[0], [50, -1]],
    "sentence_counts": [[0]],
    "control_passes": [0, -1],
    "max_length": [0, 1, 10_000],
    "max_words": [0, -5],
    "fraction": [-0.1, 1.5],
    "dimension": [-1],
    "epochs": [-1],
    "min_count": [0],
    "workers": [-1],
    "pretrain_seconds": [-1.0],
    "dataset": ["movie_review", "no/such/file.csv"],
    "second_dataset": ["bbc_new"],
    "other_datasets": [["tweets", "tweetz"]],
    "domains": [["movie_reviews", "tweetz"]],
    "source": ["tweetz"],
    "target": ["tweetz"],
    "other_tasks": [["bbc_new"]],
    "other_source": ["newsgroup"],
    "related": ["imbd"],
    "articles": ["bbc_new"],
    "train_file": ["no_such_file.csv"],
    "test_file": ["no_such_file.csv"],
    "model_name": ["minilmm", "no such model"],
    "languages": [["german"]],
    "source_language": ["english"],
    "target_language": ["zh"],
}


@each
def test_bad_values_are_refused_before_anything_runs(number):
    """One sentence that names the parameter, from the cell after the parameters."""
    scope, tried = begin(number, "parameters.verify("), 0
    (cell,) = (source for source in code(number) if "parameters.verify(" in source)
    verify = compile(cell, f"{number}, the cell that verifies", "exec")
    for name, values in BAD.items():
        for value in values if name in DECLARED[number] else []:
            if (number, name) == ("01", "train_file"):
                continue
            with pytest.raises(ParameterError, match=re.escape(repr(name))) as refused:
                exec(verify, scope | {name: value})
            assert len(str(refused.value)) < 300
            tried += 1
    assert tried >= 5


def test_all_rules_are_tried():
    ruled = {k.arg for n in NOTEBOOKS for k in calls(n, "parameters.verify")[0].keywords}
    assert ruled == BAD.keys()


@each
def test_data_of_a_parameter_are_loaded_for_their_task(number):
    """So that tags given to a notebook of texts are refused, and the other way round."""
    taken = DECLARED[number].keys() - {"task"}
    for call in calls(number, "data.load"):
        given = {k.arg: ast.unparse(k.value) for k in call.keywords}
        names = {n.id for n in ast.walk(call.args[0]) if isinstance(n, ast.Name)}
        if None in given:  # by a dictionary: what is assigned to its name
            dictionary = given.pop(None)
            (found,) = {ast.unparse(node.value) for source in code(number)
                        for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assign)
                        and ast.unparse(node.targets[0]) == dictionary
                        and "task" in ast.unparse(node.value)}  # fmt: skip
            given |= {"task": repr(ast.literal_eval(re.search(r"'task': ('\w+')", found)[1]))}
        if names & taken:
            task = "tagging" if number == "10" else "classification"
            assert given["task"] == repr(task)


@each
def test_baselines_split_chinese_into_characters(number):
    """scikit-learn's own pattern makes one word of a Chinese sentence, and none of an emoji."""
    for call in calls(number, "TfidfVectorizer"):
        given = {k.arg: k.value for k in call.keywords}
        assert {"tokenizer", "token_pattern"} & given.keys()
        if "tokenizer" not in given:
            (pattern,) = (
                node.value.value
                for source in code(number)
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == ast.unparse(given["token_pattern"])
            )
            assert re.findall(pattern, "质量太差 😀☺ is a film") == [*"质量太差😀☺", "is", "film"]


def write(path: Path, rows: list[tuple[str, str]], header: str = "text,label") -> str:
    path.write_text("\n".join([header, *(",".join(row) for row in rows), ""]), encoding="utf-8")
    return str(path)


LOADED = "splits = data.load("


@pytest.mark.parametrize("number", [n for n in TEXTS if n not in ("04", "11")])
def test_official_splits_by_parameters_alone(number, tmp_path):
    train = [(f"text {word} number {i}", "xyz"[i % 3]) for i, word in enumerate("abcdefghij" * 6)]
    test = [(f"another {i}", "xyz"[i % 3]) for i in range(12)]
    given = {"train_file": write(tmp_path / "train.csv", train)}
    given["test_file"] = write(tmp_path / "test.csv", [*test, train[0]])
    splits = begin(number, LOADED, **given)["splits"]
    assert list(splits["test"]["text"]) == [text for text, _ in [*test, train[0]]]
    assert train[0][0] not in splits["train"]["text"]  # it would have been seen before the test
    assert len(splits["train"]) + len(splits["validation"]) == len(train) - 1


def test_official_splits_of_the_target_by_parameters_alone(tmp_path):
    rows = [(f"text number {i}", ["negative", "positive"][i % 2]) for i in range(40)]
    given = {"train_file": write(tmp_path / "train.csv", rows[:30])}
    given["test_file"] = write(tmp_path / "test.csv", rows[30:])
    goal = begin("04", "goal = ", **given)["goal"]
    assert list(goal["test"]["text"]) == [text for text, _ in rows[30:]]


@pytest.mark.parametrize("number", [n for n in TEXTS if n not in ("04", "11")])
def test_tags_for_a_notebook_of_texts_are_refused(number, tmp_path):
    path = tmp_path / "tags.conll"
    path.write_text("".join(f"Oslo{i} B-LOC\nis O\n\nHe{i} O\nleft O\n\n" for i in range(40)))
    with pytest.raises(DataError, match="has tags for its tokens"):
        begin(number, LOADED, train_file=str(path))


def test_texts_for_the_notebook_of_tags_are_refused(tmp_path):
    path = write(tmp_path / "texts.csv", [(f"text {i}", "xy"[i % 2]) for i in range(20)])
    with pytest.raises(DataError, match="label"):
        begin("10", LOADED, train_file=path)


def test_training_texts_that_are_all_test_texts_are_refused(tmp_path):
    path = write(tmp_path / "same.csv", [(f"text {i}", "xy"[i % 2]) for i in range(20)])
    with pytest.raises(DataError) as refused:
        begin("02", LOADED, train_file=path, test_file=path)
    assert "same.csv" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.fixture
def wordsim(tmp_path) -> dict:
    """The rows of WordSim-353, and a text that has all of its words."""
    lines = Path(datapath("wordsim353.tsv")).read_text(encoding="utf-8").splitlines()
    rows = [tuple(line.split("\t")) for line in lines if not line.startswith("#")]
    (tmp_path / "my.txt").write_text("\n".join(" ".join(row[:2]) for row in rows * 5))
    return {"rows": rows, "given": {"train_file": str(tmp_path / "my.txt"), "fraction": 1.0}}


@pytest.mark.parametrize("sep", [",", "\t"])
def test_own_word_pairs_are_scored_as_those_of_wordsim(sep, wordsim, tmp_path):
    path = tmp_path / ("my.tsv" if sep == "\t" else "my.csv")
    rows = [("first word", "second word", "mean", "n"), ("cat", "qwxzt", "3.5", "9")]
    rows += [(*row, "9") for row in wordsim["rows"]]
    path.write_text("\n".join(map(sep.join, rows)) + "\n\n", encoding="utf-8")
    scope = begin("01", "asked = ", **wordsim["given"], test_file=str(path))
    scope["models"] = {"downloaded": [scope["downloaded"]]}
    exec(next(source for source in code("01") if "exams = " in source), scope)
    (human, cosines), (own_human, own_cosines) = map(scope["exams"].get, ("wordsim353", "own"))
    assert len(human) > 300
    assert own_human.tolist() == human.tolist()
    assert own_cosines["downloaded"][0] == pytest.approx(cosines["downloaded"][0])


def test_without_own_word_pairs_there_are_the_tests_of_the_series(wordsim):
    scope = begin("01", "asked = ", **wordsim["given"])
    scope["models"] = {"downloaded": [scope["downloaded"]]}
    exec(next(source for source in code("01") if "exams = " in source), scope)
    assert list(scope["exams"]) == ["wordsim353", "simlex999"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("tiger,cat", "three columns"),
        ("tiger;cat;7.35", "three columns"),
        ("tiger,cat,high", "line 2"),
        ("tiger,cat,", "line 2"),
        ("tigre,gatto,7.35", "0 pairs"),
        ("tiger,cat,7.35", "the same score"),
        ("", "three columns"),
    ],
)
def test_bad_word_pairs_are_refused_before_training(row, said, wordsim, tmp_path):
    path = tmp_path / "my.csv"
    path.write_text(f"{row}\n" * 30)
    with pytest.raises(ValueError, match=said) as refused:
        begin("01", "asked = ", **wordsim["given"], test_file=str(path))
    assert "my.csv" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value).replace(str(path), "")) < 160


BOTH = "further = [data.load("  # the cell that loads the texts of two languages
POLISH = [(f"To jest tekst numer {i}", ["negative", "positive"][i % 2]) for i in range(40)]


def test_texts_of_two_languages_by_parameters_alone(tmp_path):
    english = [(f"text number {i}", ["negative", "positive"][i % 2]) for i in range(40)]
    given = {"train_file": write(tmp_path / "en.csv", english), "target_language": "pl"}
    given["test_file"] = write(tmp_path / "pl.csv", POLISH)
    scope = begin("11", BOTH, **given)
    splits = scope["splits"]
    assert scope["further"] == []  # nobody's film reviews beside your own texts
    for lang, rows in {"en": english, "pl": POLISH}.items():
        found = [text for part in splits[lang].values() for text in part["text"]]
        assert sorted(found) == sorted(text for text, _ in rows)
        assert all(len(part) for part in splits[lang].values())


@pytest.mark.parametrize(
    ("rows", "given", "said"),
    [
        ([(text, label.title()) for text, label in POLISH], {}, "classes Negative, Positive, but"),
        ([*POLISH, *[("Nie wiem", "neutral"), ("Hm", "neutral"), ("Cóż", "neutral")]], {},
         "pl.csv has the classes negative, neutral, positive, but product_reviews has negative, "),
        ([("", label) for _, label in POLISH], {}, "pl.csv, line 2 has no text"),
        ([], {}, "pl.csv has no rows"),
        (POLISH, {"target_language": "en"}, "are both 'en': name two"),
        (POLISH, {"domains": ["bbc_news"]}, "bbc_news has the classes business, entertainment, "),
    ],
    ids=["spelling", "a class more", "no text", "empty", "one language", "another domain"],
)  # fmt: skip
def test_two_languages_that_do_not_fit_are_refused_in_a_sentence(rows, given, said, tmp_path):
    given = {"test_file": write(tmp_path / "pl.csv", rows), "target_language": "pl", **given}
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        begin("11", BOTH, **given)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value).replace(str(tmp_path), "")) < 200


def test_word_vectors_of_11_read_every_word_of_a_tagged_line(tmp_path):
    (tmp_path / "tag").mkdir()
    tagged = "迈向/v  希望/n\n１２月/t  发表/v\n"
    (tmp_path / "tag" / "199801.txt").write_text(tagged, encoding="utf-8")
    source = next(of for of in code("11") if "def corpus(" in of)
    scope = {"splits": {"zh-Hans": {"train": {"text": []}}}, "run": SimpleNamespace(n_corpus=9)}
    scope["data"] = SimpleNamespace(translations=lambda language: [])
    scope["assets"] = SimpleNamespace(path=lambda name: tmp_path)
    exec(source.partition("\n\n\n")[0], scope)
    assert list(scope["corpus"]("zh-Hans")) == ["迈向 希望", "１２月 发表"]


def test_words_of_11_are_not_the_phrases_of_a_language_without_blanks():
    source = next(of for of in code("11") if "def words(" in of).partition("\n\n\n")[0]
    scope = {
        "tokenize": str.split,
        "jieba": SimpleNamespace(lcut=lambda text: [text[:2], text[2:]]),
    }
    exec(source, scope)
    assert scope["words"]("また来ます", "ja") == list("また来ます")
    assert scope["words"]("电影好看", "zh-Hans") == scope["words"]("电影好看", "zh-Hant")
    assert scope["words"]("电影好看", "zh-Hans") == ["电影", "好看"]
    assert scope["words"]("dobry film", "pl") == ["dobry", "film"]


def test_a_dictionary_of_one_pair_is_refused_in_a_sentence():
    source = next(of for of in code("11") if "dictionary = {" in of)
    found = {"the cat": "猫", "dog": "狗"}, {"dog": "dog", "house": "house"}
    scope = {"first": "en", "second": "zh-Hans", "one_word": lambda lang: found[lang == "en"]}
    with pytest.raises(ValueError, match="needs 2 pairs of words, 1 found"):
        exec(source, scope)

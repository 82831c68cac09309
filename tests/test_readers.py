"""Every kind of file comes back as it is, or is refused with file, row and mend."""

import csv
import json
from collections import Counter

import datasets
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import data
from helpers.data import readers

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: not text.isspace())
BASE = [(f"text number {i}", "ab"[i % 2]) for i in range(12)]  # enough to be divided


def write(path, rows, columns=("text", "label")):
    """Rows in the format that the path's ending says."""
    frame = pd.DataFrame(rows, columns=list(columns))
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        lines = (json.dumps(dict(zip(columns, row, strict=True))) for row in rows)
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        with open(path, "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writerows([columns, *rows])
    return path


def all_rows(splits):
    """(text, label's name) of all splits together, with how often."""
    names = data.label_names(splits)
    return Counter((row["text"], names[row["label"]]) for part in splits.values() for row in part)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(TEXTS, max_size=6))
def test_any_text_comes_back_as_it_was(texts, ending, tmp_path):
    rows = BASE + [(text, "a") for text in texts]
    splits = data.load(write(tmp_path / f"rows{ending}", rows), quiet=True)
    assert all_rows(splits) == Counter(rows)


def test_bom_crlf_blank_lines_and_lines_inside_quotes(tmp_path, capsys):
    body = "text,label\r\n" + "".join(f"{text},{label}\r\n\r\n" for text, label in BASE)
    body += '"two\r\nlines, ""quoted""",a'  # and no line end at the end of the file
    (tmp_path / "excel.csv").write_bytes(b"\xef\xbb\xbf" + body.encode())
    splits = data.load(tmp_path / "excel.csv")
    assert all_rows(splits) == Counter([*BASE, ('two\r\nlines, "quoted"', "a")])
    assert "12 left out: blank lines" in capsys.readouterr().out


def test_semicolons_and_padded_headers(tmp_path):
    lines = ["Review ; stars", *(f"{text};{label}" for text, label in BASE)]
    (tmp_path / "europe.csv").write_text("\n".join(lines))
    path = tmp_path / "europe.csv"
    assert all_rows(data.load(path, text_column="Review", label_column="stars", quiet=True)) == (
        Counter(BASE)
    )


def test_a_text_as_long_as_a_book_and_the_csv_module_as_it_was(tmp_path):
    before = csv.field_size_limit()
    assert before == 1 << 17
    rows = [*BASE, ("word " * 100_000, "a")]
    assert all_rows(data.load(write(tmp_path / "a.csv", rows), quiet=True)) == Counter(rows)
    assert csv.field_size_limit() == before
    with pytest.raises(data.DataError) as error:  # which keeps the frames alive
        data.load(write(tmp_path / "b.csv", [*BASE, ("fine", "")]))
    assert csv.field_size_limit() == before
    assert "line 14" in str(error.value)


GOOD = "text,label\ngood,1\nbad,0\n"
BAD = {
    "missing text": (".csv", GOOD + ",1\n", "line 4: the text is missing"),
    "blank text": (".csv", GOOD + '" \n ",1\n', "line 4: the text is missing"),
    "missing label": (".csv", GOOD + "fine,\n", "line 4: the label is missing"),
    "after a text of two lines": (".csv", GOOD + '"a\nb",1\nfine, \n', "line 6: the label is miss"),
    "after a header of two lines": (
        ".csv",
        'text,label,"a\nb"\n,1,\n',
        "line 3: the text is missing",
    ),
    "too many fields": (".csv", GOOD + "well, fine,1\n", "line 4: 3 fields where the header has 2"),
    "too few fields": (".tsv", "text\tlabel\ngood\t1\nbad\n", "line 3: 1 fields where the header"),
    "open quote": (".csv", GOOD + '"never closed,1\nmore,1\n', "line 4: a field's double quotes"),
    "quote inside": (".csv", GOOD + '"a" b,1\nmore,1\n', "line 4: a field's double quotes"),
    "no column": (".csv", "review,label\na,b\n", "no column 'text', only 'review', 'label'; name"),
    "no label column": (".csv", "text,stars\na,b\n", "'stars'; name yours, label_column="),
    "empty": (".csv", "", "no column 'text', only nothing"),
    "header only": (".csv", "text,label\n", "holds no rows"),
    "one class": (".csv", "text,label\na,x\nb,x\nc,x\n", "line 2: all labels are 'x'"),
    "single example": (
        ".csv",
        GOOD + "".join(f"text {i},{i % 2}\n" for i in range(20)) + "odd,2\n",
        "line 24: class '2' has too few different texts for train and test",
    ),
    "single text, twice": (
        ".csv",
        GOOD + "".join(f"text {i},{i % 2}\n" for i in range(20)) + "odd,2\nOdd!,2\n",
        "line 24: class '2' has too few different texts for train and test",
    ),
    "too few": (".csv", "text,label\na,x\nb,x\nc,y\nd,y\n", "too few different texts for three"),
    "name among numbers": (".csv", GOOD + "fine,yes\n", "line 4: the label 'yes' does not go with"),
    "mixed in JSON": (
        ".jsonl",
        '{"text": "a", "label": 1}\n{"text": "b", "label": "1"}',
        "line 2: the label '1' is text, not a number",
    ),
    "true is no number": (
        ".jsonl",
        '{"text": "a", "label": 1}\n{"text": "b", "label": true}',
        "line 2: the label True is true or false, not a number",
    ),
    "a list as label": (
        ".jsonl",
        '{"text": "a", "label": ["x"]}',
        "line 1: the label ['x'] is of type list, not text or a number",
    ),
    "NaN": (".jsonl", '{"text": "a", "label": NaN}', "line 1: the label is missing"),
    "null text": (".jsonl", '\n{"text": null, "label": 1}', "line 2: the text is missing"),
    "no text in JSON": (".jsonl", '{"text": 3, "label": 1}', "line 1: the text is of type int"),
    "no label in JSON": (
        ".jsonl",
        '{"text": "a", "label": 1}\n{"text": "b"}',
        "line 2: the label is missing",
    ),
    "broken JSON": (".jsonl", '{"text": "a", "label": 1}\n{"text":', "line 2: not a JSON object"),
    "a JSON list": (".jsonl", "[1, 2]", "line 1: not a JSON object"),
    "half a character": (".jsonl", '{"text": "\\ud800", "label": 1}', "line 1: not a JSON object"),
    "a measure": (
        ".csv",
        "text,label\n" + "".join(f"text {i},{i / 7:.3f}\n" for i in range(50)),
        "line 2: the labels are 50 different decimal numbers, a measure",
    ),
    "too many classes": (
        ".csv",
        "text,label\n" + "".join(f"text {i},id{i}\n" for i in range(5002)),
        "line 5002: over 5000 different labels",
    ),
    "fields of CoNLL": (".conll", "a B-X\nb\n", "line 2: 1 field(s) where 2 are due"),
    "no tags": (".conll", "a\nb\n", "line 1: 1 field(s) where 2 are due"),
    "empty tag": (".conll", "a\tO\n\nb\tO\nc\t\n", "line 4: a token or its tag is missing"),
    "mixed tags": (".conll", "a O\nb B-X\n\nc PER\n", "line 4: the label 'PER' does not go with"),
    "tags that are not BIO": (".conll", "a O\nb B_X\n", "line 2: the tag 'B_X' stands beside 'O'"),
    "kinds without B- and I-": (
        ".conll",
        "a O\nb PER\n",
        "line 2: the tag 'PER' stands beside 'O'",
    ),
    "only O": (".conll", "a O\n\nb O\n", "line 1: all labels are 'O'"),
    "one sentence": (".conll", "a O\nb B-X\n", "too few different texts"),
    "other kind": (".xlsx", "x", "cannot be read; save the data as .csv"),
    "no Parquet": (".parquet", "x" * 99, "write the file again"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_refused_in_one_sentence(case, tmp_path):
    ending, content, message = BAD[case]
    path = tmp_path / f"mine{ending}"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(data.DataError) as error:
        data.load(path)
    said = str(error.value)
    assert said.startswith(str(path))
    assert message in said
    assert said.endswith(".")
    assert "\n" not in said
    assert ";" in said  # then comes the mend


def test_the_line_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "old.csv"
    path.write_bytes(b"text,label\n" + b"fine,a\n" * 3000 + "Käse,b\n".encode("latin-1"))
    with pytest.raises(data.DataError, match=r"old\.csv, line 3002: not UTF-8"):
        data.load(path)
    path.write_text("text,label\na,b\n", encoding="utf-16")
    with pytest.raises(data.DataError, match="line 1: not UTF-8"):
        data.load(path)


def test_a_missing_file_and_a_misspelt_name(tmp_path):
    with pytest.raises(data.DataError, match="no such file"):
        data.load(tmp_path / "nowhere.csv")
    with pytest.raises(data.DataError, match=r"do you mean movie_reviews\?"):
        data.load("movie_review")
    with pytest.raises(data.DataError, match="cannot be read; save"):
        data.load(tmp_path)


def test_a_parquet_file_is_read_by_rows_and_a_cut_one_refused(tmp_path):
    path = write(tmp_path / "mine.parquet", [*BASE, (None, "a")])
    with pytest.raises(data.DataError, match="row 13: the text is missing"):
        data.load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(data.DataError, match="cannot be read"):
        data.load(path)


SENTENCES = [(["a", "b", "."], ["B-X", "I-X", "O"]), (["c", "d"], ["B-Y", "B-Y"])]
SENTENCES += [([f"w{i}", "x"], ["O", "B-X"]) for i in range(6)]


def tagged(splits):
    names = data.label_names(splits)
    rows = (row for part in splits.values() for row in part)
    return sorted((row["tokens"], [names[tag] for tag in row["tags"]]) for row in rows)


@pytest.mark.parametrize("separator", [" ", "\t", "  NN   "])
@pytest.mark.parametrize("end", ["", "\n", "\n\n\n"])
def test_conll_with_blanks_or_tabs(separator, end, tmp_path):
    blocks = ["-DOCSTART- -X- O\n".replace(" ", separator)]
    blocks += ["\n".join(map(separator.join, zip(*s, strict=True))) for s in SENTENCES]
    path = tmp_path / "mine.conll"
    path.write_text("\n\n".join(blocks) + end)
    assert tagged(data.load(path, quiet=True)) == sorted(SENTENCES)


def test_tokens_keep_the_no_break_space(tmp_path):
    path = tmp_path / "mine.conll"
    path.write_text("\n\n".join(f"1\u00a0{i} B-X\nb O" for i in range(9)), encoding="utf-8")
    assert tagged(data.load(path, quiet=True))[0][0] == ["1\u00a00", "b"]


def test_what_is_rewritten_in_bio_is_counted_and_bio_is_not(tmp_path, capsys):
    path = tmp_path / "mine.conll"
    path.write_text("\n\n".join(f"w{i} O\nb I-X\nc I-X" for i in range(6)))  # IOB1
    assert tagged(data.load(path))[0][1] == ["O", "B-X", "I-X"]
    assert "6 tags rewritten in BIO" in capsys.readouterr().out
    path.write_text("\n\n".join(f"w{i} O\nb B-X\nc I-X" for i in range(6)))
    data.load(path)
    assert "tags rewritten in BIO" not in capsys.readouterr().out


KINDS = st.sampled_from(["PER", "LOC"])
SPANS = st.lists(st.tuples(st.none() | KINDS, st.integers(1, 3)), max_size=6)


def encode(spans, scheme):
    """The tags of (kind or None, length) spans in one of the schemes."""
    tags, before = [], None
    for kind, length in spans:
        inner = [f"I-{kind}"] * length if kind else ["O"] * length
        if kind and (scheme != "iob1" or before == kind):
            inner[0] = f"B-{kind}"
        if kind and scheme == "bioes":
            inner[-1] = f"E-{kind}" if length > 1 else f"S-{kind}"
        tags, before = tags + inner, kind
    return tags


@given(SPANS)
def test_every_scheme_becomes_bio(spans):
    expected = encode(spans, "bio")
    for scheme in ("iob1", "bio", "bioes"):
        assert readers.bio(encode(spans, scheme)) == expected
    assert readers.bio(["NN", "VB", "."]) == ["NN", "VB", "."]


def hub(monkeypatch, splits):
    """A Hub that has one data set; remembers how it was asked."""
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return datasets.DatasetDict(splits)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def labelled(texts, labels, names=("no", "yes", "never")):
    features = datasets.Features(
        sentence=datasets.Value("string"), label=datasets.ClassLabel(names=list(names))
    )
    return datasets.Dataset.from_dict({"sentence": texts, "label": labels}, features)


def test_a_hub_data_set_keeps_its_test_split_and_its_classes(monkeypatch, capsys):
    train = labelled([f"text {i}" for i in range(40)] + ["A test!"], [i % 2 for i in range(41)])
    test = labelled(["a test", "another"], [1, 0])
    extra = labelled(["unused"] * 7, [0] * 7)
    asked = hub(monkeypatch, {"train": train, "test": test, "unsupervised": extra})
    splits = data.load("owner/name:config", text_column="sentence")
    assert asked == [(("owner/name", "config"), {})]  # never trust_remote_code
    assert splits["test"]["text"][:] == ["a test", "another"]
    assert data.label_names(splits) == ["no", "yes", "never"]
    assert "A test!" not in splits["train"]["text"][:] + splits["validation"]["text"][:]
    said = capsys.readouterr().out
    assert "7 left out: in the split unsupervised" in said
    assert "1 left out: also in a later, official split" in said


def test_hidden_test_labels_make_validation_the_test(monkeypatch):
    train = labelled([f"text {i}" for i in range(40)], [i % 2 for i in range(40)])
    validation, test = labelled(["x", "y"], [0, 1]), labelled(["p", "q"], [-1, -1])
    hub(monkeypatch, {"train": train, "validation": validation, "test": test})
    splits = data.load("owner/name", text_column="sentence", quiet=True)
    assert splits["test"]["text"][:] == ["x", "y"]
    assert len(splits["validation"]) + len(splits["train"]) == 40


def test_tags_of_the_hub(monkeypatch):
    features = datasets.Features(
        words=datasets.List(datasets.Value("string")),
        ner=datasets.List(datasets.ClassLabel(names=["B-X", "I-X", "O"])),
    )
    rows = {"words": [[f"w{i}", "b"] for i in range(9)], "ner": [[2, 1]] * 9}
    hub(monkeypatch, {"train": datasets.Dataset.from_dict(rows, features)})
    splits = data.load("owner/name", text_column="words", label_column="ner", quiet=True)
    assert tagged(splits) == sorted((words, ["O", "B-X"]) for words in rows["words"])


def test_trouble_with_the_hub_is_one_sentence(monkeypatch):
    def load_dataset(*arguments):
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub\nmany\nlines")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(data.DataError, match=r"^owner/name: .*Couldn't reach.*; check[^\n]*$"):
        data.load("owner/name")
    hub(monkeypatch, {"train": labelled(["a", "b"], [0, 1])})
    with pytest.raises(data.DataError, match="no column 'text', only 'sentence', 'label'"):
        data.load("owner/name")
    hub(monkeypatch, {"train": labelled(["a", "b"], [0, -1])})
    with pytest.raises(data.DataError, match=r"owner/name \(train\), row 2: the label is missing"):
        data.load("owner/name", text_column="sentence")

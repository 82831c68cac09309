"""Splits without leakage, the catalogue, subsets, and the corpus."""

import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from helpers import assets, data
from helpers.data import loading, splits
from helpers.data.readers import Rows
from helpers.text import normal, tokenize

ROOT = Path(__file__).resolve().parents[1]
RELAXED = {"deadline": None, "suppress_health_check": list(HealthCheck)}
WORDS = st.sampled_from(["good", "bad", "film", "Käse", "很好", "!", "😀"])
TEXTS = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)
SHOUT = st.sampled_from([str, str.upper, str.title, lambda t: f" {t} ...", lambda t: t + "!"])


def rows(part):
    """(text, label's name) of a split, with how often."""
    names = data.label_names(part)
    return Counter((row["text"], names[row["label"]]) for row in part)


def forms(part):
    return {normal(text) for text in part["text"][:]}


def loaded(folder, pairs, test=None, **options):
    for name, content in (("train", pairs), ("test", test)):
        frame = pd.DataFrame(content, columns=["text", "label"])
        frame.to_json(folder / f"{name}.jsonl", orient="records", lines=True, force_ascii=False)
    if test is not None:
        options["test_file"] = folder / "test.jsonl"
    return data.load(folder / "train.jsonl", quiet=True, **options)


def made(n, classes="ab"):
    return [(f"text number {i}", classes[i % len(classes)]) for i in range(n)]


def in_disguise():
    """Texts of few words, so that many are the same but for capitals and punctuation."""
    return st.lists(st.tuples(st.builds(lambda t, f: f(t), TEXTS, SHOUT), st.sampled_from("ab")))


@settings(max_examples=60, **RELAXED)
@given(pairs=in_disguise(), seed=st.integers(-3, 3))
def test_the_hash_split_is_a_partition_and_no_text_crosses(pairs, seed, tmp_path):
    pairs = made(12) + pairs
    parts = loaded(tmp_path, pairs, seed=seed)
    assert sum(map(rows, parts.values()), Counter()) == Counter(pairs)
    seen = [forms(part) for part in parts.values()]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]
    assert all(seen)


@settings(max_examples=40, **RELAXED)
@given(pairs=in_disguise(), test=in_disguise().filter(len))
def test_a_test_file_stays_whole_and_train_gives_way(pairs, test, tmp_path):
    pairs = made(12) + pairs
    parts = loaded(tmp_path, pairs, test)
    assert parts["test"]["text"][:] == [text for text, _ in test]
    taken = {normal(text) for text, _ in test}
    kept = Counter(pair for pair in pairs if normal(pair[0]) not in taken)
    assert rows(parts["train"]) + rows(parts["validation"]) == kept
    assert not forms(parts["train"]) & forms(parts["validation"])


@settings(max_examples=40, **RELAXED)
@given(st.lists(st.integers(2, 9), min_size=2, max_size=6), st.integers(0, 99))
def test_every_class_is_in_every_split_that_it_can_be_in(sizes, seed):
    assume(max(sizes) > 2)
    classes = np.repeat(np.arange(len(sizes)), sizes)
    keys = np.random.default_rng(seed).permutation(2**20)[: len(classes)].astype("u8") << 44
    keys, classes = np.tile(keys, 2), np.tile(classes, 2)  # every text twice
    homes = splits._settle(keys, classes, np.full(len(classes), splits.OPEN, np.int8))
    assert (homes[: len(homes) // 2] == homes[len(homes) // 2 :]).all()
    for label, size in enumerate(sizes):
        found = set(homes[classes == label])
        assert found >= {splits.TRAIN, splits.TEST}
        assert splits.VALIDATION in found or size == 2


def test_shares_are_seventy_ten_twenty_and_stay_when_the_file_grows(tmp_path):
    small, large = (loaded(tmp_path, made(n)) for n in (5000, 20_000))
    sizes = [len(large[split]) / 20_000 for split in splits.SPLITS]
    assert sizes == pytest.approx([0.7, 0.1, 0.2], abs=0.01)  # 3 standard deviations
    for split in splits.SPLITS:
        assert set(small[split]["text"][:]) <= set(large[split]["text"][:])
    other = loaded(tmp_path, made(5000), seed=1)
    assert set(other["test"]["text"][:]) != set(small["test"]["text"][:])


def test_the_split_is_the_same_on_every_machine(tmp_path):
    assert splits.digest("Good film, GOOD cast!").hex() == "6439a7bc539a595d"
    numbers = [text.split()[-1] for text in loaded(tmp_path, made(30))["test"]["text"]]
    assert numbers == ["2", "4", "11", "27"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Good film!", "  good\tFILM..."),
        ("STRASSE", "straße"),
        ("ｆｕｌｌ", "full"),
        ("cafe\u0301", "CAFÉ"),
        ("很好。", "很好！"),
        ("a_b", "a b"),
        (":-)  x", "X"),
        ("!  !", "! !"),
    ],
)
def test_what_counts_as_the_same_text(one, other):
    assert normal(one) == normal(other)


@pytest.mark.parametrize(("one", "other"), [(":)", ":("), ("😀", "😡"), ("film 1", "film 2")])
def test_what_does_not(one, other):
    assert normal(one) != normal(other)


@given(st.text(st.characters(max_codepoint=127)))
def test_the_fast_way_for_ascii_is_the_same(text):
    slow = normal(text + " é").removesuffix("é").rstrip()  # not ASCII, so the other way
    assert normal(text) == slow or not any(map(str.isalnum, text))


def test_a_word_is_letters_digits_and_the_marks_after_them():
    """`normal` against the same said as a regular expression, for each character there is."""
    kinds = {chr(i): unicodedata.category(chr(i)) for i in range(0x20000)}
    marks = "".join(char for char, kind in kinds.items() if kind in ("Mn", "Mc"))
    marks = "".join(mark for mark in marks if not "\ufe00" <= mark <= "\ufe0f")
    word = re.compile(rf"[^\W_]+(?:[{marks}]+[^\W_]*)*")
    for text in (f"é{char}b {char}é" for char, kind in kinds.items() if kind != "Cs"):
        found = word.findall(unicodedata.normalize("NFKC", text).casefold())
        assert normal(text) == " ".join(found)


def test_repeats_and_disagreements_stay_and_are_counted(tmp_path, capsys):
    pairs = [*made(40), ("text number 3!", "b"), ("Text number 4", "b"), ("text number 4", "a")]
    loaded(tmp_path, pairs)
    assert capsys.readouterr().out == ""
    parts = data.load(tmp_path / "train.jsonl")
    assert sum(map(len, parts.values())) == 43
    said = capsys.readouterr().out
    assert "3 kept: repeats of a text" in said
    assert "1 kept: texts that occur with different labels" in said


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "1"], ["1", "9", "10"]),
        (["4.0", "5", "3.50"], ["3.50", "4.0", "5"]),
        ([True, False], ["False", "True"]),
        ([2, -1, 0.5], ["-1", "0.5", "2"]),
        ([" pos", "neg", "pos"], ["neg", "pos"]),
        ([4.0, 5, 3.5], ["3.5", "4", "5"]),
        ([1, "1", 2.0], ["1", "2"]),
        ([1, True, "True"], ["1", "True"]),
        (["1e2", "20"], ["1e2", "20"]),
    ],
)
def test_classes_come_in_a_sensible_order(labels, names, tmp_path):
    pairs = [(f"text {i}", labels[i % len(labels)]) for i in range(30)]
    (tmp_path / "mine.jsonl").write_text(pd.Series(
        [pd.Series({"text": t, "label": y}, dtype=object).to_json() for t, y in pairs]
    ).str.cat(sep="\n"))  # fmt: skip
    assert data.label_names(data.load(tmp_path / "mine.jsonl", quiet=True)) == names


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["01", "1", "001"], ["001", "01", "1"]),
        (["12e7", "3e8", "77e3"], ["12e7", "3e8", "77e3"]),
        (["12e7000000", "3e8"], ["12e7000000", "3e8"]),
        (["1" * 31 + "2", "1" * 31 + "1", "5"], ["5", "1" * 31 + "1", "1" * 31 + "2"]),
        (["1" * 5000, "2" * 5000], ["1" * 5000, "2" * 5000]),
        (["a10", "a2", "A3"], ["A3", "a10", "a2"]),
        (
            ["<script>alert(1)</script>", "<b>b", "a&b"],
            ["<b>b", "<script>alert(1)</script>", "a&b"],
        ),
        (["4+", "4", "18-25"], ["18-25", "4", "4+"]),
        (["-0", "0", "-12", "-3"], ["-12", "-3", "-0", "0"]),
        (["²", "٣", "1"], ["1", "²", "٣"]),
        (["nan", "inf", "None"], ["None", "inf", "nan"]),
    ],
)
def test_labels_are_texts_as_they_stand(labels, names, tmp_path):
    pairs = [(f"text {i}", labels[i % len(labels)]) for i in range(40)]
    path = tmp_path / "mine.csv"
    path.write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in pairs), encoding="utf-8")
    parts = data.load(path, quiet=True)
    assert data.label_names(parts) == names
    assert sum(map(rows, parts.values()), Counter()) == Counter(pairs)


LABELS = st.text(st.characters(codec="utf-8", exclude_characters='\0,;|[]{}()"\r\n'), min_size=1)


@settings(max_examples=80, **RELAXED)
@given(
    labels=st.lists(LABELS.filter(lambda t: t == t.strip()), min_size=2, max_size=4, unique=True)
)
def test_different_labels_stay_different_classes(labels, tmp_path):
    pairs = [(f"text {i}", labels[i % len(labels)]) for i in range(40)]
    parts = loaded(tmp_path, pairs)
    assert sum(map(rows, parts.values()), Counter()) == Counter(pairs)
    assert sorted(data.label_names(parts)) == sorted(labels)


def test_spellings_of_a_label_are_said(tmp_path, capsys):
    labels = ["pos ", "neg", "POS", "NEG", "Pos", "neg\u00a0"]
    loaded(tmp_path, [(f"text {i}", labels[i % 6]) for i in range(60)])
    parts = data.load(tmp_path / "train.jsonl")
    said = capsys.readouterr().out
    assert data.label_names(parts) == ["NEG", "POS", "Pos", "neg", "pos"]
    assert "6 labels that differ in spelling only, such as 'pos ', 'POS', 'Pos': kept apart" in said
    loaded(tmp_path, made(40))
    data.load(tmp_path / "train.jsonl")
    assert "labels" not in capsys.readouterr().out


def test_texts_of_the_test_set_are_left_out_of_training(tmp_path, capsys):
    pairs = [*made(40), ("Text number 7!", "b")]
    loaded(tmp_path, pairs, made(9))
    parts = data.load(tmp_path / "train.jsonl", test_file=tmp_path / "test.jsonl")
    assert "10 left out: also in a later, official split" in capsys.readouterr().out
    assert len(parts["test"]) == 9
    assert not forms(parts["test"]) & (forms(parts["train"]) | forms(parts["validation"]))


def test_texts_that_all_stand_in_the_test_set_are_the_reason_that_is_named(tmp_path):
    pairs = made(40)
    for test in (pairs, [(f"{text.upper()} !", label) for text, label in pairs]):
        with pytest.raises(data.DataError, match=r"train\.jsonl has only texts that stand in the "
                           r"test set, too: give others"):  # fmt: skip
            loaded(tmp_path, pairs, test)
    beside = "has too few different texts for three splits beside those of the test set: add some"
    with pytest.raises(data.DataError, match=beside):
        loaded(tmp_path, pairs, pairs[1:])
    beside = r"line 2 has the label 'b', which too few different texts have beside those of the"
    with pytest.raises(data.DataError, match=beside):
        loaded(tmp_path, pairs, pairs[1::2])  # all of class b
    (tmp_path / "same.conll").write_text("\n\n".join(f"w{i} B-PER\nc O" for i in range(20)))
    with pytest.raises(data.DataError, match=r"same\.conll has only texts that stand in the test"):
        data.load(tmp_path / "same.conll", test_file=tmp_path / "same.conll")


def test_tags_of_a_test_file_must_be_known_in_train(tmp_path):
    train, test = tmp_path / "train.conll", tmp_path / "test.conll"
    train.write_text("\n\n".join(f"w{i} B-PER\nb I-PER\nc O" for i in range(20)))
    test.write_text("x O\ny B-PERSON\n")
    with pytest.raises(
        data.DataError, match=r"test\.conll, line 2 has the label 'B-PERSON', which"
    ):
        data.load(train, test_file=test)
    train.write_text("\n\n".join(f"w{i} B-PER\nc O" for i in range(20)))
    test.write_text("x B-PER\ny I-PER\n")  # the kind is known
    assert data.load(train, test_file=test, quiet=True)["test"]["tokens"][:] == [["x", "y"]]


def test_a_task_refuses_data_of_the_other_kind(tmp_path):
    path = tmp_path / "mine.conll"
    path.write_text("\n\n".join(f"w{i} B-PER\nc O" for i in range(20)))
    with pytest.raises(data.DataError, match=r"mine\.conll has tags for its tokens, not a label"):
        data.load(path, task="classification")
    assert data.load(path, task="tagging", quiet=True)
    loaded(tmp_path, made(40), task="classification")
    with pytest.raises(data.DataError, match=r"has a label for each text, not tags for its tokens"):
        loaded(tmp_path, made(40), task="tagging")
    with pytest.raises(data.DataError, match="no task 'tags'"):
        loaded(tmp_path, made(40), task="tags")
    with pytest.raises(data.DataError, match=r"conll2003.* has tags for its tokens"):
        data.load("conll2003", task="classification")


def test_a_test_file_in_place_of_the_source_s_own_test_split_is_told(tmp_path, monkeypatch, capsys):
    def rows(split):
        return Rows("x", ((i, f"{split} {i}", "ab"[i % 2]) for i in range(30)))

    given = {split: rows(split) for split in ("train", "test")}
    monkeypatch.setattr(loading, "_catalogued", lambda *_: dict(given))
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"text": "x", "label": "a"}\n{"text": "y", "label": "b"}\n')
    assert data.load("reuters", test_file=mine)["test"]["text"][:] == ["x", "y"]
    assert "the source's own test split, as a test_file" in capsys.readouterr().out


def test_a_test_file_of_the_other_kind_is_refused(tmp_path):
    (tmp_path / "mine.conll").write_text("\n\n".join(f"w{i} B-PER\nc O" for i in range(20)))
    loaded(tmp_path, made(40))
    with pytest.raises(data.DataError, match=r"mine\.conll, line 1 has a text of type list"):
        data.load(tmp_path / "train.jsonl", test_file=tmp_path / "mine.conll")
    with pytest.raises(data.DataError, match=r"train\.jsonl, line 1 has not one tag for each"):
        data.load(tmp_path / "mine.conll", test_file=tmp_path / "train.jsonl")


def test_sources_are_checked_without_being_read(tmp_path, monkeypatch):
    monkeypatch.setattr(loading.assets, "path", None)
    monkeypatch.setattr(loading.readers, "hub", None)
    monkeypatch.setattr("builtins.open", None)
    (tmp_path / "mine.csv").write_text("no header")
    for good in ("imdb", "conll2003", tmp_path / "mine.csv", "owner/name", "owner/name:en", "", []):
        data.check_source(good)
    data.check_source(["imdb", "tweets"])
    for bad, message in {
        "imbd": "'imbd' is no data set, file or Hub id .*: did you mean imdb",
        "no such thing at all": "did you mean movie_reviews or ",
        "no/such/file.csv": r"no/such/file\.csv does not exist: check the path",
        str(tmp_path): "cannot be read: save the data as",
        "x" * 5000: "is no data set",
        "y" * 300 + ".csv": "does not exist",
        "a\0b": "is no data set",
        "~nobody/x.csv": "does not exist",
    }.items():
        for name in (bad, ["imdb", bad]):
            with pytest.raises(data.DataError, match=message):
                data.check_source(name)
        with pytest.raises(data.DataError, match=message):
            data.load(bad)


def test_the_classes_of_test_must_be_known_in_train(tmp_path):
    with pytest.raises(
        data.DataError, match=r"test\.jsonl, line 2 has the label 'c', which training"
    ):
        loaded(tmp_path, made(20), [("x", "a"), ("y", "c")])


RUN = """
import sys, warnings
warnings.simplefilter("error")
from pathlib import Path
from helpers import data
def peak():  # MB; not ru_maxrss, which a child inherits
    status = Path("/proc/self/status")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024 if status.exists() else 0
before = peak()
parts = data.load(sys.argv[1], quiet=True)
print(peak() - before)
print([len(part) for part in parts.values()], "torch" in sys.modules)
print(parts["test"][-1]["text"], len({parts["train"][i]["label"] for i in range(0, 6000, 7)}))
"""


def test_many_rows_in_bounded_memory_and_no_litter(tmp_path):
    path, home, temporary = (tmp_path / name for name in ("big.csv", "home", "temporary"))
    home.mkdir()
    temporary.mkdir()
    filler = "a long and winding sentence about nothing in particular, with a comma or two " * 9
    with open(path, "w", encoding="utf-8") as file:
        file.write("text,label\n")
        file.writelines(f'"{i} {filler}",{i % 2}\n' for i in range(200_000))
    size = path.stat().st_size / 2**20
    assert size > 130
    own = {"HOME": home, "HF_HOME": home / "hf", "TMPDIR": temporary, "HF_HUB_OFFLINE": 1}
    environment = os.environ | {key: str(value) for key, value in own.items()}
    command = [sys.executable, "-c", RUN, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    memory, sizes, sample = done.stdout.splitlines()
    assert float(memory) < 100  # MB: less than the texts alone
    assert sum(map(int, sizes.strip("[] False").split(","))) == 200_000
    assert "False" in sizes, "data alone must not load PyTorch"
    assert filler.strip() in sample
    assert sample.endswith(" 2")
    assert done.stderr == ""
    assert not [*home.rglob("*"), *temporary.rglob("*")], "nothing is left behind"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_temporary_folder_is_one_sentence(tmp_path, monkeypatch):
    with open("/dev/full", "r+b", 0) as full:
        monkeypatch.setattr(splits.tempfile, "TemporaryFile", lambda: full)
        message = r"train\.jsonl cannot be read, or .* the temporary folder \(.*No space.*free some"
        with pytest.raises(data.DataError, match=message):
            loaded(tmp_path, made(30))


EXPECTED = {  # examples of train, validation, test; words that the report must hold
    "movie_reviews": (7050, 1010, 1983, "562 left out: rated between"),
    "product_reviews": (2076, 296, 571, "765 left out: rated between"),
    "editorials": (1966, 275, 547, "2,402 left out: rated between"),
    "tweets": (2322, 352, 688, "838 left out: rated between"),
    "newsgroups": (10182, 1104, 7528, "7 left out: also in a later"),
    "reuters": (5881, 643, 2568, "8 left out: also in a later"),
    "bbc_news": (1552, 236, 437, "5 classes"),
    "chinese_reviews": (12319, 1625, 3513, "17,666 left out: further copies"),
    "imdb": (17609, 2449, 4942, "kept: repeats"),
    "encyclopedia": (6361, 892, 1780, "1,000 left out: articles without a topic"),
    "conll2003": (13440, 3185, 3453, "666 left out: also in a later"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_catalogue(name, capsys):
    parts = data.load(name)
    *sizes, said = EXPECTED[name]
    assert [len(part) for part in parts.values()] == sizes
    assert said in capsys.readouterr().out
    if "text" in parts["test"].features:
        seen = [forms(part) for part in parts.values()]
    else:
        seen = [{normal(" ".join(r["tokens"])) for r in part} for part in parts.values()]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]


def test_imdb_is_divided_as_the_catalogue_is():
    parts = data.load("imdb", quiet=True)
    assert data.label_names(parts) == ["negative", "positive"]
    texts = Counter(text for part in parts.values() for text in part["text"])
    assert texts == Counter(data.film_reviews())
    rows = (row for part in parts.values() for row in part)
    first = next(row for row in rows if row["text"].startswith("I rented I AM CURIOUS"))
    assert first["label"] == 0


def test_the_reviews_of_imdb_share_no_text_with_the_snippets():
    texts = data.film_reviews()
    assert len(texts) == 25_000
    assert sum(map(len, map(str.split, texts))) == pytest.approx(5.8e6, rel=0.02)
    assert not any("<br" in text for text in texts)
    assert texts[0].startswith("I rented I AM CURIOUS-YELLOW from my video store")
    snippets = set.union(*map(forms, data.load("movie_reviews", quiet=True).values()))
    assert not snippets & {normal(text) for text in texts}


def test_what_the_catalogue_holds():
    assert set(EXPECTED) == set(data.CATALOGUE)
    reviews = data.load("movie_reviews", quiet=True)
    assert data.label_names(reviews) == ["negative", "positive"]
    assert data.label_names(reviews["train"]) == ["negative", "positive"]
    assert ("Effective but too tepid biopic", "negative") in sum(
        map(rows, reviews.values()), Counter()
    )
    news = data.load("bbc_news", quiet=True)
    tech = ("Ink helps drive democracy in Asia", "tech")
    every = sum(map(rows, news.values()), Counter())
    assert tech in {(text.split("\n")[0], label) for text, label in every}
    assert any("£15.8m" in text for text, _ in every)  # from the one file in Latin-1
    entities = data.load("conll2003", quiet=True)
    kinds = [f"{begin}-{kind}" for kind in ("LOC", "MISC", "ORG", "PER") for begin in "BI"]
    assert data.label_names(entities) == ["O", *kinds]
    first = entities["train"][0]
    assert first["tokens"][:4] == ["EU", "rejects", "German", "call"]
    assert [data.label_names(entities)[t] for t in first["tags"][:4]] == [
        "B-ORG",
        "O",
        "B-MISC",
        "O",
    ]


def test_the_samples_of_the_repository():
    reviews = data.load(
        ROOT / "data/samples/reviews.csv", text_column="review", label_column="rating", quiet=True
    )
    assert data.label_names(reviews) == list("12345")
    table = data.describe(reviews)
    assert table["examples"].sum() == 40
    assert (table["classes"] == 5).all()
    sentences = data.load(ROOT / "data/samples/entities.conll", quiet=True)
    assert data.describe(sentences)["examples"].tolist() == [8, 1, 1]


def toy(counts):
    labels = np.repeat(np.arange(len(counts)), counts).tolist()
    features = splits._features(False, [f"c{i}" for i in range(len(counts))])
    return Dataset.from_dict(
        {"text": [f"t{i}" for i in range(len(labels))], "label": labels}, features
    )


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 9), st.data())
def test_few_is_nested_stratified_and_complete(counts, seed, draw):
    dataset, total = toy(counts), sum(counts)
    largest = max(len(counts), total - 1)  # below all rows, which come as they stand
    small, large = sorted(draw.draw(st.integers(len(counts), largest)) for _ in "12")
    a, b = data.subset(dataset, small, seed), data.subset(dataset, large, seed)
    assert len(a) == small
    assert a["text"][:] == b["text"][:small]
    assert data.subset(dataset, total, seed)["text"][:] == dataset["text"][:]  # as it stands
    assert len(set(a["text"][:])) == small
    for label, count in enumerate(counts):
        drawn = a["label"][:].count(label)
        share = small * count / total
        assert drawn >= 1
        assert abs(drawn - share) <= len(counts)


def test_few_depends_on_the_seed_and_says_when_it_cannot():
    dataset = toy([50, 50])
    assert data.subset(dataset, 10, 0)["text"][:] == data.subset(dataset, 10, 0)["text"][:]
    assert set(data.subset(dataset, 10, 0)["text"]) != set(data.subset(dataset, 10, 1)["text"])
    assert data.subset(dataset, 101, 0)["text"][:] == dataset["text"][:]
    with pytest.raises(data.DataError, match="1 rows cannot hold 2 classes"):
        data.subset(dataset, 1, 0)
    for n in (0, -1, -100):
        with pytest.raises(data.DataError, match=f"A subset of {n} rows is none"):
            data.subset(dataset, n, 0)


def test_few_of_tagged_sentences():
    train = data.load(ROOT / "data/samples/entities.conll", quiet=True)["train"]
    assert data.subset(train, 3, 0)["tokens"][:] == data.subset(train, 5, 0)["tokens"][:3]
    with pytest.raises(data.DataError, match="A subset of -1 rows"):
        data.subset(train, -1, 0)


def test_imbalanced_cuts_the_rarer_class_only():
    cut = data.imbalanced(toy([300, 200]), 10, seed=0)
    assert np.bincount(cut["label"][:]).tolist() == [300, 30]
    assert set(cut["text"]) != set(data.imbalanced(toy([300, 200]), 10, seed=1)["text"])
    assert np.bincount(data.imbalanced(toy([100, 200]), 4, 0)["label"][:]).tolist() == [50, 200]
    assert np.bincount(data.imbalanced(toy([90, 90]), 3, 0)["label"][:]).tolist() == [90, 30]


@pytest.mark.parametrize(
    ("counts", "ratio"), [([9, 9, 9], 2), ([300, 20], 10), ([9, 9], 0.5), ([9], 2)]
)
def test_imbalanced_refuses(counts, ratio):
    with pytest.raises(data.DataError, match="take two classes"):
        data.imbalanced(toy(counts), ratio, 0)


def test_describe_counts_words_and_characters_of_chinese():
    features = splits._features(False, ["a", "b"])
    content = {"text": ["one two, three", "很好！ ok"], "label": [0, 1]}
    part = Dataset.from_dict(content, features)
    assert data.describe({"train": part}).loc["train"].tolist() == [2, 2, 0.5, 3, 4]


def test_the_corpus_is_made_once_in_order_and_in_nested_parts(tmp_path, monkeypatch):
    documents = [f"Document number {i}, DON'T panic." for i in range(200)]
    calls = []
    monkeypatch.setattr(loading, "documents", lambda: calls.append(1) or iter(documents))
    monkeypatch.setattr(loading.inspect, "getsource", str)
    monkeypatch.setenv("NLP_TRANSFER_CACHE", str(tmp_path / "not yet there"))
    whole = data.corpus().read_text("utf-8").splitlines()
    assert whole == [f"document number {i} , do n't panic ." for i in range(200)]
    assert data.corpus().read_text("utf-8").splitlines() == whole
    assert len(calls) == 1
    data.corpus().write_bytes(b"")  # as a full disk leaves it
    assert data.corpus().read_text("utf-8").splitlines() == whole
    assert len(calls) == 2
    half, tenth = (data.corpus(f).read_text("utf-8").splitlines() for f in (0.5, 0.1))
    assert set(tenth) < set(half) < set(whole)
    assert 70 < len(half) < 130
    assert [line for line in whole if line in set(half)] == half


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(data.DataError, match="take above 0 to 1"):
        data.corpus(fraction)


def test_the_documents_of_the_corpus():
    documents = list(data.documents())
    assert len(documents) == 30_513
    with data.corpus().open(encoding="utf-8") as lines:
        for text, line in zip(documents[:50], lines, strict=False):
            assert line.split() == tokenize(text)
    assert all(map(str.strip, documents))
    movie = data.load("movie_reviews", quiet=True)
    assert not {normal(d) for d in documents} & forms(movie["test"])
    assert assets.is_cached("corpora")

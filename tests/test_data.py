"""Splits without leakage, the catalogue, subsets, and the corpus."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from helpers import assets, data
from helpers.data import splits

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
    return {splits.normal(text) for text in part["text"][:]}


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
    taken = {splits.normal(text) for text, _ in test}
    kept = Counter(pair for pair in pairs if splits.normal(pair[0]) not in taken)
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
    assert splits.normal(one) == splits.normal(other)


@pytest.mark.parametrize(("one", "other"), [(":)", ":("), ("😀", "😡"), ("film 1", "film 2")])
def test_what_does_not(one, other):
    assert splits.normal(one) != splits.normal(other)


@given(st.text(st.characters(max_codepoint=127)))
def test_the_fast_way_for_ascii_is_the_same(text):
    slow = splits.normal(text + " é").removesuffix("é").rstrip()  # not ASCII, so the other way
    assert splits.normal(text) == slow or not any(map(str.isalnum, text))


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
        (["4.0", "5", "3.50"], ["3.5", "4", "5"]),
        ([True, False], ["False", "True"]),
        ([2, -1, 0.5], ["-1", "0.5", "2"]),
        ([" pos", "neg", "pos"], ["neg", "pos"]),
        (["1e2", "20"], ["20", "100"]),
    ],
)
def test_classes_come_in_a_sensible_order(labels, names, tmp_path):
    pairs = [(f"text {i}", labels[i % len(labels)]) for i in range(30)]
    (tmp_path / "mine.jsonl").write_text(pd.Series(
        [pd.Series({"text": t, "label": y}, dtype=object).to_json() for t, y in pairs]
    ).str.cat(sep="\n"))  # fmt: skip
    assert data.label_names(data.load(tmp_path / "mine.jsonl", quiet=True)) == names


def test_the_classes_of_test_must_be_known_in_train(tmp_path):
    with pytest.raises(data.DataError, match=r"test\.jsonl, line 2: class 'c' has too few"):
        loaded(tmp_path, made(20), [("x", "a"), ("y", "c")])


RUN = """
import sys, warnings
warnings.simplefilter("error")
from pathlib import Path
from helpers import data
parts = data.load(sys.argv[1], quiet=True)
status = Path("/proc/self/status")
if status.exists():  # not ru_maxrss, which a child inherits
    print(int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024)
print([len(part) for part in parts.values()], "torch" in sys.modules)
print(parts["test"][-1]["text"], len({parts["train"][i]["label"] for i in range(0, 6000, 7)}))
"""


def test_a_million_rows_in_bounded_memory_and_no_litter(tmp_path):
    path, home, temporary = (tmp_path / name for name in ("big.csv", "home", "temporary"))
    home.mkdir()
    temporary.mkdir()
    with open(path, "w", encoding="utf-8") as file:
        file.write("text,label\n")
        filler = "a long and winding sentence about nothing in particular, with a comma or two"
        file.writelines(f'"{i} {filler}",{i % 2}\n' for i in range(1_000_000))
    own = {"HOME": home, "HF_HOME": home / "hf", "TMPDIR": temporary, "HF_HUB_OFFLINE": 1}
    environment = os.environ | {key: str(value) for key, value in own.items()}
    command = [sys.executable, "-c", RUN, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    *memory, sizes, sample = done.stdout.splitlines()
    assert all(float(megabytes) < 500 for megabytes in memory)
    assert sum(map(int, sizes.strip("[] False").split(","))) == 1_000_000
    assert "False" in sizes, "data alone must not load PyTorch"
    assert filler in sample
    assert sample.endswith(" 2")
    assert done.stderr == ""
    assert not [*home.rglob("*"), *temporary.rglob("*")], "nothing is left behind"


def test_large_and_small_data_sets_come_out_the_same(tmp_path, monkeypatch):
    small = loaded(tmp_path, made(3000, "abc"))
    monkeypatch.setattr(splits, "IN_MEMORY", 0)
    large = loaded(tmp_path, made(3000, "abc"))
    for split in splits.SPLITS:
        assert large[split].cache_files
        assert not small[split].cache_files
        assert large[split].to_dict() == small[split].to_dict()
        assert large[split].features == small[split].features
        assert data.label_names(large) == ["a", "b", "c"]


EXPECTED = {  # examples of train, validation, test; words that the report must hold
    "movie_reviews": (7050, 1010, 1983, "562 left out: rated between"),
    "product_reviews": (2076, 296, 571, "765 left out: rated between"),
    "editorials": (1966, 275, 547, "2,402 left out: rated between"),
    "tweets": (2322, 352, 688, "838 left out: rated between"),
    "newsgroups": (10182, 1104, 7528, "7 left out: also in a later"),
    "reuters": (5881, 643, 2568, "8 left out: also in a later"),
    "bbc_news": (1552, 236, 437, "5 classes"),
    "chinese_reviews": (12319, 1625, 3513, "17,666 left out: further copies"),
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
        seen = [{splits.normal(" ".join(r["tokens"])) for r in part} for part in parts.values()]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]


def test_imdb_is_divided_as_the_catalogue_is():
    parts = data.imdb()
    assert [len(part) for part in parts.values()] == [17_609, 2_449, 4_942]
    assert data.label_names(parts) == ["negative", "positive"]
    seen = [forms(part) for part in parts.values()]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]
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
    assert not snippets & {splits.normal(text) for text in texts}


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
    small, large = sorted(draw.draw(st.integers(len(counts), total)) for _ in "12")
    a, b = data.subset(dataset, small, seed), data.subset(dataset, large, seed)
    assert len(a) == small
    assert a["text"][:] == b["text"][:small] or large == total
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
    assert data.subset(dataset, 100, 0)["text"][:] == dataset["text"][:]
    with pytest.raises(data.DataError, match="1 rows cannot hold 2 classes"):
        data.subset(dataset, 1, 0)


def test_few_of_tagged_sentences():
    train = data.load(ROOT / "data/samples/entities.conll", quiet=True)["train"]
    assert data.subset(train, 3, 0)["tokens"][:] == data.subset(train, 5, 0)["tokens"][:3]


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
    sentences = data.load(ROOT / "data/samples/entities.conll", quiet=True)
    with pytest.raises(data.DataError, match="tags in place of a label"):
        data.imbalanced(sentences["train"], 2, 0)


def test_describe_counts_words_and_characters_of_chinese():
    features = splits._features(False, ["a", "b"])
    content = {"text": ["one two, three", "很好！ ok"], "label": [0, 1]}
    part = Dataset.from_dict(content, features)
    table = data.describe({"train": part, "test": part.select([])})
    assert table.loc["train"].tolist() == [2, 2, 0.5, 3, 4]
    assert table.loc["test"].tolist() == [0, 0, 0, 0, 0]


def test_the_corpus_is_made_once_in_order_and_in_nested_parts(tmp_path, monkeypatch):
    documents = [f"Document number {i}, DON'T panic." for i in range(200)]
    calls = []
    monkeypatch.setattr(data, "_documents", lambda: calls.append(1) or iter(documents))
    monkeypatch.setattr(data.inspect, "getsource", str)
    monkeypatch.setenv("NLP_TRANSFER_CACHE", str(tmp_path / "not yet there"))
    whole = data.corpus().read_text("utf-8").splitlines()
    assert whole == [f"document number {i} , do n't panic ." for i in range(200)]
    assert data.corpus().read_text("utf-8").splitlines() == whole
    assert len(calls) == 1
    half, tenth = (data.corpus(f).read_text("utf-8").splitlines() for f in (0.5, 0.1))
    assert set(tenth) < set(half) < set(whole)
    assert 70 < len(half) < 130
    assert [line for line in whole if line in set(half)] == half


def test_the_documents_of_the_corpus():
    documents = list(data._documents())
    assert len(documents) == 30_513
    assert all(map(str.strip, documents))
    movie = data.load("movie_reviews", quiet=True)
    assert not {splits.normal(d) for d in documents} & forms(movie["test"])
    assert assets.is_cached("corpora")

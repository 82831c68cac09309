"""Labelled text as train, validation and test: the catalogue, the Hub, or a file of your own. A
hash of a text's normalised form (`normal`) gives its split. So no text is in two splits, not even
in capitals or with other punctuation, and it stays where it is when a file grows (but for some of
a class with few texts, which are placed so that no split lacks it)."""

import csv
import difflib
import html
import inspect
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from tqdm.auto import tqdm

from helpers import assets
from helpers.data import languages, readers
from helpers.data.readers import DataError, Rows
from helpers.data.splits import divide
from helpers.text import tokens
from helpers.text.tokens import digest

RATED = {"movie_reviews": "movieReviewSnippets", "product_reviews": "amazonReviewSnippets"}
RATED |= {"editorials": "nytEditorialSnippets", "tweets": "tweets"}
TOPICS = {"newsgroups": "20newsgroups", "reuters": "reuters-r52"}
CATALOGUE = (*RATED, *TOPICS, "bbc_news", "chinese_reviews", "imdb", "encyclopedia", "conll2003")
LANGUAGES = ("en", "fr", "es")  # of the encyclopedia


def load(name_or_path: str | Path, *, text_column: str = "text", label_column: str = "label",
         test_file: str | Path | None = None, task: str | None = None, language: str | None = None,
         seed: int = 0, quiet: bool = False) -> DatasetDict:  # fmt: skip
    """Train, validation and test of a labelled data set, without a text in two of them.

    The source is a name of the `CATALOGUE`, a Hub id ("owner/name" or "owner/name:config"), or a
    file: .csv, .tsv, .jsonl or .parquet with the two columns, or .conll with a token and its tag a
    line. The result has `text` and `label` (a ClassLabel), or lists `tokens` and `tags` (in BIO);
    a `task`, "classification" or "tagging", refuses the other kind. `encyclopedia` has a
    `language`, "en", "fr" or "es", and the same classes in each.

    Official test and validation splits and a `test_file` stay whole; train gives up their texts.
    Without a test split, a hash of text and `seed` gives about 70 % to train, 10 % to validation,
    20 % to test; else 10 % of train to validation. Repeated texts stay, whatever their labels. Up
    to one row in ten may lack its text or label and is left out. All of this is counted and
    printed, unless `quiet`. `DataError` is one sentence with the file, the row and the mend."""
    if task not in (None, "classification", "tagging"):
        raise DataError(f"There is no task {task!r}: write 'classification' or 'tagging'.")
    name = str(name_or_path)
    if language and name != "encyclopedia":
        raise DataError(f"{name} comes in one language: leave out language={language!r}.")
    if language not in (None, *LANGUAGES):
        raise DataError(f"encyclopedia has no {language!r}: take en, fr or es.")
    notes, columns = Counter(), (text_column, label_column)
    if (kind := _kind(name)) == "catalogue":
        parts = _catalogued(name, notes, language or "en")
    elif kind == "hub":
        parts = readers.hub(name, columns, notes)
    else:
        parts = {"train": readers.read(name, columns, notes)}
    if test_file:
        notes["left out: the source's own test split, as a test_file is given"] += "test" in parts
        parts["test"] = readers.read(test_file, columns, notes)
    try:
        splits = divide(parts, seed, notes, task)
    except (pa.ArrowException, OSError, UnicodeError, MemoryError) as error:
        said = str(error).partition("\n")[0].rstrip(".")[:120] or type(error).__name__
        files = " or ".join(part.source for part in parts.values())
        raise DataError(f"{files} cannot be read, or its rows not stored in the temporary folder "
                        f"({said}): write it again, or free some space.") from error  # fmt: skip
    if not quiet:
        counts = ", ".join(f"{split} {len(rows):,}" for split, rows in splits.items())
        print(f"{name}: {counts}; {len(label_names(splits))} classes")
        for reason in filter(notes.get, notes):
            print(f"  {notes[reason]:,} {reason}")
    return splits


def check_source(name_or_path: str | Path | Iterable[str]) -> None:
    """Refuse, unread, what is no name of the `CATALOGUE`, no known kind of file and no Hub id."""
    for name in [name_or_path] if isinstance(name_or_path, str | Path) else name_or_path:
        if name and _kind(str(name)) == "file":
            readers.read(name, ("", ""), Counter())  # opens it only when rows are drawn


def _kind(name: str) -> str:
    if name in CATALOGUE:
        return "catalogue"
    if os.path.exists(os.path.expanduser(name)) or Path(name).suffix.lower() in readers.FORMATS:
        return "file"
    if re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", name):
        return "hub"
    near = " or ".join(difflib.get_close_matches(name, CATALOGUE, 1) or CATALOGUE)
    said = f"{readers.short(name)} is no data set, file or Hub id (owner/name)"
    raise DataError(f"{said}: did you mean {near}?")


def _catalogued(name: str, notes: Counter, language: str = "en") -> dict[str, Rows]:
    """The rows of a data set of the catalogue by split, out of its package's files."""
    folder, found = assets.path(name), {"train": []}
    if name == "conll2003":
        files = {split: folder / f"{split[:5]}.txt" for split in ("train", "validation", "test")}
        return {split: readers.read(file, ("", ""), notes) for split, file in files.items()}
    if name == "encyclopedia":
        rows = languages.leads(folder, language, notes)
        return {"train": Rows(name, rows, classes=tuple(languages.TOPICS))}
    if name in TOPICS:
        for split in ("train", "test"):
            found[split] = _tabs(folder / f"{TOPICS[name]}-{split}.tab", 3)[[1, 0]].to_numpy()
    elif name in RATED:  # from -4 to 4
        table = _tabs(folder / f"{RATED[name]}_GroundTruth.txt").astype({1: float})
        clear = table[table[1].abs() > 0.5]
        notes["left out: rated between -0.5 and 0.5"] = len(table) - len(clear)
        labels = (clear[1] > 0).map({True: "positive", False: "negative"})
        found["train"] = zip(map(html.unescape, clear[2]), labels, strict=True)
    elif name == "bbc_news":  # the headline, then each paragraph, on a line; one is in Latin-1
        for path in sorted(folder.glob("*/*.txt")):
            text = path.read_text("latin-1" if path.match("sports/199.txt") else "utf-8")
            lines = filter(None, map(str.strip, text.splitlines()))
            found["train"].append(("\n".join(lines), path.parent.name))
    elif name == "chinese_reviews":  # the package holds most of them more than once
        for file, label in (("neg.txt", "negative"), ("pos.txt", "positive")):
            lines = (folder / "sentiment" / file).read_text("utf-8").split("\n")
            lines = [line.strip() for line in lines if line.strip()]
            found["train"] += [(line, label) for line in dict.fromkeys(lines)]
            copies = len(lines) - len(set(lines))
            notes["left out: further copies of a review in the source"] += copies
    else:  # IMDb; the other rows are snippets, as in ICWSM-14
        table = pd.read_csv(folder / "combined_movie_reviews.csv", keep_default_na=False)
        for text, label in table.loc[table["source"] == "imdb", ["text", "label"]].to_numpy():
            text = text.replace("<br />", "\n").strip()
            found["train"].append((text, ("negative", "positive")[label]))
    rows = {split: ((i, *pair) for i, pair in enumerate(found[split], 1)) for split in found}
    return {split: Rows(name, rows[split]) for split in rows}


def _tabs(path: Path, skip: int = 0) -> pd.DataFrame:
    """The fields of a package's lines, as they stand between tabs."""
    options = {"quoting": csv.QUOTE_NONE, "keep_default_na": False, "dtype": str}
    rows = pd.read_csv(path, sep="\t", header=None, skiprows=skip, **options)
    return rows[rows[1] != ""]  # one is blank


def label_names(dataset: Dataset | DatasetDict) -> list[str]:
    """The names of the classes or tags, in the order of their numbers."""
    features = (dataset["train"] if isinstance(dataset, DatasetDict) else dataset).features
    return features["label"].names if "label" in features else features["tags"].feature.names


def subset(dataset: Dataset, n: int, seed: int) -> Dataset:
    """`n` rows, stratified, each class at least once; tagged sentences are drawn at random. With
    one seed, the rows for a smaller n are the first of those for a larger n; but from the number of
    rows on, all come as they stand. `DataError` if n is below 1 or the classes' number."""
    if n < 1:
        raise DataError(f"A subset of {n} rows is none: take at least 1.")
    if n >= len(dataset):  # the recorded full sizes train on all rows in this order
        return dataset
    order = np.random.default_rng(seed).permutation(len(dataset))
    if "tags" not in dataset.features:
        labels = pd.Series(dataset["label"][:]).iloc[order]
        classes = labels.groupby(labels)
        if n < classes.ngroups:
            raise DataError(f"{n} rows cannot hold {classes.ngroups} classes: take more.")
        place = classes.cumcount()  # within its class; the first of each comes before all others
        turn = ((place + 0.5) / classes.transform("size")).where(place > 0, 0)
        order = order[np.argsort(turn.to_numpy(), kind="stable")]
    return dataset.select(order[:n])


def imbalanced(dataset: Dataset, ratio: float, seed: int) -> Dataset:
    """All of the larger of two classes and a random part of the other, 1 to `ratio` (rounded). Of
    two equal classes the second is cut. `DataError` if the data cannot give that."""
    labels = np.array(dataset["label"][:])
    counts = np.bincount(labels, minlength=2)
    rare = int(counts[1] <= counts[0])
    size = round(int(counts.max()) / ratio) if ratio >= 1 else 0
    if len(counts) != 2 or not 0 < size <= counts[rare]:
        have = f"Classes of {', '.join(map(str, counts))} rows give no 1 to {ratio:g}"
        raise DataError(f"{have}: take two classes and another ratio.")
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(labels == rare))[:size]
    return dataset.select(np.sort(np.concatenate([rows, np.flatnonzero(labels != rare)])))


def describe(splits: DatasetDict) -> pd.DataFrame:
    """A row a split: examples, classes or tags, smallest share, words (in Chinese: characters)."""
    rows = []
    for dataset in splits.values():
        text, label = dataset.with_format("arrow")[:].columns
        if "tags" in dataset.features:
            words, label = pc.list_value_length(text), pc.list_flatten(label)
        else:
            words = pc.count_substring_regex(text, r"\p{Han}|[^\s\p{Han}]+")
        counts, words = pc.value_counts(label).field("counts").to_numpy(), words.to_numpy()
        smallest = counts.min() / counts.sum()
        rows.append([len(dataset), len(counts), smallest, int(np.median(words)), words.max()])
    columns = ["examples", "classes", "smallest class", "median words", "longest"]
    return pd.DataFrame(rows, [*splits], columns)


def film_reviews() -> list[str]:
    """The texts of `imdb` to train language models on, 5.8 M words; first the negative ones."""
    return [text for _, text, _ in _catalogued("imdb", Counter())["train"].rows]


def corpus(fraction: float = 1.0) -> Path:
    """A text file to train word vectors on: a document a line, lower-cased, blanks between tokens.
    20 Newsgroups, Reuters-52, Friends by episode, book excerpts and BBC news, 7.8 M words, made
    once and kept in the cache; a smaller `fraction` takes some whole documents. Those of the test
    splits of `newsgroups`, `reuters` and `bbc_news` are in it: judge its vectors on other data."""
    if not 0 < fraction <= 1:
        raise DataError(f"A fraction of {fraction} is no part of the corpus: take above 0 to 1.")
    pins = [assets.catalogue()[name].folder.name for name in ("corpora", "bbc_news")]
    recipe = "".join([inspect.getsource(tokens), inspect.getsource(documents), *pins])

    def make(folder: Path) -> None:
        with open(folder / "corpus.txt", "w", encoding="utf-8") as file:
            for document in tqdm(documents(), "corpus", 30_513, leave=False, unit="text"):
                if int.from_bytes(digest(document)) < fraction * 2**64:
                    file.write(" ".join(tokens.tokenize(document)) + "\n")

    return assets.derived(f"corpus-{fraction}", recipe, make) / "corpus.txt"


def documents() -> Iterator[str]:
    """The raw texts that make up `corpus`, in the order of its lines."""
    folder = assets.path("corpora")
    for name in ("20newsgroups-train", "20newsgroups-test", "reuters-r52-train", "reuters-r52-test",
                 "book-excerpts"):  # fmt: skip
        yield from _tabs(folder / f"{name}.tab", 3)[1]
    lines = _tabs(folder / "friends-transcripts.tab", 3)
    for _, episode in lines[5].str.strip().groupby(lines[2], sort=False):
        yield " ".join(episode)
    yield from (text for _, text, _ in _catalogued("bbc_news", Counter())["train"].rows)

"""Rows (place, text, label) as a stream: from CSV, TSV, JSON Lines, Parquet, CoNLL and the Hub.
`place` is the line (in Parquet the row) where a row starts, from 1. A tagged sentence has a list as
its text and the range of its lines as its place."""

import csv
import json
import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

import datasets
import pyarrow.parquet as pq

LIMIT = 1 << 24  # characters of a line or a text: more than any book
EXPANSION = 1 << 28, 1000  # bytes, and times its size, to which a Parquet file may expand
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
COMMENT, BIO = re.compile(r"#\s*[\w.:-]+\s*="), re.compile("O|[BIESLUM]-.+")
BLANK, ONE = "left out: blank lines", "may have only one label for each text"


class DataError(ValueError):
    """Data that cannot be used. The message is one sentence: what, where, and how to mend it."""


def short(value) -> str:
    """A value as Python writes it, cut to 50 characters."""
    said = repr(value)
    return said if len(said) <= 50 else f"{said[:48]}…{said[0]}"


@dataclass
class Rows:
    """A stream of rows, the name of its source, and what a place in it is called."""

    source: str
    rows: Iterator | None = None
    unit: str = "line"
    classes: tuple[str, ...] = ()  # in order, if they are set

    def error(self, place: int | range | None, message: str) -> DataError:
        """The message follows its subject: "my.csv, line 7" and then "has no text: write one"."""
        place = place[0] if isinstance(place, range) else place
        at, end = f", {self.unit} {place}" if place else "", "" if message.endswith("?") else "."
        return DataError(f"{self.source}{at} {message}{end}")

    def need(self, names: list[str], columns: tuple[str, str], first: Callable) -> None:
        """Refuse a source in which a column is missing or double; `first()` gives a row of it."""
        for parameter, column in zip(("text_column", "label_column"), columns, strict=True):
            if names.count(column) == 1:
                continue
            flags = [str(value) in ("0", "1", "True", "False") for value in first()]
            if column in names:
                message = f"has two columns {column!r}: rename or delete one"
            elif any(re.fullmatch(r"-?[\d.]+", name) or name.count(" ") > 4 for name in names):
                message = "has no header, its first line looks like data: write one, text,label"
            elif 1 < sum(flags) >= len(names) - 1:
                message = f"{ONE} (this has columns of 0 and 1): write it in a column {column!r}"
            else:
                only = f"only {', '.join(map(short, names[:9]))}" if names else "and no other"
                message = f"has no column {column!r}, {only}: name yours with {parameter}="
            raise self.error(None, message)


def read(path: str | Path, columns: tuple[str, str], notes: Counter) -> Rows:
    """The rows of a user's file, by its ending; `notes` counts what is left out, by reason.
    `DataError` if the file is missing or of no known kind; it is opened when rows are drawn."""
    ending = os.path.splitext(path)[1].lower()
    part = Rows(os.path.expanduser(path), unit="row" if ending == ".parquet" else "line")
    if not os.path.exists(part.source):
        raise part.error(None, f"does not exist: check the path, seen from {Path.cwd()}")
    if ending not in FORMATS or not os.path.isfile(part.source):
        raise part.error(None, f"cannot be read: save the data as {', '.join(FORMATS)}")
    part.rows = FORMATS[ending](part, columns, notes)
    return part


def _lines(part: Rows) -> Iterator[str]:
    """The lines of a file in UTF-8 or, with its byte order mark, UTF-16."""
    with open(part.source, "rb") as file:
        code = "UTF-16" if file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE) else "UTF-8-sig"
    with open(part.source, encoding=code, errors="surrogateescape", newline="") as file:
        for place in count(1):
            try:
                line = file.readline(LIMIT)
                line.isascii() or line.encode()
            except UnicodeError:
                message = f"is not {code.removesuffix('-sig')}: save the file as UTF-8"
                raise part.error(place, message) from None
            if "\0" in line or len(line) >= LIMIT:
                has = "NUL bytes" if "\0" in line else f"over {LIMIT:,} characters"
                raise part.error(place, f"has {has}: save it as text, in UTF-8")
            if not line:
                return
            yield line


def _csv(part: Rows, columns: tuple[str, str], notes: Counter) -> Iterator:
    """Quoted as in RFC 4180; in TSV a quote is a character like any other."""
    limit, start, raw, here, labels, several = csv.field_size_limit(LIMIT), 1, [], [], set(), {}
    try:
        lines = (raw.append(line) or line for line in _lines(part))
        top, tab = next(lines, ""), part.source.lower().endswith(".tsv")
        comma = "\t" if tab else max(SEPARATORS, key=re.sub('"[^"]*("|$)', "", top).count)
        if said := re.fullmatch(r'"?sep=(\t|[^\w\s"])"?\s*', top):  # Excel's
            comma, top = said[1], next(lines, "")
        quoting = csv.QUOTE_NONE if tab and top[:1] != '"' else csv.QUOTE_MINIMAL
        reader = csv.reader(chain([top], lines), delimiter=comma, quoting=quoting, strict=True)
        header = [name.strip() for name in next(reader, [])]
        part.need(header, columns, lambda: next(reader, []))
        t, y = map(header.index, columns)
        here, raw[:] = raw[:], []
        for fields in reader:
            start, here, raw[:] = start + len(here), raw[:], []
            if not any(fields):
                notes[BLANK] += 1
                continue
            if len(fields) != len(header):
                message = f"has {len(fields)} fields, the header has {len(header)}: fix the row"
                how = "take out" if quoting == csv.QUOTE_NONE else "quote"
                mend = f" or {how} the {SEPARATORS.get(comma, comma)}"
                raise part.error(start, message + mend * (len(fields) > len(header)))
            yield start, fields[t], fields[y]
            labels.add(fields[y])
            if len(here) > 1:  # are these rows, with labels of other rows, that a quote made one?
                rows = [line.rstrip("\r\n").split(comma) for line in here]
                alike = all(len(row) == len(header) for row in rows)
                several[start] = {row[y].strip('"') for row in rows} if alike else {None}
        for row, found in several.items():
            if found <= labels:
                mend = "write quotes in a text twice, or save as TSV"
                raise part.error(row, f"has a double quote that closes rows later: {mend}")
        if several:
            notes[f"kept: texts over several lines, first in line {min(several)}"] += len(several)
    except csv.Error as error:
        message = f"has a double quote without its pair ({error}): write those in a text twice"
        raise part.error(start + len(here), message) from None
    finally:
        csv.field_size_limit(limit)


def _jsonl(part: Rows, columns: tuple[str, str], notes: Counter) -> Iterator:
    def unique(pairs: list[tuple]) -> dict:
        if len(record := dict(pairs)) < len(pairs):
            raise ValueError
        return record

    decode, known = json.JSONDecoder(object_pairs_hook=unique).decode, False
    for place, line in enumerate(_lines(part), 1):
        if line.isspace():
            notes[BLANK] += 1
            continue
        try:
            record = decode(line)
            if "\\u" in line:  # half of a surrogate pair cannot be encoded, thus not be stored
                json.dumps(record, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            mend = "write each row as one, flat, on a line"
            raise part.error(place, f"is not a JSON object with each key once: {mend}")
        known = known or part.need(list(record), columns, record.values) is None
        yield place, *map(record.get, columns)


def _parquet(part: Rows, columns: tuple[str, str], notes: Counter) -> Iterator:
    size, most = 0, max(EXPANSION[0], EXPANSION[1] * os.path.getsize(part.source))
    with pq.ParquetFile(part.source) as file:
        first = (row for batch in file.iter_batches(1) for row in batch.to_pylist())
        part.need(file.schema_arrow.names, columns, lambda: next(first, {}).values())
        batches = file.iter_batches(64, columns=list(columns))
        rows = (zip(*(b[c].to_pylist() for c in columns), strict=True) for b in batches)
        for place, row in enumerate(chain.from_iterable(rows), 1):
            size += len(row[0]) if isinstance(row[0], str) else 0
            if size > most:
                message = f"repeats its texts to over {most >> 20:,} MB: keep a copy of each"
                raise part.error(place, message)
            yield place, *row


def _conll(part: Rows, columns: tuple[str, str], notes: Counter) -> Iterator:
    """Sentences from token lines; blank lines and -DOCSTART- lines are between them."""

    def split(line: str) -> list[str]:
        if not line.strip() or line.startswith("-DOCSTART-"):
            return []
        return line.strip("\r\n").split("\t") if "\t" in line else re.split(" +", line.strip())

    # the tags are in the last column, unless another alone is in BIO; the first may number tokens
    rows = (row for line in _lines(part) if (row := split(line)) and row[0][:1] != "#")
    rows = list(islice(rows, 1000))
    width = max(2, len(rows[0])) if rows else 2
    table = list(zip(*(row for row in rows if len(row) == width), strict=True))
    tags = [i for i, column in enumerate(table) if all(map(BIO.fullmatch, column))]
    few = 2 * sum(bool(BIO.fullmatch(row[-1])) for row in rows) < len(rows)
    tag = tags[0] if few and len(tags) == 1 and {*table[tags[0]]} != {"O"} else width - 1
    numbered = width > 2 and table and table[0][0] == "1" and all(map(str.isdigit, table[0]))
    token, sentence = width - 1 if tag == 0 else int(numbered), []
    for place, line in enumerate(chain(_lines(part), [""]), 1):
        if not (row := split(line)):
            if sentence:
                yield range(place - len(sentence), place), *map(list, zip(*sentence, strict=True))
                sentence = []
        elif line[0] == "#" and not sentence and (COMMENT.match(line) or len(row) != width):
            notes["left out: comment lines"] += 1
        elif len(row) != width:
            message = f"has {len(row)} field(s) where {width} are due"
            raise part.error(place, f"{message}: write a token and its tag, or a blank line")
        else:
            sentence.append((row[token].strip(), row[tag].strip()))


FORMATS = dict.fromkeys((".csv", ".tsv"), _csv) | {".jsonl": _jsonl, ".parquet": _parquet}
FORMATS |= dict.fromkeys((".conll", ".bio", ".iob", ".txt"), _conll)


def hub(name: str, columns: tuple[str, str], notes: Counter) -> dict[str, Rows]:
    """The splits of a Hub data set; validation serves as test if that lacks or hides its labels."""
    path, _, config = name.partition(":")
    try:
        found = dict(datasets.load_dataset(path, config or None))
        train = found["train"]
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0].rstrip(".")[:300]
        raise DataError(f"{name} is no file, and the Hub gives no training split ({said}): "
                        "check the name, owner/name:configuration.") from error  # fmt: skip
    Rows(name).need(train.column_names, columns, lambda: train[0].values() if len(train) else ())
    (text, label), feature = columns, train.features[columns[1]]
    names = getattr(getattr(feature, "feature", feature), "names", [])  # of a list, its items'
    if "test" in found and hasattr(feature, "names") and found["test"].unique(label) == [-1]:
        found["test with hidden labels"] = found.pop("test")
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    for split in found.keys() - {"train", "validation", "test"}:
        notes[f"left out: in the split {split}"] = len(found.pop(split))

    def named(one):
        """The name of a class's number, or those of several; None of -1, as a hidden one is."""
        if isinstance(one, list):
            return [*map(named, one)]
        return one if not names or one is None else names[one] if one >= 0 else None

    def rows(part: datasets.Dataset) -> Iterator:
        return ((i, row[text], named(row[label])) for i, row in enumerate(part, 1))

    order = tuple(names)
    return {s: Rows(f"{name} ({s})", rows(part), "row", order) for s, part in found.items()}


def bio(tags: list[str]) -> list[str]:
    """IOB1, BIO, BIOES or BILOU tags as BIO, in which each entity begins with B-; others stay."""
    out, previous = [], ""
    for tag in tags:
        position, kind = (tag[0], tag[2:]) if re.match("[BIESLUM]-.", tag) else ("", "")
        begins = position in "BSU" or previous != kind
        out.append(f"{'B' if begins else 'I'}-{kind}" if kind else tag)
        previous = kind
    return out

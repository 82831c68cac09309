"""Rows as a stream: from CSV, TSV, JSON Lines, Parquet, CoNLL, the Hub, the catalogue's packages.

A row is (place, text, label). `place` is the line (in Parquet the row) where it starts, counted
from 1 as editors do; a tagged sentence, whose text is a list, has the range of its lines.
"""

import csv
import html
import json
import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

FIELD_LIMIT = 1 << 24  # characters; the csv module gives up at 1 << 17, too little for a book


class DataError(ValueError):
    """Data that cannot be used; the message is one sentence that says where and how to mend it."""


@dataclass
class Rows:
    """A stream of rows, how to speak of its source, and about how large it is."""

    source: str
    rows: Generator | None = None
    unit: str = "line"
    size: int = 0  # bytes

    def error(self, place: int | range | None, message: str) -> DataError:
        place = place[0] if isinstance(place, range) else place
        return DataError(f"{self.source}{f', {self.unit} {place}' if place else ''}: {message}.")

    def need(self, names: Iterable[str], columns: tuple[str, str]) -> None:
        for parameter, column in zip(("text_column", "label_column"), columns, strict=True):
            if column not in names:
                known = ", ".join(map(repr, names)) or "nothing"
                message = f"there is no column {column!r}, only {known}; name yours, {parameter}="
                raise self.error(None, message)


def read(path: str | Path, columns: tuple[str, str], notes: Counter) -> Rows:
    """The rows of a user's file, by its ending. `notes` counts what is left out, by reason."""
    path = Path(path).expanduser()
    part = Rows(str(path))
    if not path.exists():
        raise part.error(None, f"no such file; check the path, seen from {Path.cwd()}")
    reader = FORMATS.get(path.suffix.lower())
    if reader is None or not path.is_file():
        raise part.error(None, f"cannot be read; save the data as {', '.join(FORMATS)}")
    packed = reader is _parquet  # about fourfold
    part.unit, part.size = "row" if packed else "line", path.stat().st_size * (4 if packed else 1)
    part.rows = _guarded(reader(path, columns, notes, part), path, part)
    return part


def _guarded(rows: Iterator, path: Path, part: Rows) -> Iterator:
    try:
        yield from rows
    except UnicodeDecodeError:
        with open(path, "rb") as file:
            place = next(n for n, line in enumerate(file, 1) if not _is_utf8(line))
        raise part.error(place, "not UTF-8; save the file in that encoding") from None
    except (pa.ArrowInvalid, OSError) as error:
        said = str(error).partition("\n")[0].rstrip(".")
        raise part.error(None, f"cannot be read ({said}); write the file again") from error


def _is_utf8(content: bytes) -> bool:
    return content.decode("utf-8", "ignore").encode() == content


def _csv(path: Path, columns, notes: Counter, part: Rows) -> Iterator:
    limit, start, tab = csv.field_size_limit(FIELD_LIMIT), 1, path.suffix.lower() == ".tsv"
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            top = file.readline()
            comma = "\t" if tab else ";" if top.count(";") > top.count(",") else ","
            file.seek(0)
            reader = csv.reader(file, delimiter=comma, strict=True)
            header = [name.strip() for name in next(reader, [])]
            part.need(header, columns)
            text, label = map(header.index, columns)
            start = reader.line_num + 1
            for fields in reader:
                if len(fields) == len(header):
                    yield start, fields[text], fields[label]
                elif fields:
                    message = f"{len(fields)} fields where the header has {len(header)}"
                    raise part.error(start, f"{message}; put a text with a {comma!r} in quotes")
                else:
                    notes["left out: blank lines"] += 1
                start = reader.line_num + 1
    except csv.Error as error:
        message = f"a field's double quotes do not match ({error}); double those inside the text"
        raise part.error(start, message) from None
    finally:
        csv.field_size_limit(limit)


def _jsonl(path: Path, columns, notes: Counter, part: Rows) -> Iterator:
    known = False
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        for place, line in enumerate(file, 1):
            if line.isspace():
                notes["left out: blank lines"] += 1
                continue
            try:
                record = json.loads(line)
                if "\\u" in line:  # half of a surrogate pair cannot be encoded, thus not be stored
                    json.dumps(record, ensure_ascii=False).encode()
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise part.error(place, "not a JSON object; write each row as one, on a line")
            known = known or part.need(record, columns) is None
            yield place, *map(record.get, columns)


def _parquet(path: Path, columns, notes: Counter, part: Rows) -> Iterator:
    with pq.ParquetFile(path) as file:
        part.need(file.schema_arrow.names, columns)
        batches = file.iter_batches(batch_size=1024, columns=list(columns))
        rows = (zip(*(b[c].to_pylist() for c in columns), strict=True) for b in batches)
        for place, row in enumerate(chain.from_iterable(rows), 1):
            yield place, *row


def _conll(path: Path, columns, notes: Counter, part: Rows) -> Iterator:
    """Sentences from token lines: the first field is the token, the last one its tag."""
    tokens, tags, width = [], [], 0
    with open(path, encoding="utf-8-sig") as file:
        for place, line in enumerate(chain(file, [""]), 1):
            fields = line.strip("\n").split("\t") if "\t" in line else re.split(" +", line.strip())
            if not line.strip() or line.startswith("-DOCSTART-"):
                if tokens:
                    yield range(place - len(tokens), place), tokens, tags
                    tokens, tags = [], []
                continue
            width = width or max(2, len(fields))
            if len(fields) != width:
                message = f"{len(fields)} field(s) where {width} are due"
                raise part.error(place, f"{message}; write a token and its tag, or a blank line")
            tokens.append(fields[0].strip())
            tags.append(fields[-1].strip())


FORMATS = dict.fromkeys((".csv", ".tsv"), _csv) | {".jsonl": _jsonl, ".parquet": _parquet}
FORMATS |= dict.fromkeys((".conll", ".bio", ".iob", ".txt"), _conll)


def hub(name: str, columns: tuple[str, str], notes: Counter):
    """The splits of a Hub data set, split -> `Rows`, and the names of its classes, if it has any.

    Where the labels of test are hidden (-1), or there is no test, validation serves as test.
    """
    path, _, config = name.partition(":")
    try:
        found = dict(datasets.load_dataset(path, config or None))
        train = found["train"]
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0].rstrip(".")
        raise DataError(f"{name}: no such file, and the Hub gives no training split ({said}); "
                        "check the name, owner/name:configuration.") from error  # fmt: skip
    Rows(name).need(train.column_names, columns)
    feature = train.features[columns[1]]
    classes = getattr(feature, "feature", feature)
    names = classes.names if isinstance(classes, datasets.ClassLabel) else []
    if names and feature is classes and "test" in found:
        hidden = found["test"].unique(columns[1]) == [-1]
        found["test with hidden labels" if hidden else "test"] = found.pop("test")
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    parts = {}
    for split, data in found.items():
        if split in ("train", "validation", "test"):
            rows = _hub_rows(data.select_columns(list(columns)), columns, names)
            parts[split] = Rows(f"{name} ({split})", rows, "row", data.data.nbytes)
        else:
            notes[f"left out: in the split {split}"] += len(data)
    return parts, names


def _hub_rows(data: datasets.Dataset, columns: tuple[str, str], names: list[str]):
    def named(label):
        if isinstance(label, list):
            return [named(one) for one in label]
        return label if not names or label is None else names[label] if label >= 0 else None

    rows = (zip(*map(batch.get, columns), strict=True) for batch in data.iter(1024))
    for place, (text, label) in enumerate(chain.from_iterable(rows), 1):
        yield place, text, named(label)


def bio(tags: list[str]) -> list[str]:
    """Tags in BIO (IOB2), where each entity begins with B-, from IOB1, BIO, BIOES or BILOU.

    Tags without such prefixes (parts of speech, say) come back as they are.
    """
    out, previous = [], ""
    for tag in tags:
        position, kind = (tag[0], tag[2:]) if re.match("[BIESLUM]-.", tag) else ("", "")
        begins = position in "BSU" or previous != kind
        out.append(f"{'B' if begins else 'I'}-{kind}" if kind else tag)
        previous = kind
    return out


def rated(path: Path, notes: Counter) -> Iterator:
    """id, mean rating (-4 to 4), text: positive above 0.5, negative below -0.5, else left out."""
    with open(path, encoding="utf-8") as file:
        for place, line in enumerate(file, 1):
            _, rating, text = line.rstrip("\n").split("\t")
            if abs(float(rating)) > 0.5:
                yield place, html.unescape(text), "negative" if rating[0] == "-" else "positive"
            else:
                notes["left out: rated between -0.5 and 0.5"] += 1


def topics(path: Path) -> Iterator:
    """label, text of an Orange table, which has three header lines and perhaps a blank one."""
    with open(path, encoding="utf-8") as file:
        for place, line in enumerate(file, 1):
            if place > 3 and line.strip():
                label, text = line.rstrip("\n").split("\t")
                yield place, text, label


def articles(folder: Path) -> Iterator:
    """<topic>/*.txt: the headline, then each paragraph, on a line. One file is in Latin-1."""
    for place, path in enumerate(sorted(folder.glob("*/*.txt")), 1):
        content = path.read_bytes()
        text = content.decode("utf-8" if _is_utf8(content) else "latin-1")
        yield place, "\n".join(filter(None, map(str.strip, text.splitlines()))), path.parent.name


def film_reviews(path: Path) -> Iterator:
    """Text and label of the reviews of IMDb; the other rows are snippets, as in ICWSM-14."""
    with open(path, encoding="utf-8", newline="") as file:
        for place, row in enumerate(csv.DictReader(file, strict=True), 2):
            if row["source"] == "imdb":
                label = {"0": "negative", "1": "positive"}[row["label"]]
                yield place, row["text"].replace("<br />", "\n").strip(), label


def opinions(folder: Path, notes: Counter) -> Iterator:
    """neg.txt and pos.txt, a review a line; the package holds most of them more than once."""
    for name, label in (("neg.txt", "negative"), ("pos.txt", "positive")):
        seen = {""}
        with open(folder / name, encoding="utf-8") as file:
            for place, line in enumerate(file, 1):
                if (text := line.strip()) not in seen:
                    yield place, text, label
                elif text:
                    notes["left out: further copies of a review in the source"] += 1
                seen.add(text)

"""From rows to train, validation and test: checks, classes, and a split by a hash of the text."""

import atexit
import hashlib
import os
import re
import shutil
import tempfile
from collections import Counter
from contextlib import closing
from decimal import Decimal
from itertools import islice

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from helpers.data.readers import DataError, Rows, bio
from helpers.text.tokens import digest

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST, OUT, OPEN = range(5)  # where a row goes; OPEN: the hash decides
SHARES = (0.2, 0.3)  # a hash below the first means test, below the second validation
IN_MEMORY = 1 << 26  # bytes; what is larger lies in memory-mapped files
CHUNK = 1024  # rows that are Python objects at a time
MAX_CLASSES, MAX_DECIMALS = 5000, 20

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_KINDS = {str: "text", int: "a number", float: "a number", bool: "true or false"}


def divide(parts: dict[str, Rows], classes: list[str], seed: int, notes: Counter) -> DatasetDict:
    """The rows of `parts` (split -> rows) as data sets; the hash makes what splits are missing.

    `classes` are the names of the classes in order, if they are set; `notes` counts what is said.
    In memory are a chunk of rows at a time and, of each row, a few numbers.
    """
    draft = _Draft(parts, seed, notes)
    names, classes = draft.classes([] if draft.tagged else classes)
    number = np.array([classes.index(name) for name in names])
    targets = draft.codes if draft.tagged else number[draft.codes]
    homes = _settle(draft.keys, targets, draft.homes)
    draft.check(targets, homes, names, classes)
    _count(draft.keys, targets, homes, notes)
    return draft.write(homes, number, classes)


class _Draft:
    """All rows, checked and in a stream of Arrow data, and what it takes to divide them.

    Per row: `keys` (hash of its text), `codes` (its label's; 0 if tagged), `homes`. `labels` maps
    (type, label) to a code, `first` has the part and place where each label came first. Large
    streams are files that go when Python ends.
    """

    def __init__(self, parts: dict[str, Rows], seed: int, notes: Counter):
        self.sinks, self.labels, self.first, self.tagged = {}, {}, [], None
        self.folder, self.seed, self.notes, columns = None, seed, notes, []
        if sum(part.size for part in parts.values()) > IN_MEMORY:
            self.folder = tempfile.mkdtemp(prefix="nlp-transfer-")
            atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        for split, part in parts.items():
            home = OPEN if split == "train" and "validation" not in parts else SPLITS.index(split)
            before = len(columns)
            with closing(part.rows) as rows:
                while chunk := list(islice(rows, CHUNK)):
                    if self.tagged is None:
                        self.tagged = type(chunk[0][1]) is list
                        self.schema = _features(self.tagged, []).arrow_schema
                        writer = self._writer("draft", self.schema)
                    keys, codes, batch = self._check_rows(chunk, part)
                    columns.append((keys, codes, np.full(len(chunk), home, np.int8)))
                    writer.write(batch)
            if len(columns) == before:
                raise part.error(None, "holds no rows; give it some")
        writer.close()
        self.keys, self.codes, self.homes = map(np.concatenate, zip(*columns, strict=True))

    def _check_rows(self, chunk: list[tuple], part: Rows):
        check, targets, digests = self._tokens if self.tagged else self._text, [], []
        for place, text, label in chunk:
            whole, target = check(part, place, text, label)
            targets.append(target)
            digests.append(digest(whole, self.seed))
        columns = zip(([text for _, text, _ in chunk], targets), self.schema.types, strict=True)
        batch = pa.record_batch([pa.array(*column) for column in columns], schema=self.schema)
        codes = np.zeros(len(chunk), int) if self.tagged else np.array(targets)
        return np.frombuffer(b"".join(digests), "<u8"), codes, batch

    def _text(self, part: Rows, place, text, label) -> tuple[str, int]:
        if not text or type(text) is not str or text.isspace():
            what = f"of type {type(text).__name__}" if text and type(text) is not str else "missing"
            raise part.error(place, f"the text is {what}; write one or delete the row")
        return text, self._code(label, part, place)

    def _tokens(self, part: Rows, place, tokens, tags) -> tuple[str, list[int]]:
        if type(tokens) is not list or type(tags) is not list or not 0 < len(tokens) == len(tags):
            raise part.error(place, "tokens and tags are no two lists of one length; mend the row")
        places = place if isinstance(place, range) else [place] * len(tokens)
        for at, *pair in zip(places, tokens, tags, strict=True):
            if not all(type(field) is str and field.strip() for field in pair):
                raise part.error(at, "a token or its tag is missing or no text; fill it in")
        found = bio(tags)
        changed = sum(old != new for old, new in zip(tags, found, strict=True))
        self.notes["tags rewritten in BIO: an I- that begins, or other letters"] += changed
        tagged = zip(found, places, strict=True)
        return " ".join(tokens), [self._code(tag, part, at) for tag, at in tagged]

    def _code(self, label, part: Rows, place) -> int:
        try:
            return self.labels[type(label), label]  # with the type, as True == 1
        except (KeyError, TypeError):
            kind = _KINDS.get(type(label))
        if label is None or label != label or not str(label).strip():
            raise part.error(place, "the label is missing; fill it in or delete the row")
        known = _KINDS[next(iter(self.labels))[0]] if self.labels else kind or "text or a number"
        if kind != known:
            kind = kind or f"of type {type(label).__name__}"
            raise part.error(place, f"the label {label!r} is {kind}, not {known}; write all alike")
        if len(self.labels) == MAX_CLASSES:
            raise part.error(place, f"over {MAX_CLASSES} different labels; check label_column=")
        self.first.append((part, place))
        return self.labels.setdefault((type(label), label), len(self.labels))

    def error(self, code: int, message: str) -> DataError:
        part, place = self.first[code]
        return part.error(place, message)

    def classes(self, given: list[str]) -> tuple[list[str], list[str]]:
        """The class of each code, and the classes in their order."""
        names = [str(label).strip() for _, label in self.labels]
        form = re.compile("[BI]-.+|O") if self.tagged else _NUMBER
        fits = {name: bool(form.fullmatch(name)) for name in names if name != "O"}
        if self.tagged and "O" in names and fits and not any(fits.values()):
            odd = next(iter(fits))  # beside an O tags are of entities, so they say where one begins
            message = f"the tag {odd!r} stands beside 'O', but is not BIO"
            raise self.error(names.index(odd), f"{message}; write B- or I- and its kind")
        if not given and len(set(fits.values())) > 1:
            one = next(iter(fits))
            odd = next(name for name in fits if fits[name] != fits[one])
            message = f"the label {odd!r} does not go with {one!r} before; write only numbers or"
            raise self.error(
                names.index(odd), f"{message} only names, all tags with B- or I- or none"
            )
        order = (lambda n: (n != "O", re.sub("^[BI]-", "", n), n)) if self.tagged else None
        if not given and not self.tagged and all(map(form.fullmatch, names)):
            names, order = [f"{(Decimal(name) + 0).normalize():f}" for name in names], Decimal
            if len(set(names)) > MAX_DECIMALS and "." in "".join(names):
                raise self.error(0, f"the labels are {len(set(names))} different decimal numbers, "
                                 "a measure; cut it into classes first")  # fmt: skip
        if len(set(names)) < 2:
            raise self.error(0, f"all labels are {names[0]!r}; add rows of a second class")
        return names, given + sorted(set(names) - set(given), key=order)

    def check(self, targets, homes, names: list[str], classes: list[str]) -> None:
        """Every class must be in train and, where the hash made a test split, in test."""
        for home in (TRAIN,) if TEST in self.homes else (TRAIN, TEST):
            for lost in np.setdiff1d(targets[homes != OUT], targets[homes == home]):
                where = 0 if self.tagged else names.index(classes[lost])
                raise self.error(where, f"class {classes[lost]!r} has too few different texts for "
                                 "train and test; add some or take the class out")  # fmt: skip
        if VALIDATION not in homes:
            raise self.error(0, "there are too few different texts for three splits; add some")

    def write(self, homes: np.ndarray, number: np.ndarray, classes: list[str]) -> DatasetDict:
        """Copy the stream into one a split, with the labels' codes as `number` of their class."""
        schema, start = _features(self.tagged, classes).arrow_schema, 0
        writers = [self._writer(split, schema) for split in SPLITS]
        with self._reader("draft") as stream:
            for batch in pa.ipc.open_stream(stream):
                texts, codes = batch.columns
                labels = pa.array(number[(codes.values if self.tagged else codes).to_numpy()])
                if self.tagged:
                    labels = pa.ListArray.from_arrays(codes.offsets, labels)
                batch = pa.record_batch([texts, labels], schema=schema)
                here = homes[start : start + len(texts)]
                start += len(texts)
                for home, writer in enumerate(writers):
                    writer.write(batch.filter(pa.array(here == home)))
        for writer in writers:
            writer.close()
        if self.folder:
            os.remove(f"{self.folder}/draft.arrow")
        return DatasetDict({split: self._dataset(split) for split in SPLITS})

    def _writer(self, name: str, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        path = f"{self.folder}/{name}.arrow"
        self.sinks[name] = pa.OSFile(path, "wb") if self.folder else pa.BufferOutputStream()
        return pa.ipc.new_stream(self.sinks[name], schema)

    def _reader(self, name: str) -> pa.NativeFile:
        if not self.folder:
            return pa.BufferReader(self.sinks[name].getvalue())
        self.sinks[name].close()
        return pa.OSFile(f"{self.folder}/{name}.arrow")

    def _dataset(self, name: str) -> Dataset:
        with self._reader(name) as stream:
            if self.folder:
                return Dataset.from_file(f"{self.folder}/{name}.arrow")
            # Dataset.from_buffer would pickle the data to name it, which is slower than reading
            mark = hashlib.blake2b(stream.read_buffer(), digest_size=8).hexdigest()
            stream.seek(0)
            return Dataset(pa.ipc.open_stream(stream).read_all(), fingerprint=mark)


def _features(tagged: bool, names: list[str]) -> Features:
    if tagged:
        return Features(tokens=List(Value("string")), tags=List(ClassLabel(names=names)))
    return Features(text=Value("string"), label=ClassLabel(names=names))


def _settle(keys: np.ndarray, classes: np.ndarray, homes: np.ndarray) -> np.ndarray:
    """The home of every row: what is also in a later official split goes OUT, OPEN is divided.

    The hash alone decides, unless a class would miss a split: its lowest key is always test, its
    highest always train, and of three or more texts the second is validation if no other is.
    """
    homes = homes.copy()
    low = TRAIN if TEST in homes else TEST
    for later in (TEST, VALIDATION):
        homes[np.isin(keys, keys[homes == later]) & (homes != later)] = OUT
    rows = np.flatnonzero(homes == OPEN)
    bands = np.searchsorted(SHARES, keys[rows] / 2.0**64, "right")
    homes[rows] = np.array([low, VALIDATION, TRAIN])[bands]
    rows = rows[np.lexsort((keys[rows], classes[rows]))]
    for group in np.split(rows, np.flatnonzero(np.diff(classes[rows])) + 1) if len(rows) else ():
        texts, at = np.unique(keys[group], return_index=True)
        for i, home in [(0, TEST), (-1, TRAIN), (1, VALIDATION)][low == TRAIN :]:
            needed = home != VALIDATION or (len(texts) > 2 and VALIDATION not in homes[group])
            if needed and homes[group[at[i]]] != home:
                homes[keys == texts[i]] = home
    return homes


def _count(keys: np.ndarray, classes: np.ndarray, homes: np.ndarray, notes: Counter) -> None:
    notes["left out: also in a later, official split"] = int((homes == OUT).sum())
    keys, classes = keys[homes != OUT], classes[homes != OUT]
    order = np.lexsort((classes, keys))
    keys, classes = keys[order], classes[order]
    again = keys[1:] == keys[:-1]
    notes["kept: repeats of a text, all in its split"] = int(again.sum())
    several = keys[1:][again & (classes[1:] != classes[:-1])]
    notes["kept: texts that occur with different labels"] = len(np.unique(several))

"""From rows to train, validation and test: checks, classes, and a split by a hash of the text."""

import hashlib
import mmap
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from helpers.data.readers import LIMIT, ONE, DataError, Rows, bio, short
from helpers.text.tokens import digest

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST, OUT, OPEN = range(5)  # where a row goes; OPEN: the hash decides
SHARES = (0.2, 0.3)  # a hash below the first means test, below the second validation
CHUNK = 1024, 1 << 22  # rows and characters that are Python objects at a time
MAX_CLASSES, MAX_DECIMALS, MAX_MISSING = 5000, 20, 0.1

_NUMBER = re.compile(r"-?[0-9]{1,99}(\.[0-9]{1,99})?")
_LIST = re.compile(r"""[\[({](\s*["'].*|.*,.*)[\])}]""")
_KINDS = {str: "text", int: "a number", float: "a number", bool: "true or false"}
_TASKS = {
    "classification": "has tags for its tokens, not a label for each text: take a set of texts",
    "tagging": "has a label for each text, not tags for its tokens: take a set of tagged sentences",
}


def divide(parts: dict[str, Rows], seed: int, notes: Counter, task: str | None) -> DatasetDict:
    """The rows of `parts` (split -> rows) as data sets; the hash makes what splits are missing.

    `notes` counts what is said. In memory are a chunk of rows and, of each row, a few numbers.
    """
    try:
        draft = _Draft(parts, seed, notes, task)
        names, classes = draft.classes()
        number = np.array([classes.index(name) for name in names])
        targets = draft.codes if draft.tagged else number[draft.codes]
        homes = _settle(draft.keys, targets, draft.homes)
        draft.check(targets, homes, names, classes)
        notes["left out: also in a later, official split"] = int((homes == OUT).sum())
        kept = pd.DataFrame({"key": draft.keys, "class": targets})[homes != OUT]
        notes["kept: repeats of a text, all in its split"] = int(kept["key"].duplicated().sum())
        kept = kept.drop_duplicates()["key"]  # once with each of its labels
        notes["kept: texts that occur with different labels"] = kept[kept.duplicated()].nunique()
        return draft.write(homes, number, classes)
    except OSError as error:
        raise DataError(f"The temporary folder cannot hold the rows ({error.strerror or error}): "
                        "free some space or set TMPDIR.") from error  # fmt: skip


class _Draft:
    """All rows, checked and stored in a nameless temporary file, and what it takes to divide them.

    Per row: `keys` (hash of its text), `codes` (its label's; 0 if tagged), `homes`. `labels` maps
    (type, label) to a code, `first` a code to the `error` of its first row; training has `known`.
    """

    def __init__(self, parts: dict[str, Rows], seed: int, notes: Counter, task: str | None):
        self.labels, self.first, self.known, self.tagged, columns = {}, [], 0, None, []
        self.seed, self.notes, self.task, self.train = seed, notes, task, parts["train"]
        for split, part in sorted(parts.items(), key=lambda item: SPLITS.index(item[0])):
            home = OPEN if split == "train" and "validation" not in parts else SPLITS.index(split)
            with closing(part.rows):
                for texts, codes, digests in self._chunks(part):
                    keys = np.frombuffer(b"".join(digests), "<u8")
                    flat = np.zeros(len(codes), int) if self.tagged else np.array(codes)
                    columns.append((keys, flat, np.full(len(codes), home, np.int8)))
                    self.writer.write(pa.record_batch([texts, codes], schema=self.schema))
            self.known = self.known or len(self.labels)  # training comes first
        self.writer.close()
        self.keys, self.codes, self.homes = map(np.concatenate, zip(*columns, strict=True))

    def _chunks(self, part: Rows) -> Iterator[zip]:
        """Texts, codes and hashes of some rows at a time; what is missing is left out, counted."""
        rows, size, total, gone = [], 0, 0, {"text": [], "label": []}
        for place, text, label in part.rows:
            total += 1
            if lacks := "text" if _missing(text) else "label" if _missing(label) else None:
                gone[lacks].append(place)
                continue
            if self.tagged is None:
                self.tagged = type(text) is list
                if self.task not in (None, [*_TASKS][self.tagged]):
                    raise part.error(None, _TASKS[self.task])
                self.schema = _features(self.tagged, []).arrow_schema
                self.file = tempfile.TemporaryFile()  # noqa: SIM115
                self.writer = pa.ipc.new_stream(self.file, self.schema)
            whole, codes = (self._tokens if self.tagged else self._text)(part, place, text, label)
            rows.append((text, codes, digest(whole, self.seed)))
            size += len(whole)
            if len(rows) == CHUNK[0] or size > CHUNK[1]:
                yield zip(*rows, strict=True)
                rows, size = [], 0
        if rows:
            yield zip(*rows, strict=True)
        if not total:
            raise part.error(None, "has no rows: give it some")
        for what, places in gone.items():
            if len(places) > MAX_MISSING * total:
                self._refuse_several()
                share = f"{len(places):,} of {total:,} rows: fill it in or delete the row"
                raise part.error(places[0], f"has no {what}, as {share}")
            at = ", ".join(map(str, places[:9])) + (", …" if places[9:] else "")
            self.notes[f"left out: no {what} in {part.source}, {part.unit} {at}"] += len(places)

    def _text(self, part: Rows, place, text, label) -> tuple[str, int]:
        if type(text) is not str:
            raise part.error(place, f"has a text of type {type(text).__name__}: write it as text")
        if len(text) > LIMIT:
            raise part.error(place, f"has a text of over {LIMIT:,} characters: cut it into several")
        return text, self._code(label, part, place)

    def _tokens(self, part: Rows, place, tokens, tags) -> tuple[str, list[int]]:
        if type(tokens) is not list or type(tags) is not list or len(tokens) != len(tags):
            raise part.error(place, "has not one tag for each token: give two lists of one length")
        places = place if isinstance(place, range) else [place] * len(tokens)
        for at, *pair in zip(places, tokens, tags, strict=True):
            if not all(type(field) is str and field.strip() for field in pair):
                raise part.error(at, "has a token or a tag that is missing or no text: fill it in")
        found = bio(tags)
        self.notes["tags rewritten in BIO from another scheme"] += sum(map(str.__ne__, tags, found))
        codes = [self._code(tag, part, at) for tag, at in zip(found, places, strict=True)]
        return " ".join(tokens), codes

    def _code(self, label, part: Rows, place) -> int:
        try:
            return self.labels[type(label), label]  # with the type, as True == 1
        except (KeyError, TypeError):
            kind = _KINDS.get(type(label), type(label).__name__)
        if isinstance(label, list | dict):
            raise part.error(place, f"{ONE}, not {short(label)}: keep one")
        wanted = kind if type(label) in _KINDS else "text or a number"
        wanted = _KINDS[next(iter(self.labels))[0]] if self.labels else wanted
        if kind != wanted:
            message = f"has the label {short(label)}, which is {kind}, not {wanted}"
            raise part.error(place, f"{message}: write all alike")
        if len(self.labels) == MAX_CLASSES:
            raise part.error(place, f"has label {MAX_CLASSES + 1:,}: are text and label swapped?")
        self.first.append(partial(part.error, place))
        return self.labels.setdefault((type(label), label), len(self.labels))

    def classes(self) -> tuple[list[str], list[str]]:
        """The class of each code, and the classes in their order."""
        names, order = [_name(label) for _, label in self.labels], _natural
        given = [] if self.tagged else [*self.train.classes]
        if self.tagged:
            order = lambda tag: (tag != "O", tag[2:] or tag, tag)  # noqa: E731
            odd = [name for name in names if name != "O" and not re.match("[BI]-.", name)]
            if odd and ("O" in names or len(odd) < len(names)):
                mend = "beside 'O' or BIO tags: write B- or I- and its kind"
                raise self.first[names.index(odd[0])](f"has the tag {short(odd[0])} {mend}")
        elif not given:
            self._check_labels(names)
            if all(map(_NUMBER.fullmatch, names)):
                order = lambda name: (Decimal(name), name)  # noqa: E731
        if len(set(names)) < 2:
            raise self.first[0](f"has the label {short(names[0])}, as all rows: add a second class")
        return names, given + sorted(set(names) - set(given), key=order)

    def _check_labels(self, names: list[str]) -> None:
        """Refuse what is no class; say where two classes may be one."""
        size, total, forms = len(set(names)), len(self.codes), {}
        odd = [name for name in names if not _NUMBER.fullmatch(name)]
        if not odd and size > MAX_DECIMALS and "." in "".join(names):
            message = f"has one of {size} decimal numbers as its label, a measure: make classes"
            raise self.first[0](message)
        if size > 9 and 2 * size > total:
            message = f"has {size:,} classes in {total:,} rows: are text and label swapped?"
            raise self.train.error(None, message)
        self._refuse_several()
        for name in dict.fromkeys(names):
            form = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
            forms.setdefault(form if name in odd else Decimal(name), []).append(name)
        ends = [label for kind, label in self.labels if kind is str and label != label.strip()]
        for said, found in {
            "labels that differ in spelling only, kept apart": [
                name for same in forms.values() if len(same) > 1 for name in same
            ],
            "labels taken without the blanks at their ends": ends,
            "labels that are no numbers, as others are": odd if len(odd) < len(names) else [],
        }.items():
            self.notes[f"{said}, such as {', '.join(map(short, found[:3]))}"] += len(found)

    def _refuse_several(self) -> None:
        """Refuse labels that are several in one: a list as text, or parts that come again."""
        labels = {label: code for code, (_, label) in enumerate(self.labels) if type(label) is str}
        for mark in "|;,":
            parts = {label: {part.strip() for part in label.split(mark)} for label in labels}
            shared = Counter(part for own in parts.values() for part in own)
            for label, own in parts.items():
                if _LIST.fullmatch(label.strip()) or len(own) > 1 < min(shared[p] for p in own):
                    raise self.first[labels[label]](f"{ONE}, not {short(label)}: keep one")

    def check(self, targets, homes, names: list[str], classes: list[str]) -> None:
        """Every class must be in train and, where the hash made a test split, in test."""
        kinds = [re.sub("^[BI]-", "", name) if self.tagged else name for name in names]
        for code in range(self.known, len(names)):
            if kinds[code] not in kinds[: self.known]:
                mend = "which training has not: add some there or take it out"
                raise self.first[code](f"has the label {short(names[code])}, {mend}")
        if not np.isin((TRAIN, VALIDATION, TEST), homes).all():
            raise self.train.error(None, "has too few different texts for three splits: add some")
        for home in (TRAIN,) if TEST in self.homes else (TRAIN, TEST):
            for lost in np.setdiff1d(targets[homes != OUT], targets[homes == home]):
                few = "which too few different texts have: add some or take it out"
                message = f"has the label {short(classes[lost])}, {few}"
                raise self.first[names.index(classes[lost])](message)

    def write(self, homes: np.ndarray, number: np.ndarray, classes: list[str]) -> DatasetDict:
        """Copy the table into one a split, with the labels' codes as `number` of their class."""
        schema, start, splits = _features(self.tagged, classes).arrow_schema, 0, {}
        files = [tempfile.TemporaryFile() for _ in SPLITS]  # noqa: SIM115
        writers = [pa.ipc.new_stream(file, schema) for file in files]
        self.file.seek(0)
        for texts, codes in (batch.columns for batch in pa.ipc.open_stream(self.file)):
            labels = pa.array(number[(codes.values if self.tagged else codes).to_numpy()])
            if self.tagged:
                labels = pa.ListArray.from_arrays(codes.offsets, labels)
            batch = pa.record_batch([texts, labels], schema=schema)
            here = homes[start : start + len(texts)]
            start += len(texts)
            for home, writer in enumerate(writers):
                writer.write(batch.filter(pa.array(here == home)))
        self.file.close()
        for home, split in enumerate(SPLITS):  # mapped into memory: only what is read takes some
            writers[home].close()
            with files[home] as file:
                file.flush()
                content = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            mark = hashlib.blake2b(self.keys[homes == home]).hexdigest()[:16]  # saves a pickle
            splits[split] = Dataset(pa.ipc.open_stream(content).read_all(), fingerprint=mark)
        return DatasetDict(splits)


def _missing(value) -> bool:
    """Whether a text or label is none: null, blank, NaN or an empty list."""
    blank = type(value) is str and value.isspace()
    return blank or value is None or value in ("", []) or value != value


def _name(label) -> str:
    """A label as text, as it stands; a float that is whole, without its point."""
    return f"{label:.0f}" if type(label) is float and label.is_integer() else str(label).strip()


def _natural(name: str) -> tuple:
    """A key to sort by: letters as letters, digits as numbers, so that a2 comes before a10."""
    bare = [part.lstrip("0") for part in re.split("([0-9]+)", name)]
    return [(len(part), part) if i % 2 else (0, part) for i, part in enumerate(bare)], name


def _features(tagged: bool, names: list[str]) -> Features:
    if tagged:
        return Features(tokens=List(Value("string")), tags=List(ClassLabel(names=names)))
    return Features(text=Value("string"), label=ClassLabel(names=names))


def _settle(keys: np.ndarray, classes: np.ndarray, homes: np.ndarray) -> np.ndarray:
    """The home of every row: what is also in a later official split goes OUT, OPEN is divided."""
    homes = homes.copy()
    low = TRAIN if TEST in homes else TEST
    for later in (TEST, VALIDATION):
        homes[np.isin(keys, keys[homes == later]) & (homes != later)] = OUT
    rows = np.flatnonzero(homes == OPEN)
    bands = np.searchsorted(SHARES, keys[rows] / 2.0**64, "right")
    homes[rows] = np.array([low, VALIDATION, TRAIN])[bands]
    rows = rows[np.lexsort((keys[rows], classes[rows]))]
    # a class shall miss no split: its lowest key is test, its highest train, the second validation
    for group in np.split(rows, np.flatnonzero(np.diff(classes[rows])) + 1) if len(rows) else ():
        texts, at = np.unique(keys[group], return_index=True)
        for i, home in [(0, TEST), (-1, TRAIN), (1, VALIDATION)][low == TRAIN :]:
            needed = home != VALIDATION or (len(texts) > 2 and VALIDATION not in homes[group])
            if needed and homes[group[at[i]]] != home:
                homes[keys == texts[i]] = home
    return homes

"""From rows to train, validation and test: checks, classes, and a split by a hash of the text."""

import hashlib
import mmap
import re
import tempfile
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import groupby

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from helpers.data.readers import LIMIT, ONE, Rows, bio, short
from helpers.text.tokens import digest

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST, OUT, OPEN = range(5)  # where a row goes; OPEN: the hash decides
SHARES = (0.2, 0.3)  # a hash below the first means test, below the second validation
CHUNK = 1024, 1 << 22  # rows and characters that are Python objects at a time
MAX_CLASSES, MAX_MISSING = 5000, 0.1
SWAPPED = "are text and label swapped?"

_NUMBER = re.compile(r"-?[0-9]{1,99}(\.[0-9]{1,99})?")
_LIST = re.compile(r"""[\[({](\s*["'].*|.*,.*)[\])}]""")
_TASKS = {
    "classification": "has tags for its tokens, not a label for each text: take a set of texts",
    "tagging": "has a label for each text, not tags for its tokens: take a set of tagged sentences",
}


def divide(parts: dict[str, Rows], seed: int, notes: Counter, task: str | None) -> DatasetDict:
    """The rows of `parts` (split -> rows) as data sets; the hash makes what splits are missing.
    `notes` counts what is said. In memory are a chunk of rows and, of each row, a few numbers."""
    draft = _Draft(parts, seed, notes, task)
    names, classes = draft.classes()
    labels = np.array([classes.index(name) for name in names])[draft.codes]
    targets = np.zeros(len(draft.keys), int) if draft.tagged else labels
    homes = _settle(draft.keys, targets, draft.homes)
    draft.check(targets, homes, names, classes)
    notes["left out: also in a later, official split"] = int((homes == OUT).sum())
    kept = pd.DataFrame({"key": draft.keys, "class": targets})[homes != OUT]
    notes["kept: repeats of a text, all in its split"] = int(kept["key"].duplicated().sum())
    kept = kept.drop_duplicates()["key"]  # once with each of its labels
    notes["kept: texts that occur with different labels"] = kept[kept.duplicated()].nunique()
    whole = draft.dataset(labels, classes)
    rows = {split: np.flatnonzero(homes == home) for home, split in enumerate(SPLITS)}
    return DatasetDict({split: whole.select(rows[split]) for split in SPLITS})


class _Draft:
    """All texts, checked and stored in a nameless temporary file, and what it takes to divide them.
    Per row: `keys` (hash of its text), `homes`; per label or tag: `codes`. `labels` maps a label to
    its code, `first` a code to the `error` of its first row; training has `known`."""

    def __init__(self, parts: dict[str, Rows], seed: int, notes: Counter, task: str | None):
        self.labels, self.first, self.known, self.tagged, self.size = {}, [], 0, None, 0
        self.keys, self.codes, self.homes = bytearray(), array("H"), array("b")
        self.seed, self.notes, self.task, self.train = seed, notes, task, parts["train"]
        for home, split in enumerate(SPLITS):
            if part := parts.get(split):
                texts = self._texts(part, home if home or "validation" in parts else OPEN)
                with closing(part.rows):
                    for _, batch in groupby(texts, self._chunk):
                        batch = [pa.array(list(batch), self.type)]
                        self.writer.write(pa.record_batch(batch, ["text"]))
            self.known = self.known or len(self.labels)  # training comes first
        self.writer.close()
        self.keys = np.frombuffer(self.keys, "<u8")
        self.codes, self.homes = np.array(self.codes), np.array(self.homes)

    def _chunk(self, text: object) -> tuple[int, int]:
        return len(self.homes) // CHUNK[0], self.size // CHUNK[1]

    def _texts(self, part: Rows, home: int) -> Iterator:
        """The texts of a part, checked; what lacks its text or label is left out, counted."""
        total, gone = 0, {"text": [], "label": []}
        for place, text, label in part.rows:
            total += 1
            if lacks := "text" if _missing(text) else "label" if _missing(label) else None:
                gone[lacks].append(place)
                continue
            if self.tagged is None:
                self.tagged = type(text) is list
                if self.task not in (None, [*_TASKS][self.tagged]):
                    raise part.error(None, _TASKS[self.task])
                self.type = _features(self.tagged, []).arrow_schema[0].type
                self.file = tempfile.TemporaryFile()  # noqa: SIM115
                self.writer = pa.ipc.new_stream(self.file, pa.schema({"text": self.type}))
            whole = (self._tags if self.tagged else self._label)(part, place, text, label)
            self.keys += digest(whole, self.seed)
            self.size += len(whole)
            self.homes.append(home)
            yield text
        if not total:
            raise part.error(None, "has no rows: give it some")
        for what, places in gone.items():
            if len(places) > MAX_MISSING * total:
                self._refuse_several()
                share = f"{len(places):,} of {total:,} rows: fill it in or delete the row"
                raise part.error(places[0], f"has no {what}, as {share}")
            at = ", ".join(map(str, places[:9])) + (", …" if places[9:] else "")
            self.notes[f"left out: no {what} in {part.source}, {part.unit} {at}"] += len(places)

    def _label(self, part: Rows, place, text, label) -> str:
        if type(text) is not str:
            raise part.error(place, f"has a text of type {type(text).__name__}: write it as text")
        if len(text) > LIMIT:
            raise part.error(place, f"has a text of over {LIMIT:,} characters: cut it into several")
        if isinstance(label, list | dict):
            raise part.error(place, f"{ONE}, not {short(label)}: keep one")
        whole = type(label) is float and label.is_integer()
        self._keep(f"{label:.0f}" if whole else str(label), part, place)
        return text

    def _tags(self, part: Rows, place, tokens, tags) -> str:
        if type(tokens) is not list or type(tags) is not list or len(tokens) != len(tags):
            raise part.error(place, "has not one tag for each token: give two lists of one length")
        places = place if isinstance(place, range) else [place] * len(tokens)
        for at, *pair in zip(places, tokens, tags, strict=True):
            if not all(type(field) is str and field.strip() for field in pair):
                raise part.error(at, "has a token or a tag that is missing or no text: fill it in")
        found = bio(tags)
        self.notes["tags rewritten in BIO from another scheme"] += sum(map(str.__ne__, tags, found))
        for at, tag in zip(places, found, strict=True):
            self._keep(tag, part, at)
        return " ".join(tokens)

    def _keep(self, label: str, part: Rows, place) -> None:
        if label not in self.labels:
            if len(self.labels) == MAX_CLASSES:
                raise part.error(place, f"has label {MAX_CLASSES + 1:,}: {SWAPPED}")
            self.first.append(partial(part.error, place))
        self.codes.append(self.labels.setdefault(label, len(self.labels)))

    def classes(self) -> tuple[list[str], list[str]]:
        """The class of each code, and the classes in their order."""
        names = [label.strip() for label in self.labels]
        numbers, given = all(map(_NUMBER.fullmatch, names)), self.train.classes
        if self.tagged:
            odd = [name for name in names if name != "O" and not re.match("[BI]-.", name)]
            if odd and ("O" in names or len(odd) < len(names)):
                mend = "beside 'O' or BIO tags: write B- or I- and its kind"
                raise self.first[names.index(odd[0])](f"has the tag {short(odd[0])} {mend}")
        elif not given:
            self._check_labels("is the label a measure?" if numbers else SWAPPED)
        if len(set(names)) < 2:
            raise self.first[0](f"has the label {short(names[0])}, as all rows: add a second class")
        if self.tagged:
            return names, sorted(set(names), key=lambda tag: (tag != "O", tag[2:] or tag, tag))
        more = sorted(set(names) - {*given}, key=lambda name: (float(name) if numbers else 0, name))
        return names, [*given, *more]

    def _check_labels(self, mend: str) -> None:
        """Refuse what is no class; say where two classes may be one."""
        size, total, forms = len(self.labels), len(self.codes), defaultdict(list)
        if size > 9 and 2 * size > total:
            raise self.train.error(None, f"has {size:,} classes in {total:,} rows: {mend}")
        self._refuse_several()
        for label in self.labels:
            forms[" ".join(unicodedata.normalize("NFKC", label).casefold().split())].append(label)
        alike = [short(label) for same in forms.values() if len(same) > 1 for label in same]
        said = f"labels that differ in spelling only, such as {', '.join(alike[:3])}"
        self.notes[f"{said}: kept apart, but for blanks at their ends"] = len(alike)

    def _refuse_several(self) -> None:
        """Refuse labels that are several in one: a list as text, or parts that come again."""
        for mark in "|;,":
            parts = {label: {part.strip() for part in label.split(mark)} for label in self.labels}
            shared = Counter(part for own in parts.values() for part in own)
            for label, own in parts.items():
                if _LIST.fullmatch(label.strip()) or len(own) > 1 < min(shared[p] for p in own):
                    raise self.first[self.labels[label]](f"{ONE}, not {short(label)}: keep one")

    def check(self, targets, homes, names: list[str], classes: list[str]) -> None:
        """Every class must be in train and, where the hash made a test split, in test."""
        kinds = [re.sub("^[BI]-", "", name) if self.tagged else name for name in names]
        for code in range(self.known, len(names)):
            if kinds[code] not in kinds[: self.known]:
                mend = "which training has not: add some there or take it out"
                raise self.first[code](f"has the label {short(names[code])}, {mend}")
        if TRAIN not in homes:
            message = "has only texts that stand in the test set, too: give others to train on"
            raise self.train.error(None, message)
        beside = " beside those of the test set" * (OUT in homes)
        if not np.isin((VALIDATION, TEST), homes).all():
            message = f"has too few different texts for three splits{beside}: add some"
            raise self.train.error(None, message)
        for home in (TRAIN,) if TEST in self.homes else (TRAIN, TEST):
            for lost in np.setdiff1d(targets[homes != OUT], targets[homes == home]):
                few = f"which too few different texts have{beside}: add some or take it out"
                message = f"has the label {short(classes[lost])}, {few}"
                raise self.first[names.index(classes[lost])](message)

    def dataset(self, labels: np.ndarray, classes: list[str]) -> Dataset:
        """All rows, mapped into memory: only what is read takes some."""
        with self.file:
            self.file.flush()
            content = pa.py_buffer(mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ))
        (texts,), labels = pa.ipc.open_stream(content).read_all().columns, pa.array(labels)
        if self.tagged:
            ends = np.cumsum([0, *pc.list_value_length(texts).to_numpy()])
            labels = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), labels)
        table = pa.table([texts, labels], schema=_features(self.tagged, classes).arrow_schema)
        return Dataset(table, fingerprint=hashlib.blake2b(self.keys).hexdigest()[:16])  # no pickle


def _missing(value) -> bool:
    """Whether a text or label is none: null, blank, NaN or an empty list."""
    return value in (None, []) or value != value or (type(value) is str and not value.strip())


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

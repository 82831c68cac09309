"""Word vectors in text, as word2vec, GloVe and fastText write them; with a header or without."""

import codecs
import gzip
import math
import re
import warnings
import zlib
from array import array
from collections import Counter
from pathlib import Path

import numpy as np


def read(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Words (n,) and vectors, float32 (n, d), of a text file, also gzipped: a line is a word, which
    may hold blanks, and its numbers. Warns of repeated words, of which the first counts, of words
    that are not UTF-8 and of a wrong header. Raises `ValueError` with file and line."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with (gzip.open if zipped else open)(path, "rb") as file:
            return _parse(file, path)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ValueError(f"{path} is cut off or damaged: it cannot be unzipped.") from None


def _parse(file, path):
    count, size = _measure(file, path)
    words, repeated, numbers = {}, [], array("f")
    for at, line in enumerate(file, 1 if count is None else 2):
        if not line.strip():
            continue
        word, *fields = line.rsplit(None, size)
        try:
            vector = array("f", map(float, fields))
        except ValueError:
            vector = ()
        if len(vector) != size or re.search(rb"\s[-+]?\d*\.\d+(e[-+]?\d+)?(?!\S)", word):
            found = f"{line[:40].decode(errors='replace')!r}; mend or delete it"
            raise ValueError(f"{path}, line {at} is no word with {size} numbers: {found}.")
        if not math.isfinite(sum(vector)):
            raise ValueError(f"{path}, line {at}: a number is NaN or infinite; delete the line.")
        word = word.strip().decode(errors="replace")
        if word in words:
            repeated.append(word)
        else:
            words[word] = at
            numbers.extend(vector)
    notes, total = [], len(words) + len(repeated)
    if count not in (None, total):
        notes += [f"the first line says {count:,} words, and {total:,} are there."]
    if repeated:
        again = f"words are repeated on {len(repeated):,} lines, as {repeated[0]!r}"
        notes += [f"{again}; the first vector counts."]
    if broken := sum("\ufffd" in word for word in words):
        notes += [f"{broken:,} words are not UTF-8; the wrong bytes are shown as \ufffd."]
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=4)
    return list(words), np.frombuffer(numbers, np.float32).reshape(len(words), size)


def _measure(file, path) -> tuple[int | None, int]:
    """The header's count of words, if there is one, and the dimension; `file` is at the words."""
    sample = [file.readline(1 << 20) for _ in range(100)]
    first = sample[0].removeprefix(codecs.BOM_UTF8)
    header = re.fullmatch(rb"(\d{1,15})[ \t]+(\d{1,9})\s*", first)
    sizes = Counter(len(line.split()) - 1 for line in sample[bool(header) :] if line.strip())
    if not sizes:
        raise ValueError(f"{path} is empty: it holds no word vectors.")
    count, size = map(int, header.groups()) if header else (None, max(sizes, key=sizes.get))
    if not size or b"\0" in b"".join(sample):
        mend = "unpack an archive; what gensim loads, as word2vec's binary, opens with from_gensim"
        raise ValueError(f"{path} holds no word vectors in text: {mend} (a pickle can run code).")
    file.seek(len(sample[0]) if header else len(sample[0]) - len(first))
    return count, size

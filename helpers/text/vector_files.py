"""Word vectors as other programs write them: text with or without a header, binary, gzipped."""

import codecs
import gzip
import math
import re
import warnings
import zlib
from array import array
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np

REFUSED = {  # by the first bytes
    b"PK\x03\x04": "is a zip archive: unpack it",
    b"\xba\x16\x4f\x2f": "is a fastText model: from_gensim(load_facebook_vectors(path)) opens it",
    b"\x80": "is a pickled gensim file: see the docstring of vectors.load",
}


def read(path: str | Path) -> tuple[list[str], np.ndarray]:
    """Words (n,) and vectors, float32 (n, d), of a text file or of word2vec's binary format.

    A line is a word, which may hold blanks, and its numbers. Of a repeated word, the first vector
    counts. Warns of that, of words that are not UTF-8 and of a header with another count. Raises
    `ValueError`, one sentence with the file and the line.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    for magic, reason in REFUSED.items():
        if start.startswith(magic):
            raise ValueError(f"{path} {reason}.")
    try:
        with (gzip.open if start.startswith(b"\x1f\x8b") else open)(path, "rb") as file:
            words, matrix, notes = _parse(file, path)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ValueError(f"{path} is cut off or damaged: it cannot be unzipped.") from None
    for note in notes:
        warnings.warn(f"{path}: {note}", stacklevel=3)
    return words, matrix


def _parse(file, path):
    """Words, matrix and notes; header and first lines tell the format and the dimension."""
    sample = [*islice(iter(lambda: file.readline(1 << 20), b""), 100)]
    skipped = len(codecs.BOM_UTF8) * b"".join(sample[:1]).startswith(codecs.BOM_UTF8)
    header = re.fullmatch(rb"(\d{1,15})[ \t]+(\d{1,9})\s*", b"".join(sample[:1])[skipped:])
    header = tuple(map(int, header.groups())) if header else None
    sizes = Counter(_count_numbers(line) for line in sample[bool(header) :] if line.strip())
    if not sizes:
        raise ValueError(f"{path} is empty: it holds no word vectors.")
    size = max(sizes, key=lambda n: (sizes[n], n))
    file.seek(skipped)
    if size and b"\0" not in b"".join(sample):
        return _text(file, path, header, header[1] or size if header else size)
    if header:
        return _binary(file.read(), path, *header)
    raise ValueError(f"{path} holds no word vectors: a line is to be a word and its numbers.")


def _count_numbers(line: bytes) -> int:
    """How many numbers end a line; its first field belongs to the word."""
    n = 0
    for field in reversed(line.split()[1:]):
        try:
            float(field)
        except ValueError:
            break
        n += 1
    return n


def _text(file, path, header, size):
    words, numbers = [], array("f")
    for at, line in enumerate(file, 1):
        if (header and at == 1) or not line.strip():
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
        words.append(word.strip())
        numbers.extend(vector)
    matrix = np.frombuffer(numbers, np.float32).reshape(len(words), size)
    return _first(words, matrix, header[0] if header else len(words))


def _binary(content, path, n, size):
    """Records of a word, a blank and `size` float32, each with or without a line end."""
    words, starts, at = [], [], content.find(b"\n") + 1
    while len(words) < n and (end := content.find(b" ", at)) >= 0:
        words.append(content[at:end].lstrip(b"\n"))
        starts.append(end + 1)
        at = end + 1 + 4 * size
    whole = 0 < len(words) == n and size and at <= len(content) and not content[at:].strip()
    matrix = np.empty((n, size) if whole else (0, 0), np.float32)
    for row, start in zip(matrix, starts, strict=False):
        row[:] = np.frombuffer(content, "<f4", size, start)
    if not whole or not np.abs(matrix).max() < 1e6:  # NaN neither
        raise ValueError(
            f"{path} is no whole word2vec binary of {n:,} words and {size} numbers each: it is cut "
            "off, or a word holds a blank; save it as text."
        )
    return _first(words, matrix, n)


def _first(words, matrix, expected):
    """Words as text, each once, with its first vector; and notes on what is odd."""
    words, kept, notes = [word.decode(errors="replace") for word in words], {}, []
    for i, word in enumerate(words):
        kept.setdefault(word, i)
    if expected != len(words):
        notes += [f"the first line says {expected:,} words, and {len(words):,} are there."]
    if len(kept) < len(words):
        word = next(word for i, word in enumerate(words) if kept[word] < i)
        again = len(words) - len(kept)
        notes += [f"words are repeated on {again:,} lines, as {word!r}; the first vector counts."]
        matrix = matrix[list(kept.values())]
    if broken := sum("\ufffd" in word for word in kept):
        notes += [f"{broken:,} words are not UTF-8; the wrong bytes are shown as \ufffd."]
    return list(kept), matrix, notes

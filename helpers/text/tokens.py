"""From text to tokens and their ids, and the form in which two texts count as the same."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

import numpy as np

PAD, UNKNOWN = "<pad>", "<unk>"
# Chinese characters stand alone, as no blanks separate them. A combining mark belongs to its letter
# (accents, vowel signs, viramas), and so does a joiner between letters; variation selectors do not.
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS = map(chr, (*range(0x300, 0xFE00), *range(0xFE10, 0x20000)))
_MARKS = "".join(mark for mark in _MARKS if unicodedata.category(mark) in ("Mn", "Mc"))
_LETTERS = rf"[^\W{_IDEOGRAPHS}]+"
_NEGATION = re.compile(r"(?<=\w)(n't)\b", re.IGNORECASE)
_TOKEN = re.compile(
    r"\d+(?:[.,:]\d+)+"  # 3.14  1,000  10:30
    r"|(?:[^\W\d_]\.){2,}|(?:mr|mrs|ms|dr|jr|vs)\."  # u.s.  mr.
    rf"|n't\b|'(?:s|m|d|ll|re|ve)\b|[dlo]'\w[\w{_MARKS}]+"  # n't  's  o'clock
    rf"|{_LETTERS}(?:(?:-|[{_MARKS}\u200c\u200d]+){_LETTERS})*[{_MARKS}]*"  # film  well-known
    r"|\.{2,}|-{2,}|\S",  # ...  --  any other character
    re.IGNORECASE,
)
_ASCII = bytes(ord(chr(i).lower()) if chr(i).isalnum() else 32 for i in range(128)) + bytes(128)


def tokenize(text: str, lower: bool = True) -> list[str]:
    """Split a text into words, numbers and punctuation marks, as GloVe's tokenizer does.

    By the Penn Treebank's conventions, "don't" gives "do", "n't", "it's" gives "it", "'s", and
    "well-known" stays whole. Only white space goes; a curly apostrophe becomes a straight one.
    Chinese characters are tokens of their own. Thai, Lao, Khmer and Japanese kana have no blanks
    between words: a phrase is one token, so segment them first.
    """
    text = text.replace("\u2019", "'")
    if "'" in text:
        text = _NEGATION.sub(r" \1", text)
    return _TOKEN.findall(text.lower() if lower else text)


def normal(text: str) -> str:
    """The form in which texts count as the same: case-folded words and numbers, one blank between;
    NFKC unifies width and composition. A text without letters and digits keeps its signs."""
    if text.isascii():  # the same, five times as fast
        words = text.encode().translate(_ASCII).decode().split()
    else:
        form = unicodedata.normalize("NFKC", text).casefold()
        apart = {ord(char): " " for char in set(form) if not (char.isalnum() or char in _MARKS)}
        words = form.translate(apart).split()
        if any(first in _MARKS for first in {word[0] for word in words}):  # no letter, no word
            words = [kept for word in words if (kept := word.lstrip(_MARKS))]
    return " ".join(words or text.casefold().split())


def digest(text: str, seed: int = 0) -> bytes:
    """Eight bytes that are the same for texts that count as the same."""
    salt = int(seed).to_bytes(8, "little", signed=True)
    form = normal(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(form, digest_size=8, salt=salt).digest()


class Vocabulary:
    """A two-way map between words and ids; id 0 is padding, id 1 the unknown word."""

    def __init__(self, words: Iterable[str]):
        self.words = list(words)
        self._ids = {word: i for i, word in enumerate(self.words)}
        if self.words[:2] != [PAD, UNKNOWN] or len(self._ids) != len(self.words):
            raise ValueError(f"A vocabulary starts with {PAD}, {UNKNOWN} and has no word twice.")

    @classmethod
    def build(cls, token_lists: Iterable[Iterable[str]], min_count: int = 1,
              max_size: int | None = None) -> "Vocabulary":  # fmt: skip
        """Words by falling count, ties by alphabet; `max_size` includes the two special tokens."""
        if max_size is not None and max_size < 2:
            raise ValueError(f"max_size={max_size} has no room for {PAD} and {UNKNOWN}: take 2 up.")
        counts = Counter(token for tokens in token_lists for token in tokens)
        kept = [w for w, n in counts.items() if n >= min_count and w not in (PAD, UNKNOWN)]
        kept.sort(key=lambda word: (-counts[word], word))
        return cls([PAD, UNKNOWN, *kept][:max_size])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def __getitem__(self, word: str) -> int:
        return self._ids.get(word, 1)

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """Ids of the tokens, int64 (T,)."""
        return np.array([self._ids.get(token, 1) for token in tokens], dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> list[str]:
        return [self.words[i] for i in ids]

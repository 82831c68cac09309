"""From text to tokens, and the form in which two texts count as the same."""

import hashlib
import re
import unicodedata

# Chinese characters stand alone, as no blanks separate them. A combining mark belongs to its letter
# (accents, vowel signs, viramas), and so does a joiner between letters; variation selectors do not.
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS = "".join(
    mark
    for mark in map(chr, (*range(0x300, 0xFE00), *range(0xFE10, 0x20000)))
    if unicodedata.category(mark) in ("Mn", "Mc")
)
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
_WORD = re.compile(rf"[^\W_]+(?:[{_MARKS}]+[^\W_]*)*")
_ASCII = bytes(ord(chr(i).lower()) if chr(i).isalnum() else 32 for i in range(128)) + bytes(128)


def tokenize(text: str, lower: bool = True) -> list[str]:
    """Split a text into words, numbers and punctuation marks, as GloVe's tokenizer does.

    The conventions are the Penn Treebank's, so most tokens have a GloVe vector: "don't" gives "do",
    "n't"; "it's" gives "it", "'s"; "well-known" stays whole. Only white space is dropped; a curly
    apostrophe becomes a straight one. Chinese characters are tokens of their own; words of kana,
    Hangul, Arabic or Devanagari stay whole. Thai, Lao, Khmer and Japanese kana have no blanks
    between words: a phrase is one token, so segment them first.
    """
    text = text.replace("\u2019", "'")
    if "'" in text:
        text = _NEGATION.sub(r" \1", text)
    return _TOKEN.findall(text.lower() if lower else text)


def normal(text: str) -> str:
    """The form in which texts count as the same: case-folded words and numbers, one blank between.

    NFKC unifies width and composition. A text without letters and digits keeps its signs.
    """
    if text.isascii():  # the same, five times as fast
        words = text.encode().translate(_ASCII).decode().split()
    else:
        words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return " ".join(words or text.casefold().split())


def digest(text: str, seed: int = 0) -> bytes:
    """Eight bytes that are the same for texts that count as the same."""
    salt = int(seed).to_bytes(8, "little", signed=True)
    form = normal(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(form, digest_size=8, salt=salt).digest()

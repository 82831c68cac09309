"""From text to tokens, and the form in which two texts count as the same."""

import hashlib
import re
import unicodedata

# Ideographs stand alone, as no blanks separate them; accents may be characters of their own.
_IDEOGRAPH, _ACCENT = "㐀-䶿一-鿿豈-﫿", "[\u0300-\u036f]"
_LETTERS = rf"[^\W{_IDEOGRAPH}]+"
_NEGATION = re.compile(r"(?<=\w)(n't)\b", re.IGNORECASE)
_TOKEN = re.compile(
    r"\d+(?:[.,:]\d+)+"  # 3.14  1,000  10:30
    r"|(?:[^\W\d_]\.){2,}|(?:mr|mrs|ms|dr|jr|vs)\."  # u.s.  mr.
    r"|n't\b|'(?:s|m|d|ll|re|ve)\b|[dlo]'\w{2,}"  # n't  's  o'clock
    rf"|{_LETTERS}(?:(?:-|{_ACCENT}+){_LETTERS})*{_ACCENT}*"  # film  well-known
    r"|\.{2,}|-{2,}|\S",  # ...  --  any other mark
    re.IGNORECASE,
)


_WORD = re.compile(r"[^\W_]+")
_ASCII = bytes(ord(chr(i).lower()) if chr(i).isalnum() else 32 for i in range(128)) + bytes(128)


def tokenize(text: str, lower: bool = True) -> list[str]:
    """Split a text into words, numbers and punctuation marks, as GloVe's tokenizer does.

    The conventions are the Penn Treebank's, so that most tokens have a GloVe vector: "don't"
    gives "do", "n't"; "it's" gives "it", "'s"; "well-known" stays whole. Chinese is split into
    characters. Only white space is dropped; a curly apostrophe becomes a straight one.
    """
    text = text.replace("’", "'")
    if "'" in text:
        text = _NEGATION.sub(r" \1", text)
    return _TOKEN.findall(text.lower() if lower else text)


def normal(text: str) -> str:
    """The form in which texts count as the same: case-folded words and numbers, one blank between.

    Width and composition are unified too (NFKC); a text without letters keeps its marks.
    """
    if text.isascii():  # the same, five times as fast
        words = text.encode().translate(_ASCII).decode().split()
    else:
        words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return " ".join(words or text.casefold().split())


def digest(text: str, seed: int = 0) -> bytes:
    """Eight bytes that are the same for texts that count as the same."""
    salt = int(seed).to_bytes(8, "little", signed=True)
    return hashlib.blake2b(normal(text).encode(), digest_size=8, salt=salt).digest()

"""Word vectors: train (GloVe: see `helpers.text.glove`), save, open, look up, put to the test."""

import codecs
import gzip
import math
import os
import re
import tempfile
import warnings
import zlib
from array import array
from bisect import bisect_left
from collections import Counter, namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from gensim.models import FastText, KeyedVectors, Word2Vec
from gensim.models.callbacks import CallbackAny2Vec
from gensim.test.utils import datapath
from scipy.stats import spearmanr
from tqdm.auto import tqdm

from helpers import assets
from helpers.text.tokens import Vocabulary

PAIRS = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
Coverage = namedtuple("Coverage", "found total")  # words that have a vector, and all
Similarity = namedtuple("Similarity", "correlation covered pairs")


class SortedIndex:
    """Word -> id by binary search in `order`, the ids (n,) sorted by word: no memory for a dict."""

    def __init__(self, words: Sequence[str], order: np.ndarray):
        self.words, self.order = words, memoryview(order)

    def get(self, word: str, default=None) -> int | None:
        at = bisect_left(self.order, word, key=self.words.__getitem__)
        found = at < len(self.words) and self.words[self.order[at]] == word
        return self.order[at] if found else default


@dataclass
class Vectors:
    """Words (n,), by falling frequency, and their vectors: a float32 matrix (n, d). `compose`, if
    there is one, makes a vector for a word that is not among them (fastText)."""

    words: Sequence[str]
    matrix: np.ndarray
    compose: Callable[[str], np.ndarray] | None = None
    index: dict[str, int] | SortedIndex | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.index is None:
            self.index = {word: i for i, word in enumerate(self.words)}
        if len(self.words) != len(self.matrix):
            raise ValueError(f"{len(self.words)} words came with {len(self.matrix)} vectors.")

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return self.index.get(word) is not None

    def lookup(self, word: str) -> int | None:
        """The id of the word as it is written or, failing that, in lower case; None if neither."""
        i = self.index.get(word)
        return self.index.get(word.lower()) if i is None else i

    def __getitem__(self, word: str) -> np.ndarray:
        if self.compose is None and word not in self:
            raise KeyError(f"{word!r} is not among the {len(self):,} words of these vectors")
        return self.matrix[self.index.get(word)] if word in self else self.compose(word)

    @cached_property
    def norms(self) -> np.ndarray:
        """Euclidean norms of the vectors (n,)."""
        return np.sqrt(np.einsum("nd,nd->n", self.matrix, self.matrix)).clip(1e-12)

    def unit(self, ids: Sequence[int] | slice) -> np.ndarray:
        """The vectors of some ids, each divided by its norm (len(ids), d)."""
        return self.matrix[ids] / self.norms[ids, None]

    def most_similar(self, query: str | np.ndarray, n: int = 10) -> list[tuple[str, float]]:
        """The n words with the highest cosine to a word (itself left out) or to a vector."""
        vector = self[query] if isinstance(query, str) else np.asarray(query)
        cosines = self.matrix @ (vector / np.linalg.norm(vector)) / self.norms
        if isinstance(query, str) and query in self:
            cosines[self.index.get(query)] = -np.inf
        best = np.argsort(-cosines)[:n]
        return [(self.words[i], float(cosines[i])) for i in best if cosines[i] > -np.inf]


def from_gensim(keyed: KeyedVectors) -> Vectors:
    """Vectors that gensim holds: a model's `.wv`, or what `KeyedVectors` loads, as binary files."""
    compose = keyed.get_vector if hasattr(keyed, "vectors_ngrams") else None
    return Vectors(list(keyed.index_to_key), keyed.vectors, compose)


def save(vectors: Vectors, folder: str | Path) -> Path:
    """Write vectors as a folder that `load` opens at once. A `compose` is not saved."""
    folder, words = Path(folder), list(vectors.words)
    if any("\n" in word for word in words):
        raise ValueError("A word with a line break in it cannot be saved.")
    order = np.array(sorted(range(len(words)), key=words.__getitem__), dtype=np.int32)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
        Path(part, "words.txt").write_bytes("".join(f"{word}\n" for word in words).encode())
        np.save(Path(part, "order.npy"), order)
        np.save(Path(part, "matrix.npy"), np.ascontiguousarray(vectors.matrix, np.float32))
        for file in Path(part).iterdir():  # each whole or not at all, whoever else reads
            os.replace(file, folder / file.name)
    return folder


def load(name_or_path: str | Path) -> Vectors:
    """Open word vectors: an asset's name ("glove-50d"), a folder made by `save`, of which processes
    share one copy in memory, or text of word2vec, GloVe or fastText, also gzipped."""
    asset, path = assets.catalogue().get(str(name_or_path)), Path(name_or_path)

    def convert(folder: Path) -> None:
        source = assets.path(asset.name)
        words = pq.read_table(next(source.glob("*_index.parquet")))["index"].to_pylist()
        save(Vectors(words, np.load(next(source.glob("*_emb.npy")), mmap_mode="r")), folder)

    if asset is not None:
        if asset.kind != "vectors":
            raise ValueError(f"{asset.name} holds no word vectors, but is a {asset.kind}.")
        recipe = f"{asset.folder.name}, layout 1"
        return _open(assets.derived(f"vectors-{asset.name}", recipe, convert))
    if not path.exists():
        known = ", ".join(a.name for a in assets.catalogue().values() if a.kind == "vectors")
        raise FileNotFoundError(f"{path}: no such file or folder, and no asset ({known}).")
    return _open(path) if path.is_dir() else Vectors(*_read_text(path))


def _open(folder: Path) -> Vectors:
    for name in ("words.txt", "order.npy", "matrix.npy"):
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder} holds no {name}: not made by vectors.save.")
    words = (folder / "words.txt").read_bytes().decode(errors="replace").split("\n")[:-1]
    try:
        order, matrix = (np.load(folder / f"{name}.npy", "r") for name in ("order", "matrix"))
        whole = (order.dtype, order.shape) == (np.int32, (len(words),))
        whole &= (matrix.dtype, matrix.ndim, len(matrix)) == (np.float32, 2, len(words))
        whole &= 0 <= order.min() <= order.max() < len(words)
    except Exception:  # numpy parses the head as Python: many errors, and advice to unpickle
        whole = False
    if not whole:
        raise ValueError(f"{folder} is damaged: make it again with vectors.save.")
    return Vectors(words, matrix, None, SortedIndex(words, order))


def _read_text(path: Path) -> tuple[list[str], np.ndarray]:
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


def train_word2vec(corpus: str | Path, *, skip_gram: bool = True, hierarchical: bool = False,
                   dimension: int = 100, sample: float = 1e-5, lr: float = 0.05, epochs: int = 5,
                   workers: int = 2, progress: bool = True, model=Word2Vec,
                   **more) -> Vectors:  # fmt: skip
    """CBOW or skip-gram (Mikolov et al. 2013, arxiv.org/abs/1310.4546), trained by gensim. `corpus`
    is a text file: a document a line, blanks between the tokens. `sample` thins out frequent words:
    one with the share p of all tokens stays with a probability of about sqrt(sample / p). The
    result repeats to the bit with workers=1 only. `more` goes to gensim, as window=5, min_count=5,
    negative=5 and seed=1."""
    # Without sampling and negatives, gensim never seeds the generator of its windows; a threshold
    # of (nearly) all tokens thins out nothing and gets it seeded.
    more |= {"sg": int(skip_gram), "hs": int(hierarchical), "sample": sample or 1 - 1e-9}
    more |= {"vector_size": dimension, "alpha": lr, "epochs": epochs, "workers": workers}
    more |= {"negative": 0} if hierarchical else {}
    look = {"desc": model.__name__, "unit": "epoch", "leave": False, "disable": not progress}
    with tqdm(total=epochs, **look) as bar:
        counter = CallbackAny2Vec()
        counter.on_epoch_end = lambda _: bar.update()
        trained = model(corpus_file=str(corpus), callbacks=[counter], **more)
    return from_gensim(trained.wv)


def train_fasttext(corpus: str | Path, *, buckets: int = 200_000, **options) -> Vectors:
    """fastText (Bojanowski et al. 2017, aclanthology.org/Q17-1010), with the other options of
    `train_word2vec`: a word's vector, also an unseen one's, is the mean of its own and those of its
    character n-grams (`min_n=3` to `max_n=6`, its ends marked), which share `buckets` by hash."""
    return train_word2vec(corpus, model=FastText, bucket=buckets, **options)


def embedding_matrix(vocabulary: Vocabulary, vectors: Vectors,
                     seed: int = 0) -> tuple[np.ndarray, Coverage]:  # fmt: skip
    """A float32 matrix (V, d) for an embedding layer, row i for word i, and its `Coverage`. Row 0
    (padding) is zero, row 1 (unknown) the mean of the rows found. Words without a vector are looked
    up in lower case, then composed if the vectors can, else drawn from a normal distribution with
    the mean zero and the standard deviation of the numbers found."""
    ids = [vectors.lookup(word) for word in vocabulary.words[2:]]
    rows = [row for row, i in enumerate(ids, start=2) if i is not None]
    if not rows:
        raise ValueError("No word of the vocabulary has a vector: are they of the same language?")
    found = vectors.matrix[[i for i in ids if i is not None]]
    shape = len(vocabulary), found.shape[1]
    matrix = np.random.default_rng(seed).normal(0, found.std(), shape).astype(np.float32)
    matrix[rows], matrix[0], matrix[1] = found, 0, found.mean(0)
    for row, i in enumerate(ids, start=2):
        if i is None and vectors.compose:
            matrix[row] = vectors.compose(vocabulary.words[row])
    return matrix, Coverage(len(rows), len(ids))


def word_similarity(vectors: Vectors, task: str = "wordsim353") -> Similarity:
    """How well cosines order word pairs: "wordsim353" (Finkelstein et al. 2002: how related) or
    "simlex999" (Hill et al. 2015: how similar). The result has Spearman's rank correlation with
    people's scores, NaN for fewer than two pairs, the number of pairs covered, without an unknown
    word, and these as a table: first, second, human, cosine; the index is the row in the test."""
    form = {"sep": "\t", "comment": "#", "names": ["first", "second", "human"]}
    pairs = pd.read_csv(datapath(PAIRS[task]), keep_default_na=False, **form)
    ids = pairs[["first", "second"]].map(vectors.lookup)
    known = ids.notna().all(axis=1)
    first, second = ids[known].to_numpy(dtype=int).T
    cosine = np.einsum("nd,nd->n", vectors.unit(first), vectors.unit(second))
    pairs = pairs[known].assign(cosine=cosine)
    value = spearmanr(pairs["human"], cosine).statistic if len(pairs) > 1 else np.nan
    return Similarity(float(value), len(pairs), pairs)


def analogies(vectors: Vectors, n_words: int = 30_000, batch: int = 256) -> pd.DataFrame:
    """Google's analogies (Mikolov et al. 2013): a is to b as c is to …? The answer is the word of
    the first `n_words` whose unit vector has the highest cosine to b - a + c (3CosAdd), a, b and c
    left out. A row a section ("gram…" are the syntactic ones): questions, covered (all four words
    are known) and correct."""
    top = Vectors(vectors.words[:n_words], np.asarray(vectors.matrix[:n_words]))
    table = pd.read_csv(datapath("questions-words.txt"), sep=" ", names=list("abcd"))
    table["section"] = table["b"].where(table["a"] == ":").ffill()
    table = table[table["a"] != ":"].assign(questions=1, correct=False)
    ids = table[list("abcd")].map(top.lookup)
    table["covered"] = ids.notna().all(axis=1)
    ids, unit = ids[table["covered"]].to_numpy(int), top.unit(slice(None))
    right = np.zeros(len(ids), dtype=bool)
    for start in range(0, len(ids), batch):
        a, b, c, d = ids[start : start + batch].T
        cosines = (unit[b] - unit[a] + unit[c]) @ unit.T
        for used in (a, b, c):
            cosines[np.arange(len(a)), used] = -np.inf
        right[start : start + batch] = cosines.argmax(axis=1) == d
    table.loc[table["covered"], "correct"] = right
    sections = table.groupby("section", sort=False)
    return sections[["questions", "covered", "correct"]].sum().rename_axis(None)

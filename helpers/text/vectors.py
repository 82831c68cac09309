"""Word vectors: train, save, open without reading, look up, and put to the test.

gensim trains word2vec and fastText, `helpers.text.glove` GloVe. Saved vectors are a folder with
`matrix.npy`, `words.txt` and `order.npy`, memory-mapped when opened: processes share one copy.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
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
from helpers.text import glove, vector_files
from helpers.text.lexicon import Lexicon, open_array, order_of
from helpers.text.vocabulary import Vocabulary

PAIRS = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}


@dataclass
class Vectors:
    """Words (n,), by falling frequency, and their vectors: a float32 matrix (n, d).

    `compose`, if there is one, makes a vector for a word that is not among them (fastText).
    """

    words: Sequence[str]
    matrix: np.ndarray
    compose: Callable[[str], np.ndarray] | None = None
    index: object = field(default=None, repr=False)

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
        i = self.index.get(word)
        if i is not None:
            return self.matrix[i]
        if self.compose is None:
            raise KeyError(f"{word!r} is not among the {len(self):,} words of these vectors")
        return self.compose(word)

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

    def top(self, n: int) -> "Vectors":
        """The first n words only."""
        return Vectors(self.words[:n], np.asarray(self.matrix[:n]), self.compose)


def from_gensim(keyed: KeyedVectors) -> Vectors:
    """Vectors of a gensim model's `.wv`; those of fastText compose unseen words from n-grams."""
    compose = keyed.get_vector if hasattr(keyed, "vectors_ngrams") else None
    return Vectors(list(keyed.index_to_key), keyed.vectors, compose)


def save(vectors: Vectors, folder: str | Path) -> Path:
    """Write vectors as a folder that `load` opens at once. A `compose` is not saved."""
    folder, words = Path(folder), [word.encode() for word in vectors.words]
    order = order_of(words)
    contents = {
        "words.txt": lambda file: file.writelines(word + b"\n" for word in words),
        "order.npy": lambda file: np.save(file, order),
        "matrix.npy": lambda file: np.save(file, np.ascontiguousarray(vectors.matrix, np.float32)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
        for name, write in contents.items():  # each whole or not at all, whoever else reads
            with open(Path(part, name), "wb") as file:
                write(file)
            os.replace(Path(part, name), folder / name)
    return folder


def load(name_or_path: str | Path) -> Vectors:
    """Open word vectors: an asset's name ("glove-50d"), a folder made by `save`, or a file.

    Files are read as a whole: text as word2vec, GloVe and fastText write it (with or without a
    line of two counts first), word2vec's binary format, and both gzipped; `save` them once to open
    them fast. A pickled gensim file can run code when it is opened, so that is left to you:
    `from_gensim(KeyedVectors.load(path, mmap="r"))`. A damaged file raises `ValueError`.
    """
    asset = assets.catalogue().get(str(name_or_path))
    if asset is not None:
        if asset.kind != "vectors":
            raise ValueError(f"{asset.name} holds no word vectors, but is a {asset.kind}.")
        recipe = f"{asset.folder.name}, layout 1"
        return _open(assets.derived(f"vectors-{asset.name}", recipe, partial(_convert, asset.name)))
    path = Path(name_or_path)
    if path.is_dir():
        return _open(path)
    if not path.exists():
        known = ", ".join(a.name for a in assets.catalogue().values() if a.kind == "vectors")
        raise FileNotFoundError(f"{path}: no such file or folder, and no asset ({known}).")
    return Vectors(*vector_files.read(path))


def _convert(name: str, folder: Path) -> None:
    """Write the vectors of an asset as `save` does."""
    source = assets.path(name)
    words = pq.read_table(next(source.glob("*_index.parquet")))["index"].to_pylist()
    save(Vectors(words, np.load(next(source.glob("*_emb.npy")), mmap_mode="r"), None, {}), folder)


def _open(folder: Path) -> Vectors:
    try:
        words, matrix = Lexicon(folder), open_array(folder / "matrix.npy", np.float32, 2)
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise FileNotFoundError(f"{folder} holds no {missing}: not made by vectors.save.") from None
    if len(words) != len(matrix):
        raise ValueError(f"{folder} is damaged: matrix.npy does not fit words.txt.")
    return Vectors(words, matrix, None, words)


class _Bar(CallbackAny2Vec):
    """A progress bar that counts gensim's epochs."""

    def __init__(self, model: type, epochs: int, progress: bool):
        look = {"leave": False, "unit": "epoch", "disable": not progress}
        self.bar = tqdm(total=epochs, desc=model.__name__, **look)

    def on_epoch_end(self, model):
        self.bar.update()

    def on_train_end(self, model):
        self.bar.close()


def train_word2vec(corpus: str | Path, *, skip_gram: bool = True, hierarchical: bool = False,
                   negative: int = 5, dimension: int = 100, window: int = 5, min_count: int = 5,
                   max_words: int | None = None, sample: float = 1e-5, lr: float = 0.05,
                   epochs: int = 5, seed: int = 1, workers: int = 2, progress: bool = True,
                   model=Word2Vec, **more) -> Vectors:  # fmt: skip
    """CBOW or skip-gram (Mikolov et al. 2013, arxiv.org/abs/1310.4546), trained by gensim.

    `corpus` is a text file: a document a line, blanks between the tokens. `sample` thins out
    frequent words: one with the share p of all tokens is kept with a probability of about
    sqrt(sample / p). The result repeats to the bit with workers=1; more workers update the same
    matrix without locks, which is faster and different every time.
    """
    # Without sampling and negatives, gensim draws its windows from a generator that it never seeds;
    # a threshold of (nearly) all tokens thins out nothing and gets it seeded.
    sample = sample or 1 - 1e-9
    more |= {"sg": int(skip_gram), "hs": int(hierarchical), "vector_size": dimension}
    more |= {"negative": 0 if hierarchical else negative, "window": window, "alpha": lr}
    more |= {"sample": sample, "min_count": min_count, "max_final_vocab": max_words}
    more |= {"seed": seed, "workers": workers, "callbacks": [_Bar(model, epochs, progress)]}
    return from_gensim(model(corpus_file=str(corpus), epochs=epochs, **more).wv)


def train_fasttext(corpus: str | Path, *, min_n: int = 3, max_n: int = 6,
                   buckets: int = 200_000, **options) -> Vectors:  # fmt: skip
    """fastText (Bojanowski et al. 2017, aclanthology.org/Q17-1010), trained by gensim.

    A word's vector is the mean of its own and those of its character n-grams, `min_n` to
    `max_n` characters with the word's ends marked; n-grams share `buckets` by their hash.
    `options` as for `train_word2vec`. The result makes vectors for unseen words too.
    """
    grams = {"min_n": min_n, "max_n": max_n, "bucket": buckets}
    return train_word2vec(corpus, model=FastText, **grams, **options)


def train_glove(corpus: str | Path, *, window: int = 15, min_count: int = 5, progress: bool = True,
                max_words: int | None = None, **options) -> Vectors:  # fmt: skip
    """GloVe from a text file as for `train_word2vec`; `options` go to `glove.fit`."""
    with open(corpus, encoding="utf-8") as file:
        size = None if max_words is None else max_words + 2
        vocabulary = Vocabulary.build(map(str.split, file), min_count, size)
        file.seek(0)
        documents = (vocabulary.encode(line.split()) - 2 for line in file)
        counts = glove.cooccurrence(documents, len(vocabulary) - 2, window, progress=progress)
    matrix, _ = glove.fit(counts, progress=progress, **options)
    return Vectors(vocabulary.words[2:], matrix)


@dataclass
class Coverage:
    """How many words of a vocabulary (the two special ones aside) have a vector; which have not."""

    found: int
    total: int
    missing: list[str] = field(repr=False)


def embedding_matrix(vocabulary: Vocabulary, vectors: Vectors,
                     seed: int = 0) -> tuple[np.ndarray, Coverage]:  # fmt: skip
    """A float32 matrix (V, d) for an embedding layer, row i for word i, and its `Coverage`.

    Row 0 (padding) is zero, row 1 (unknown) the mean of the rows found. Words without a vector are
    looked up in lower case, then composed if the vectors can, else drawn from a normal
    distribution around zero with the standard deviation of the numbers found.
    """
    ids = [vectors.lookup(word) for word in vocabulary.words[2:]]
    rows = [row for row, i in enumerate(ids, start=2) if i is not None]
    if not rows:
        raise ValueError("No word of the vocabulary has a vector: are they of the same language?")
    found = vectors.matrix[[i for i in ids if i is not None]]
    shape = len(vocabulary), found.shape[1]
    matrix = np.random.default_rng(seed).normal(0, found.std(), shape).astype(np.float32)
    matrix[rows], matrix[0], matrix[1] = found, 0, found.mean(0)
    missing = [row for row, i in enumerate(ids, start=2) if i is None]
    for row in missing if vectors.compose else ():
        matrix[row] = vectors.compose(vocabulary.words[row])
    return matrix, Coverage(len(rows), len(ids), [vocabulary.words[row] for row in missing])


@dataclass
class Similarity:
    """Spearman's rank correlation of people's scores and cosines over the pairs covered."""

    correlation: float
    covered: int
    total: int
    pairs: pd.DataFrame = field(repr=False)  # first, second, human, cosine; index: row in the test


def word_similarity(vectors: Vectors, task: str = "wordsim353") -> Similarity:
    """How well cosines order word pairs: "wordsim353" or "simlex999" (both come with gensim).

    WordSim-353 (Finkelstein et al. 2002) asks how related two words are, SimLex-999 (Hill et al.
    2015) how similar they are. Pairs with an unknown word are left out; ties get their mean rank;
    fewer than two pairs give NaN.
    """
    form = {"sep": "\t", "comment": "#", "names": ["first", "second", "human"]}
    pairs = pd.read_csv(datapath(PAIRS[task]), keep_default_na=False, **form)
    ids = pairs[["first", "second"]].map(vectors.lookup)
    known = ids.notna().all(axis=1)
    first, second = ids[known].to_numpy(dtype=int).T
    pairs, total = pairs[known].copy(), len(pairs)
    pairs["cosine"] = np.einsum("nd,nd->n", vectors.unit(first), vectors.unit(second))
    value = spearmanr(pairs["human"], pairs["cosine"]).statistic if len(pairs) > 1 else np.nan
    return Similarity(float(value), len(pairs), total, pairs)


def analogies(vectors: Vectors, n_words: int = 30_000, batch: int = 256) -> pd.DataFrame:
    """Google's analogies (Mikolov et al. 2013): a is to b as c is to …?

    The answer is the word of the first `n_words` whose unit vector has the highest cosine to
    b - a + c (3CosAdd), a, b and c left out. A row a section ("gram…" are the syntactic ones):
    questions, covered (all four words among the `n_words`) and correct.
    """
    section, asked, known = "", {}, []
    top = vectors.top(n_words)
    with open(datapath("questions-words.txt"), encoding="utf-8") as file:
        for line in file:
            if line.startswith(":"):
                section = line[1:].strip()
                continue
            ids = [top.lookup(word) for word in line.split()]
            asked[section] = asked.get(section, 0) + 1
            if None not in ids:
                known.append((section, *ids))
    table = pd.DataFrame(known, columns=["section", *"abcd"])
    unit, right = top.unit(slice(None)), []
    for start in range(0, len(table), batch):
        a, b, c, d = table[list("abcd")].to_numpy()[start : start + batch].T
        cosines = (unit[b] - unit[a] + unit[c]) @ unit.T
        for used in (a, b, c):
            cosines[np.arange(len(a)), used] = -np.inf
        right.append(cosines.argmax(axis=1) == d)
    table["right"] = np.concatenate(right) if right else False
    by = table.groupby("section")["right"]
    scores = pd.DataFrame({"questions": asked, "covered": by.size(), "correct": by.sum()})
    return scores.reindex(list(asked)).fillna(0).astype(int)

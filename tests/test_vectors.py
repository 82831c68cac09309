import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from gensim.models import KeyedVectors, Word2Vec
from gensim.models.fasttext import ft_ngram_hashes
from gensim.test.utils import datapath
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.text import Vocabulary, vectors
from helpers.text.vectors import Vectors


def small(words, seed=0, d=4):
    rng = np.random.default_rng(seed)
    return Vectors(list(words), rng.normal(size=(len(words), d)).astype(np.float32))


@pytest.fixture(scope="module")
def glove():
    return vectors.load("glove-50d")


@pytest.fixture(scope="module")
def as_gensim(glove):
    """The same vectors in gensim's hands."""
    keyed = KeyedVectors(50)
    keyed.add_vectors(glove.words[:], np.asarray(glove.matrix))
    return keyed


# --- keeping and opening ---


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])),
                min_size=1, unique=True), st.text())  # fmt: skip
def test_saved_words_are_all_found_and_no_others(tmp_path, words, other):
    kept = small(words)
    opened = vectors.load(vectors.save(kept, tmp_path / "v"))
    assert list(opened.words) == words
    assert isinstance(opened.matrix, np.memmap)
    np.testing.assert_array_equal(opened.matrix, kept.matrix)
    for i, word in enumerate(words):
        assert opened.index.get(word) == i
    assert (other in opened) == (other in words)


def test_words_of_an_opened_folder_are_a_list(tmp_path):
    words = vectors.load(vectors.save(small("cab"), tmp_path)).words
    assert words[-1] == "b"
    assert words[:2] == ["c", "a"]
    with pytest.raises(IndexError):
        words[3]


def test_text_formats_are_told_apart(tmp_path):
    kept = small(["the", "of", "naïve"])
    rows = [f"{w} {' '.join(map(repr, map(float, kept[w])))}\n" for w in kept.words]
    (tmp_path / "glove.txt").write_text("".join(rows), encoding="utf-8")
    (tmp_path / "word2vec.txt").write_text("3 4\n" + "".join(rows), encoding="utf-8")
    for name in ("glove.txt", "word2vec.txt"):
        opened = vectors.load(tmp_path / name)
        assert list(opened.words) == kept.words
        np.testing.assert_allclose(opened.matrix, kept.matrix, rtol=1e-6)


def test_what_cannot_be_opened_says_why(tmp_path):
    with pytest.raises(FileNotFoundError, match="glove-50d"):
        vectors.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"words\.txt"):
        vectors.load(tmp_path)
    (tmp_path / "model.kv").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="pickled"):
        vectors.load(tmp_path / "model.kv")
    with pytest.raises(ValueError, match="no word vectors"):
        vectors.load("minilm")
    with pytest.raises(ValueError, match="line break"):
        vectors.save(small(["a\nb"]), tmp_path)
    folder = vectors.save(small("abc"), tmp_path / "v")
    vectors.save(small("ab"), tmp_path / "w")
    (tmp_path / "w" / "order.npy").replace(folder / "order.npy")
    with pytest.raises(ValueError, match="damaged"):
        vectors.load(folder)


def test_glove_opens_faster_than_gensim_reads_a_twentieth_of_it(glove, tmp_path):
    with open(tmp_path / "part.txt", "w", encoding="utf-8") as file:
        for word, row in zip(glove.words[:20_000], glove.matrix[:20_000], strict=True):
            print(word, *row, file=file)

    def seconds(action):
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    opening = min(seconds(lambda: vectors.load("glove-50d")) for _ in range(3))
    read = KeyedVectors.load_word2vec_format
    assert opening < seconds(lambda: read(str(tmp_path / "part.txt"), no_header=True))


def test_a_second_process_that_opens_glove_adds_little_memory(glove):
    assert len(glove.lengths) == 400_000  # this process has all pages mapped; they are shared
    script = (
        "import psutil\n"
        "from helpers import vectors\n"
        "me = psutil.Process()\n"
        "before = me.memory_full_info().uss\n"
        "glove = vectors.load('glove-50d')\n"
        "glove['king'], glove.most_similar('king'), glove.find('Queen'), 'nonsens' in glove\n"
        "print(len(glove), me.memory_full_info().uss - before)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    words, added = map(int, done.stdout.split())
    assert words == 400_000
    assert added < 50e6


def test_a_damaged_copy_of_an_asset_is_made_again(glove, tmp_path, monkeypatch):
    source = vectors.assets.path("glove-50d")
    monkeypatch.setattr(vectors.assets, "path", lambda name: source)
    monkeypatch.setattr(vectors.assets, "cache_folder", lambda: tmp_path)
    for _ in range(2):
        opened = vectors.load("glove-50d")
        np.testing.assert_array_equal(opened["king"], glove["king"])
        (copy,) = tmp_path.iterdir()
        with open(copy / "matrix.npy", "r+b") as file:
            file.truncate(1000)


# --- looking up ---


def test_lookup_falls_back_to_lower_case_then_to_composing():
    v = small(["us", "US", "it"])
    assert (v.find("US"), v.find("It"), v.find("x")) == (1, 2, None)
    assert "It" not in v
    with pytest.raises(KeyError, match="'x'"):
        v["x"]
    v = Vectors(["a"], np.ones((1, 2), np.float32), compose=lambda word: np.full(2, len(word)))
    assert v["xyz"].tolist() == [3, 3]
    with pytest.raises(ValueError, match="2 words came with 1"):
        Vectors(["a", "b"], np.ones((1, 2)))


def test_most_similar_is_gensims(glove, as_gensim):
    for query in ("king", "ice-cream"):
        ours, theirs = glove.most_similar(query, 5), as_gensim.most_similar(query, topn=5)
        assert [w for w, _ in ours] == [w for w, _ in theirs]
        np.testing.assert_allclose([c for _, c in ours], [c for _, c in theirs], rtol=1e-4)
    assert glove.most_similar(glove["king"], 1)[0][0] == "king"


def test_embedding_matrix():
    v = small([f"w{i}" for i in range(500)])
    vocabulary = Vocabulary(["<pad>", "<unk>", "w7", "W8", "new"] + [f"n{i}" for i in range(2000)])
    matrix, coverage = vectors.embedding_matrix(vocabulary, v, seed=3)
    assert matrix.shape == (2005, 4)
    assert matrix.dtype == np.float32
    assert not matrix[0].any()
    np.testing.assert_array_equal(matrix[2:4], [v["w7"], v["w8"]])
    np.testing.assert_allclose(matrix[1], (v["w7"] + v["w8"]) / 2, rtol=1e-6)
    assert matrix[4:].std() == pytest.approx(np.std([v["w7"], v["w8"]]), rel=0.05)
    assert abs(matrix[4:].mean()) < 0.05
    assert (coverage.found, coverage.total, coverage.missing[0]) == (2, 2003, "new")
    again, _ = vectors.embedding_matrix(vocabulary, v, seed=3)
    np.testing.assert_array_equal(matrix, again)
    assert (vectors.embedding_matrix(vocabulary, v, seed=4)[0][4:] != matrix[4:]).all()
    v.compose = lambda word: np.full(4, 9.0)
    assert (vectors.embedding_matrix(vocabulary, v)[0][4:] == 9).all()
    with pytest.raises(ValueError, match="same language"):
        vectors.embedding_matrix(Vocabulary(["<pad>", "<unk>", "我"]), v)


# --- scores ---


@pytest.mark.parametrize(("task", "score"), [("wordsim353", 0.503), ("simlex999", 0.265)])
def test_similarity_of_the_downloaded_glove_is_gensims(glove, as_gensim, task, score):
    ours = vectors.word_similarity(glove, task)
    path = datapath(vectors.PAIRS[task])
    _, theirs, left_out = as_gensim.evaluate_word_pairs(path, restrict_vocab=len(glove))
    assert ours.correlation == pytest.approx(theirs.statistic, abs=5e-4)
    assert ours.correlation == pytest.approx(score, abs=5e-4)
    assert 100 * (1 - ours.covered / ours.total) == pytest.approx(left_out)


def test_similarity_leaves_unknown_words_out_and_ranks_ties():
    v = Vectors(["tiger", "cat", "love", "sex"], np.eye(4, 2, dtype=np.float32) + 0.1)
    score = vectors.word_similarity(v)
    assert score.covered == len(score.pairs) == 3  # love sex, tiger cat, tiger tiger
    assert score.total == 353
    assert score.pairs["cosine"].tolist()[2] == pytest.approx(1)
    assert score.correlation == pytest.approx(0.5)  # people: 1 2 3, cosines: 3 1 3, so 2.5 1 2.5


def test_analogies_are_gensims(glove, as_gensim):
    n = 4000
    ours = vectors.analogies(glove, n)
    path = datapath("questions-words.txt")
    _, theirs = as_gensim.evaluate_word_analogies(path, restrict_vocab=n)
    for section in theirs[:-1]:
        right, wrong = len(section["correct"]), len(section["incorrect"])
        row = ours.loc[section["section"]]
        assert (row["correct"], row["covered"]) == (right, right + wrong)
    assert ours["questions"].sum() == 19_544
    assert ours["covered"].sum() > 1000


def test_scores_without_any_known_word():
    score = vectors.word_similarity(small(["x"]))
    assert (score.covered, score.total) == (0, 353)
    assert np.isnan(score.correlation)
    assert vectors.analogies(small(["x"]))["covered"].sum() == 0


# --- training ---


@pytest.fixture
def corpus(tmp_path):
    """Animals and tools, each among words of their own."""
    rng, lines = np.random.default_rng(0), []
    for i in range(600):
        group = ("cat dog cow", "hammer saw drill")[i % 2].split()
        around = (["fur", "paw", "tail"], ["wood", "nail", "bolt"])[i % 2]
        lines.append(" ".join(rng.choice(group + around, size=12)))
    (tmp_path / "corpus.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "corpus.txt"


quietly = {"progress": False, "min_count": 1, "dimension": 10}
TRAINERS = {
    "cbow": lambda c, **k: vectors.train_word2vec(c, skip_gram=False, sample=0, lr=0.1, **k),
    "skip-gram": lambda c, **k: vectors.train_word2vec(c, sample=0, lr=0.1, **k),
    "hierarchical": lambda c, **k: vectors.train_word2vec(c, hierarchical=True, sample=0, **k),
    "fasttext": lambda c, **k: vectors.train_fasttext(c, sample=0, lr=0.1, buckets=99, **k),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_one_worker_repeats_itself_and_learns(corpus, name):
    options = {**quietly, "epochs": 10, "window": 3, "workers": 1}
    first, again, other = (TRAINERS[name](corpus, **options, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.matrix, again.matrix)
    assert (first.matrix != other.matrix).any()
    assert first.matrix.shape == (12, 10)
    animals = {"dog", "cow", "fur", "paw", "tail"}
    assert {word for word, _ in first.most_similar("cat", 5)} == animals


def test_train_glove(corpus):
    options = {"progress": False, "dimension": 10, "epochs": 30, "n_batches": 4}
    trained = vectors.train_glove(corpus, min_count=1, window=3, **options)
    assert {word for word, _ in trained.most_similar("saw", 5)} == {
        "hammer", "drill", "wood", "nail", "bolt"
    }  # fmt: skip
    assert len(vectors.train_glove(corpus, max_words=5, **options)) == 5


def test_caps_on_the_vocabulary(corpus):
    capped = vectors.train_word2vec(corpus, max_words=4, **quietly)
    assert len(capped) <= 4


def sigmoid(x):
    """gensim looks it up in a table: 1,000 steps between -6 and 6, found by a rounded factor."""
    x = np.floor((x + 6) * 83) * 12 / 1000 - 6
    return 1 / (1 + np.exp(-x))


def step(vector, word, inner, rate):
    """Hierarchical softmax by hand: move `inner` in place, return the gradient for `vector`."""
    nodes = word.point[: len(word.code)]
    error = 1 - word.code - sigmoid(inner[nodes] @ vector)
    to_vector = rate * error @ inner[nodes]
    inner[nodes] += rate * np.outer(error, vector)
    return to_vector


@pytest.mark.parametrize("skip_gram", [True, False])
def test_training_follows_the_objective(tmp_path, skip_gram):
    """One pass over "a b c a b a", window 1, against stochastic gradient ascent by hand."""
    sentence, rate, n = ["a", "b", "c", "a", "b", "a"], 0.5, 4
    (tmp_path / "c.txt").write_text(" ".join(sentence) + "\n")
    options = {"window": 1, "workers": 1, "epochs": 1, "lr": rate, "sample": 0, "seed": 7}
    options |= {"dimension": n, "min_count": 1, "hierarchical": True, "progress": False}
    trained = vectors.train_word2vec(tmp_path / "c.txt", skip_gram=skip_gram, **options)
    start = Word2Vec(vector_size=n, min_count=1, hs=1, negative=0, seed=7)
    start.build_vocab([sentence])
    rows, inner = start.wv.vectors.astype(float), np.zeros((2, n))
    ids = [start.wv.key_to_index[word] for word in sentence]
    path = {i: _Path(start.wv, i) for i in ids}
    for at, target in enumerate(ids):
        around = [ids[k] for k in (at - 1, at + 1) if 0 <= k < len(ids)]
        if skip_gram:
            for other in around:
                rows[other] += step(rows[other].copy(), path[target], inner, rate)
        else:
            mean = rows[around].mean(axis=0)
            # word2vec adds the gradient for the mean to each word, undivided (arxiv 2012.15332)
            np.add.at(rows, around, step(mean, path[target], inner, rate))
    assert np.abs(rows - start.wv.vectors).max() > 0.02
    order = [start.wv.key_to_index[word] for word in trained.words]
    np.testing.assert_allclose(trained.matrix, rows[order], atol=1e-6)


class _Path:
    """A word's way through gensim's Huffman tree: inner nodes and turns."""

    def __init__(self, keyed, i):
        self.point = keyed.get_vecattr(keyed.index_to_key[i], "point")
        self.code = np.asarray(keyed.get_vecattr(keyed.index_to_key[i], "code"), dtype=float)


def test_fasttext_composes_unseen_words_from_their_n_grams(corpus):
    trained = vectors.train_fasttext(corpus, **quietly, epochs=2, shortest=3, longest=4, buckets=50)
    assert "catdog" not in trained
    keyed = trained.compose.__self__
    hashes = ft_ngram_hashes("catdog", 3, 4, 50)
    assert len(hashes) == 6 + 5  # <ca cat atd tdo dog og>, <cat catd atdo tdog dog>
    expected = keyed.vectors_ngrams[hashes].mean(axis=0)
    np.testing.assert_allclose(trained["catdog"], expected, rtol=1e-5)

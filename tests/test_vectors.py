import gzip
import os
import pickle
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from gensim.models import KeyedVectors, Word2Vec
from gensim.models.fasttext import ft_ngram_hashes
from gensim.test.utils import datapath
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import assets
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


def text_of(vectors, sep=" ", end="\n"):
    rows = zip(vectors.words, vectors.matrix.tolist(), strict=True)
    return "".join(sep.join([word, *map(repr, row)]) + end for word, row in rows).encode()


def binary_of(vectors, end=b"\n"):
    rows = (w.encode() + b" " + v.tobytes() + end for w, v in zip(vectors.words, vectors.matrix))  # noqa: B905
    return f"{len(vectors)} {vectors.matrix.shape[1]}\n".encode() + b"".join(rows)


WORDS = [
    "the",
    ".",
    "...",
    ". . .",
    "New York",
    "2024",
    "3.5",
    "Route 66",
    "at name@domain.example",
]
WORDS += ["\u00a0", "na\u00efve", "cafe\u0301", "\u2028", "\u6211", "nan", "-1e5"]
FORMS = {
    "GloVe": text_of,
    "word2vec": lambda v: f"{len(v)} 4\n".encode() + text_of(v, end=" \n"),
    "tabs and Windows": lambda v: text_of(v, "\t", "\r\n"),
    "byte order mark": lambda v: b"\xef\xbb\xbf" + text_of(v),
    "mark and header": lambda v: b"\xef\xbb\xbf" + f"{len(v)} 4\n".encode() + text_of(v),
    "blank lines": lambda v: b"\n" + text_of(v, end="\n\n"),
    "zipped": lambda v: gzip.compress(text_of(v)),
    "no last line end": lambda v: text_of(v)[:-1],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("first", [0, 3, 4, 5])
def test_text_files_are_read_whatever_their_words(tmp_path, form, first):
    kept = small(WORDS[first:] + WORDS[:first])
    (tmp_path / "v.txt").write_bytes(FORMS[form](kept))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = vectors.load(tmp_path / "v.txt")
    assert list(opened.words) == kept.words
    np.testing.assert_array_equal(opened.matrix, kept.matrix)
    assert opened.matrix.dtype == np.float32


@pytest.mark.parametrize("end", [b"\n", b""])
@pytest.mark.parametrize("change", [bytes, gzip.compress])
def test_word2vecs_binary_format_is_told_from_text_and_left_to_gensim(tmp_path, end, change):
    kept = small([word for word in WORDS if " " not in word], d=300)
    (tmp_path / "v.bin").write_bytes(change(binary_of(kept, end)))
    with pytest.raises(ValueError, match="word2vec's binary, opens with from_gensim"):
        vectors.load(tmp_path / "v.bin")
    (tmp_path / "v.bin").write_bytes(binary_of(kept, end))
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / "v.bin"), binary=True)
    opened = vectors.from_gensim(theirs)
    assert opened.words == kept.words
    np.testing.assert_array_equal(opened.matrix, kept.matrix)


def test_files_are_read_as_gensim_reads_and_writes_them(tmp_path, glove):
    keyed = KeyedVectors(50)
    keyed.add_vectors(glove.words[:500], np.asarray(glove.matrix[:500]))
    for name in ("v.txt", "v.txt.gz"):
        keyed.save_word2vec_format(str(tmp_path / name))
        opened = vectors.load(tmp_path / name)
        theirs = KeyedVectors.load_word2vec_format(str(tmp_path / name))
        assert opened.words == theirs.index_to_key == keyed.index_to_key
        np.testing.assert_array_equal(opened.matrix, theirs.vectors)


ODD = {
    b"9 2\nthe 1 2\nof 3 4\n": "v.txt: the first line says 9 words, and 2 are there.",
    b"the 1 2\nof 3 4\nthe 5 6\n": "v.txt: words are repeated on 1 lines, as 'the'; the first",
    b"the 1 2\nof 3 4\nna\xefve 5 6\n": "v.txt: 1 words are not UTF-8",
}


@pytest.mark.parametrize("content", ODD)
def test_odd_files_are_read_and_it_is_said(tmp_path, content):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.warns(UserWarning, match=ODD[content]):
        opened = vectors.load(tmp_path / "v.txt")
    assert opened.words[:2] == ["the", "of"]
    assert opened.matrix[:2].tolist() == [[1, 2], [3, 4]]


TABLE = b"the 1.5 2.5\nof 3.5 4.5\nto 5.5 6.5\n"
BAD = {
    b"": "is empty",
    b"\n\n": "is empty",
    b"3 4\n": "is empty",
    b"<!DOCTYPE html>\n<p>Not found</p>\n": "line 1 is no word with 1 numbers: '<!DOCTYPE",
    b"<html>\n": "holds no word vectors",
    b"3 0\nthe\n": "holds no word vectors",
    TABLE + b"a 7.5\n": "line 4 is no word with 2 numbers: 'a 7.5",
    b"3 2\n" + TABLE[:-5]: "line 4 is no word",
    TABLE + b"7.5 8.5\n": "line 4 is no word",
    TABLE + b"a b c\n": "line 4",
    TABLE[:11] + TABLE[12:]: "line 1 is no word",  # a line end is lost
    b"3 5\n" + TABLE: "line 2 is no word with 5 numbers",
    TABLE + b"a nan 1\n": "line 4: a number is NaN",
    TABLE + b"a 1 inf\n": "line 4: a number is NaN or infinite",
    TABLE + b"a 1 1e39\n": "line 4: a number is NaN or infinite",
    b"PK\x03\x04" + bytes(50): "unpack an archive",
    b"\xba\x16\x4f\x2f" + bytes(50): "what gensim loads, as .* opens with from_gensim",
    pickle.dumps({"a": 1}): "a pickle can run code",
    TABLE.decode().encode("utf-16"): "holds no word vectors",
    gzip.compress(TABLE)[:-9]: "cut off or damaged",
    gzip.compress(TABLE)[:30] + bytes(40): "cut off or damaged",
    b"999999999999 300\n" + bytes(400): "word2vec's binary, opens with from_gensim",
}


@pytest.mark.parametrize("content", BAD, ids=map(str, range(len(BAD))))
def test_bad_files_are_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(ValueError, match=BAD[content]) as error:
        vectors.load(tmp_path / "v.txt")
    message = str(error.value)
    assert str(tmp_path / "v.txt") in message
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message.replace(str(tmp_path), "")) < 200


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=60), st.sampled_from([text_of, binary_of]), st.integers(0, 90), st.data())
def test_no_file_gives_a_traceback(tmp_path, noise, form, at, data):
    whole = form(small(["the", "of", "to"], d=2))
    at = min(at, len(whole))
    cut = data.draw(st.integers(at, len(whole)))
    (tmp_path / "v.txt").write_bytes(whole[:at] + noise + whole[cut:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = vectors.load(tmp_path / "v.txt")
        except ValueError as error:
            assert str(error).startswith(str(tmp_path / "v.txt"))  # noqa: PT017
        else:
            assert len(opened.words) == len(opened.matrix) == len(set(opened.words)) > 0
            assert np.isfinite(opened.matrix).all()


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["words.txt", "order.npy", "matrix.npy"]), st.data())
def test_a_damaged_folder_is_named(tmp_path, name, data):
    folder = vectors.save(small("abcde"), tmp_path / "v")
    whole = (folder / name).read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.binary(max_size=3))
    end = data.draw(st.sampled_from([at + len(noise), len(whole)]))
    (folder / name).write_bytes(whole[:at] + noise + whole[end:])
    try:
        opened = vectors.load(folder)
    except ValueError as error:
        said = str(error)
        assert said.startswith(str(folder))
        assert "damaged" in said
        assert "pickle" not in said
    else:
        assert len(opened) == len(opened.words) == 5
        assert opened.matrix.shape == (5, 4)
        assert {opened.lookup(word) for word in (*opened.words, "a")} <= {None, *range(5)}


def test_what_cannot_be_opened_says_why(tmp_path):
    with pytest.raises(FileNotFoundError, match="glove-50d"):
        vectors.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"words\.txt"):
        vectors.load(tmp_path)
    (tmp_path / "model.kv").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="a pickle can run code"):
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
    assert len(glove.norms) == 400_000  # this process has all pages mapped; they are shared
    script = (
        "import psutil\n"
        "from helpers.text import vectors\n"
        "me = psutil.Process()\n"
        "before = me.memory_full_info().uss\n"
        "glove = vectors.load('glove-50d')\n"
        "glove['king'], glove.most_similar('king'), glove.lookup('Queen'), 'nonsens' in glove\n"
        "print(len(glove), me.memory_full_info().uss - before)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    words, added = map(int, done.stdout.split())
    assert words == 400_000
    assert added < 50e6


def test_a_damaged_copy_of_an_asset_is_made_again(glove, tmp_path, monkeypatch):
    source = assets.path("glove-50d")
    monkeypatch.setattr(assets, "path", lambda name: source)
    monkeypatch.setenv("NLP_TRANSFER_CACHE", str(tmp_path))
    for damage in (lambda file: os.truncate(file, 1000), flip, os.remove):
        opened = vectors.load("glove-50d")
        np.testing.assert_array_equal(opened["king"], glove["king"])
        (copy,) = tmp_path.glob("vectors-glove-50d-*")
        damage(copy / "matrix.npy")
    vectors.load("glove-50d")
    monkeypatch.setattr(assets, "path", None)  # a copy that is whole does without its source
    assert len(vectors.load("glove-50d")) == 400_000


def flip(file):
    with open(file, "r+b") as content:
        content.seek(5000)
        byte = content.read(1)[0]
        content.seek(5000)
        content.write(bytes([byte ^ 1]))


# --- looking up ---


def test_lookup_falls_back_to_lower_case_then_to_composing():
    v = small(["us", "US", "it"])
    assert (v.lookup("US"), v.lookup("It"), v.lookup("x")) == (1, 2, None)
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
    assert coverage == (2, 2003)
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
    assert ours.covered == len(ours.pairs) == {"wordsim353": 353, "simlex999": 999}[task]
    assert left_out == 0


def test_similarity_leaves_unknown_words_out_and_ranks_ties():
    v = Vectors(["tiger", "cat", "love", "sex"], np.eye(4, 2, dtype=np.float32) + 0.1)
    score = vectors.word_similarity(v)
    assert score.covered == len(score.pairs) == 3  # love sex, tiger cat, tiger tiger
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
    assert score.covered == 0
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
    trained = vectors.train_fasttext(corpus, **quietly, epochs=2, min_n=3, max_n=4, buckets=50)
    assert "catdog" not in trained
    keyed = trained.compose.__self__
    hashes = ft_ngram_hashes("catdog", 3, 4, 50)
    assert len(hashes) == 6 + 5  # <ca cat atd tdo dog og>, <cat catd atdo tdog dog>
    expected = keyed.vectors_ngrams[hashes].mean(axis=0)
    np.testing.assert_allclose(trained["catdog"], expected, rtol=1e-5)

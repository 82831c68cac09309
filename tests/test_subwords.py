"""Words to pieces and back: nothing lost, each word once, with most context, for any text."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from helpers import assets
from helpers.models.encoder import load_tokenizer
from helpers.text import IGNORED
from helpers.text.subwords import align_subwords, words_from_subwords

HELD = [HealthCheck.function_scoped_fixture]


def tiny():
    """A WordPiece tokenizer as BERT's, over some letters; other characters are unknown."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [mark + letter for mark in ("", "##") for letter in "abcdef.-"]
    vocabulary = {piece: i for i, piece in enumerate([*special, *letters, "ab", "##cd"])}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=512, **names)


@pytest.fixture(scope="module", params=["tiny", "minilm"])
def tokenizer(request):
    if request.param == "tiny":
        return tiny()
    if not assets.is_cached("minilm"):
        pytest.skip("minilm is not in the cache")
    return load_tokenizer("minilm")


ODD = st.sampled_from(
    ["", "\u200b", "\x00", "\x01\x02", "😀", "👩‍👩‍👧", "\ud800", "[SEP]", " ", "שלום"]
)
WORD = st.text(max_size=8) | ODD | st.text("abcdef.-", max_size=40)
SENTENCES = st.lists(st.lists(WORD, max_size=30), max_size=4)


def first_pieces(tokenizer, words):
    """Where each word's first piece is, as the tokenizer itself says; -1 for none."""
    clean = [word.encode("utf-8", "replace").decode() for word in words]
    whole = tokenizer(clean, is_split_into_words=True, verbose=False)
    places = np.full(len(words), -1)
    for at, word in reversed([*enumerate(whole.word_ids())]):
        if word is not None:
            places[word] = at
    return whole["input_ids"], places


@settings(max_examples=60, deadline=None, suppress_health_check=HELD)
@given(sentences=SENTENCES)
def test_short_sentences_are_pieces_as_the_tokenizer_makes_them(tokenizer, sentences):
    tags = [[(i * 7 + j) % 5 for j in range(len(row))] for i, row in enumerate(sentences)]
    found = align_subwords(tokenizer, sentences, tags, max_length=512, context=1)
    if max(found.encoded.lengths, default=0) == 512:
        return  # in windows: below
    windows, start, vanished = iter(range(len(found.encoded))), 0, 0
    for words, row, places in zip(sentences, tags, found.places, strict=True):
        ids, expected = first_pieces(tokenizer, words) if words else ([], np.zeros(0, int))
        vanished += (expected < 0).sum()
        assert np.array_equal(places >= 0, expected >= 0)
        if not (expected >= 0).any():
            continue
        item = found.encoded[next(windows)]
        assert item["input_ids"].tolist() == ids
        labels = np.full(len(ids), IGNORED)
        labels[expected[expected >= 0]] = np.array(row)[expected >= 0]
        assert np.array_equal(item["labels"], labels)
        assert np.array_equal(places[places >= 0] - start, expected[expected >= 0])
        start += len(ids)
    assert next(windows, None) is None
    assert without_tokens(found) == vanished


@settings(max_examples=60, deadline=None, suppress_health_check=HELD)
@given(sentences=SENTENCES, length=st.integers(5, 40), data=st.data())
def test_windows_lose_nothing_and_tag_each_word_once_with_its_context(
    tokenizer, sentences, length, data
):
    context = data.draw(st.integers(0, (length - 3) // 2))
    tags = [list(range(1000 * i, 1000 * i + len(row))) for i, row in enumerate(sentences)]
    found = align_subwords(tokenizer, sentences, tags, max_length=length, context=context)
    whole = align_subwords(tokenizer, sentences, tags, max_length=512, context=0)
    assume(max(whole.encoded.lengths, default=0) < 512)
    assert without_tokens(found) == without_tokens(whole)
    labels = joined(found.encoded, "labels")
    seen = [tag for row, at in zip(tags, found.places, strict=True)
            for tag, place in zip(row, at, strict=True) if place >= 0]  # fmt: skip
    assert sorted(labels[labels != IGNORED]) == sorted(
        seen
    )  # each word that has a piece, exactly once
    assert max(found.encoded.lengths, default=0) <= length
    labels, ids = joined(found.encoded, "labels"), joined(found.encoded, "input_ids")
    for row, at, place in zip(tags, found.places, whole.places, strict=True):
        assert np.array_equal(labels[at[at >= 0]], np.array(row)[at >= 0])
        for here, there in zip(at[at >= 0], place[at >= 0], strict=True):
            left, right = beside(found.encoded, here)
            all_left, all_right = beside(whole.encoded, there)
            assert left >= min(context, all_left)
            assert right >= min(context, all_right)
            expected = joined(whole.encoded, "input_ids")[there - left : there + right + 1]
            assert np.array_equal(ids[here - left : here + right + 1], expected)


def without_tokens(aligned):
    return sum((place < 0).sum() for place in aligned.places)


def joined(encoded, name):
    return np.concatenate([item[name] for item in encoded] or [[]])


def beside(encoded, place):
    """How many pieces of its sentence are left and right of a place in its window."""
    edges = np.cumsum([0, *encoded.lengths])
    window = np.searchsorted(edges, place, "right") - 1
    return place - edges[window] - 1, edges[window + 1] - 2 - place


def test_each_word_is_tagged_where_its_smaller_context_is_largest():
    words = list("abcdef" * 20)
    found = align_subwords(tiny(), [words], [range(len(words))], max_length=22, context=5)
    rows = [item["labels"] for item in found.encoded]
    starts = [*range(0, 100, 10), 100]  # windows of 20 words, 10 further each
    assert len(rows) == len(starts)
    for word in range(len(words)):
        least = [min(word - s, s + 19 - word) for s in starts]
        home = next(i for i, row in enumerate(rows) if word in row)
        assert least[home] == max(least)
        assert least[home] >= min(5, word, len(words) - 1 - word)


def test_a_long_document_comes_back_word_for_word(tokenizer):
    words = [f"{'abcdef'[i % 6]}{'.-'[i % 2] * (i % 9)}" for i in range(10_000)]
    words[77], words[5000] = "\u200b", "a." * 3000  # nothing, and more than a window
    found = align_subwords(tokenizer, [words], max_length=512)
    assert without_tokens(found) == 1
    assert found.encoded.lengths.max() == 512
    outputs = [np.stack([item["input_ids"], item["input_ids"]], 1) for item in found.encoded]
    (rows,) = words_from_subwords(found, outputs)
    expected = [tokenizer(word, add_special_tokens=False)["input_ids"][:1] or [0] for word in words]
    assert rows[:, 1].tolist() == np.ravel(expected).tolist()


@settings(max_examples=40, deadline=None, suppress_health_check=HELD)
@given(sentences=SENTENCES, outside=st.integers(0, 2))
def test_one_row_for_each_word_whatever_the_words_are(tokenizer, sentences, outside):
    found = align_subwords(tokenizer, sentences, max_length=16, context=3)
    outputs = [np.full((length, 3), 7.0, np.float32) for length in found.encoded.lengths]
    rows = words_from_subwords(found, outputs, outside)
    assert [*map(len, rows)] == [*map(len, sentences)]
    for row, places in zip(rows, found.places, strict=True):
        assert (row[places >= 0] == 7).all()
        assert (row[places < 0].argmax(1) == outside).all()


def test_only_vanished_words_and_no_sentences_at_all():
    found = align_subwords(tiny(), [["\u200b", ""], []], [[0, 0], []])
    assert (len(found.encoded), without_tokens(found)) == (0, 2)
    assert [row.shape for row in words_from_subwords(found, [])] == [(2, 1), (0, 1)]
    assert words_from_subwords(align_subwords(tiny(), []), []) == []
    states = align_subwords(tiny(), [["a", ""]])
    row = words_from_subwords(states, [np.ones((3, 4))], outside=2)[0]
    assert row.tolist() == [[1] * 4, [0, 0, 1, 0]]


def test_features_of_a_word_go_with_each_of_its_pieces():
    features = [np.array([[5, 6], [7, 8], [9, 9]])]
    found = align_subwords(tiny(), [["abc", "", "d"]], features=features)
    beside = [[0, 0], [5, 6], [5, 6], [9, 9], [0, 0]]  # [CLS] ab ##c d [SEP]
    assert found.encoded[0]["input_ids"][:, 1:].tolist() == beside
    assert found.encoded[0]["input_ids"][:, 0].tolist()[::4] == [2, 3]
    long = align_subwords(
        tiny(), [["abc"] * 9], features=[np.arange(9)[:, None]], max_length=8, context=2
    )
    for item in long.encoded:
        assert (np.diff(item["input_ids"][1:-1, 1]) >= 0).all()
        assert not item["input_ids"][[0, -1], 1].any()


def test_the_callers_data_stay_as_they_are():
    sentences, tags = [["a", "bc"]], [[1, 2]]
    align_subwords(tiny(), sentences, tags)
    assert (sentences, tags) == ([["a", "bc"]], [[1, 2]])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="tags do not fit"):
        align_subwords(tiny(), [["a", "b"]], [[1]])
    with pytest.raises(ValueError, match="features do not fit"):
        align_subwords(tiny(), [["a"]], features=[])
    with pytest.raises(ValueError, match="max_length=600 is more than the model reads, 512"):
        align_subwords(tiny(), [["a"]], max_length=600)
    with pytest.raises(ValueError, match="context=64 on either side leaves nothing"):
        align_subwords(tiny(), [["a"]], max_length=130)
    with pytest.raises(ValueError, match="not of these windows"):
        words_from_subwords(align_subwords(tiny(), [["a"]]), [np.zeros((4, 2))])

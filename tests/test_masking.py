"""Masking and sentence pairs: shares, what may never be masked, where false sentences are from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.text.masking import IGNORED, mask_tokens, sentence_pairs

MASK, VOCABULARY = 4, range(10, 100)


def text(length: int, special: int = 2):
    """Ids 10 …, a special mark at either end."""
    ids = np.arange(10, 10 + length)
    marks = np.zeros(length, dtype=bool)
    marks[: (special + 1) // 2] = True
    marks[length - special // 2 :] = True
    return ids, marks


@given(st.integers(1, 60), st.floats(0.01, 1), st.integers(0, 1000))
def test_masking_touches_a_share_of_what_is_not_special(length, share, seed):
    ids, special = text(length + 2)
    before = ids.copy()
    found, labels = mask_tokens(ids, special, MASK, VOCABULARY, np.random.default_rng(seed), share)
    assert np.array_equal(ids, before)  # the caller's array is left alone
    hidden = labels != IGNORED
    assert not (hidden & special).any()
    assert hidden.sum() == max(1, round(share * length))
    assert np.array_equal(labels[hidden], ids[hidden])
    assert np.array_equal(found[~hidden], ids[~hidden])


def test_eighty_ten_ten():
    rng = np.random.default_rng(0)
    ids, special = np.full(40_000, 50), np.zeros(40_000, dtype=bool)
    found, labels = mask_tokens(ids, special, MASK, [7], rng)
    hidden = found[labels != IGNORED]
    shares = [(hidden == value).mean() for value in (MASK, 7, 50)]
    assert len(hidden) == 6000
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.integers(0, 1000))
def test_whole_words_are_hidden_together(lengths, seed):
    words = np.repeat(np.arange(len(lengths)), lengths)
    ids, special = np.arange(len(words)) + 10, np.zeros(len(words), dtype=bool)
    rng = np.random.default_rng(seed)
    _, labels = mask_tokens(ids, special, MASK, VOCABULARY, rng, 0.3, words)
    hidden = labels != IGNORED
    assert hidden.any()
    for word in range(len(lengths)):
        assert hidden[words == word].all() or not hidden[words == word].any()


def test_nothing_to_mask_and_a_share_that_cannot_be():
    ids = np.array([1, 2])
    found, labels = mask_tokens(ids, [True, True], MASK, VOCABULARY, np.random.default_rng(0))
    assert np.array_equal(found, ids)
    assert (labels == IGNORED).all()
    for share in (0, -0.1, 1.1):
        with pytest.raises(ValueError, match="must be above 0 and at most 1"):
            mask_tokens(ids, [False, False], MASK, VOCABULARY, np.random.default_rng(0), share)


def documents(n: int = 40, sentences: int = 30):
    return [[f"{d}.{s}" for s in range(sentences)] for d in range(n)]


def test_half_of_the_pairs_are_true_and_false_ones_are_from_another_document():
    pairs = sentence_pairs(documents(), np.random.default_rng(0))
    assert len(pairs) == 40 * 29
    labels = np.array([label for *_, label in pairs])
    assert labels.mean() == pytest.approx(0.5, abs=0.05)
    for first, other, label in pairs:
        (d, s), (d2, s2) = (map(int, text.split(".")) for text in (first, other))
        assert (d2 != d) if label else (d2, s2) == (d, s + 1)


def test_a_false_sentence_never_reads_like_the_true_one():
    same = [["a", "b"], ["b", "b"], ["c", "b"]]
    for seed in range(30):
        for first, other, label in sentence_pairs(same, np.random.default_rng(seed)):
            assert label == 0 or other != "b", (first, other)


def test_pairs_repeat_with_their_seed():
    first, second, third = (
        sentence_pairs(documents(), np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert first == second != third


def test_documents_without_a_pair():
    assert sentence_pairs([["only"], ["one"], []], np.random.default_rng(0)) == []
    with pytest.raises(ValueError, match="two are the least"):
        sentence_pairs([["a", "b"], []], np.random.default_rng(0))

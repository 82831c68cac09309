"""Kneser-Ney against its formula, written once more with dictionaries, and by hand."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.text import KneserNey


def slow(ids, n_words, order):
    """The formula word by word: a function of (word, words before it)."""
    before, discounts = {}, {}  # for each length: n-gram -> what came before it, or how often
    for n in range(1, order + 1):
        found = defaultdict(list)
        for end in range(order, len(ids) + 1):
            whole = tuple(ids[end - order : end])
            found[whole[order - n :]].append(whole[: order - n][-1:] if n < order else end)
        before[n] = {gram: len(set(left)) for gram, left in found.items()}
        ones = sum(count == 1 for count in before[n].values())
        twos = sum(count == 2 for count in before[n].values())
        discounts[n] = ones / (ones + 2 * twos) if ones and twos else 0.5

    def p(word, history):
        n = len(history) + 1
        lower = p(word, history[1:]) if history else 1 / n_words
        after = {g: c for g, c in before[n].items() if g[:-1] == history}
        if not after:
            return lower
        mass = max(after.get((*history, word), 0) - discounts[n], 0)
        return (mass + discounts[n] * len(after) * lower) / sum(after.values())

    return p


texts = st.lists(st.integers(0, 4), min_size=8, max_size=60)


@settings(max_examples=60, deadline=None)
@given(texts, texts, st.integers(1, 3))
def test_it_is_the_formula(text, other, order):
    model, p = KneserNey(text, 5, order), slow(text, 5, order)
    wanted = [
        np.log(p(other[end], tuple(other[end - order + 1 : end])))
        for end in range(order - 1, len(other))
    ]
    np.testing.assert_allclose(model.log_probabilities(other), wanted, rtol=1e-10)


@settings(max_examples=60, deadline=None)
@given(texts, st.lists(st.integers(0, 4), min_size=2, max_size=2))
def test_probabilities_after_any_two_words_sum_to_one(text, history):
    model = KneserNey(text, 5)
    p = [np.exp(model.log_probabilities([*history, word]))[0] for word in range(5)]
    assert sum(p) == pytest.approx(1)
    assert min(p) > 0


def test_a_bigram_by_hand():
    """a b a b a c: bigrams ab 2, ba 2, ac 1, one of them once and two twice: D = 1/5. Each of a, b
    and c has one word before it, so D is 1/2 at the bottom, where p(b) = (1/2 + 3/2 · 1/3) / 3."""
    model = KneserNey([0, 1, 0, 1, 0, 2], 3, order=2)
    after_a = (2 - 1 / 5 + 1 / 5 * 2 * 1 / 3) / 3
    assert np.exp(model.log_probabilities([0, 1]))[0] == pytest.approx(after_a)


def test_a_word_that_follows_one_word_alone_is_less_likely_elsewhere():
    """*Francisco* is frequent, but only after *San*: the reason for counting neighbours."""
    san, francisco, dog, the, a, my = range(6)
    text = [san, francisco] * 10 + [the, dog, a, dog, my, dog, the, a, my, the]
    model = KneserNey(text, 6, order=2)
    after = {w: model.log_probabilities([dog, w])[0] for w in (francisco, my)}
    assert after[my] > after[francisco]
    assert model.log_probabilities([san, francisco])[0] > np.log(0.8)


@pytest.mark.parametrize(("ids", "order"), [([0, 1], 3), ([0, 9, 1], 2), ([-1, 0, 1], 2), ([0], 0)])
def test_texts_that_do_not_fit_are_refused(ids, order):
    with pytest.raises(ValueError, match=r"must have \d words or more|order is 0"):
        KneserNey(ids, 5, order)

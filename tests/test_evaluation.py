"""Scores equal scikit-learn's; intervals cover; pairing removes shared noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from helpers import evaluation
from helpers.evaluation import difference, entity_scores, equivalent_labels, interval, scores

classes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(classes)
def test_scores_equal_scikit_learns(pairs):
    labels, predictions = np.array(pairs).T
    found = scores(labels, predictions)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    expected = f1_score(labels, predictions, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)


def noisy(labels, accuracy, rng):
    return np.where(rng.random(len(labels)) < accuracy, labels, 1 - labels)


def test_an_interval_has_about_the_width_of_the_binomial_and_covers_its_value():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    found = interval(labels, noisy(labels, 0.8, rng))
    half = 1.96 * np.sqrt(found.value * (1 - found.value) / 1000)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)
    assert found.low < found.value < found.high


def test_95_percent_intervals_miss_the_truth_about_5_times_in_100():
    rng, missed = np.random.default_rng(1), 0
    for _ in range(200):
        labels = rng.integers(0, 2, 200)
        found = interval(labels, noisy(labels, 0.75, rng), samples=300)
        missed += not found.low <= 0.75 <= found.high
    assert 3 <= missed <= 22


def test_seeds_that_disagree_widen_the_interval():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 2000)
    agreeing = np.stack([noisy(labels, 0.8, rng) for _ in range(3)])
    differing = np.stack([noisy(labels, accuracy, rng) for accuracy in (0.7, 0.8, 0.9)])
    narrow, wide = interval(labels, agreeing), interval(labels, differing)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_pairing_finds_a_small_difference_that_two_intervals_would_hide():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 1000)
    worse = noisy(labels, 0.8, rng)
    better = worse.copy()
    mended = np.flatnonzero(worse != labels)[:20]
    better[mended] = labels[mended]
    found = difference(labels, better, worse)
    assert found.value == pytest.approx(0.02)
    assert found.excludes_zero
    assert interval(labels, better).low < interval(labels, worse).high


def test_a_method_does_not_differ_from_itself():
    labels = np.array([0, 1, 1, 0, 2])
    assert difference(labels, labels, labels, "macro_f1") == (0.0, 0.0, 0.0)


def test_an_interval_reads_as_a_sentence_needs_it():
    assert evaluation.Interval(0.042, 0.01, 0.0731).points == "+4.2 points [+1.0, +7.3]"
    verdicts = [evaluation.Interval(0.0, *ends).verdict for ends in [(1, 2), (-2, -1), (-1, 1)]]
    assert verdicts == ["better", "worse", "not distinguishable"]
    assert evaluation.Interval(0.1, 0.05, 0.2).said == "+10.0 points [+5.0, +20.0], *better*"


def test_entity_scores_are_strict():
    tags = [["B-PER", "I-PER", "O", "B-LOC"]]
    assert entity_scores(tags, tags)["f1"] == 1.0
    half = entity_scores(tags, [["B-PER", "O", "O", "B-LOC"]])  # a boundary error is an error
    assert half == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert entity_scores(tags, [["I-PER", "I-PER", "O", "B-LOC"]])["recall"] == 0.5  # I- alone


def test_retrieval_scores_by_hand():
    found = evaluation.retrieval_scores([1, 2, 20], at=(1, 10))
    assert found == {"mrr": pytest.approx((1 + 0.5 + 0.05) / 3), "recall@1": pytest.approx(1 / 3),
                     "recall@10": pytest.approx(2 / 3)}  # fmt: skip
    with pytest.raises(ValueError, match="count from 1"):
        evaluation.retrieval_scores([0])


def test_equivalent_labels_interpolates_on_the_logarithm():
    counts, values = [100, 1000, 10_000], [0.6, 0.7, 0.8]
    assert equivalent_labels(counts, values, 0.75) == pytest.approx(10**3.5)
    assert equivalent_labels(counts, values, 0.5) == 100
    assert equivalent_labels(counts, values, 0.9) == float("inf")
    assert equivalent_labels(counts, [0.6, 0.5, 0.8], 0.7) == pytest.approx(10**3.5)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="2 predictions for 3 labels"):
        scores([0, 1, 1], [0, 1])
    with pytest.raises(ValueError, match="same seeds"):
        difference([0, 1], [[0, 1], [0, 1]], [0, 1])
    with pytest.raises(ValueError, match="unknown metric"):
        interval([0, 1], [0, 1], "f1")

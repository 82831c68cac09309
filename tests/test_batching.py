"""Encoded examples and their batches: nothing is lost, nothing comes twice or changes unseen."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.text import Encoded, EpochParts

IDS = [np.array([1, 2]), np.array([3, 4])]


@pytest.mark.parametrize(
    ("ids", "labels", "told"),
    [
        (IDS, [0.9, 1.7], r"Labels must be whole numbers, but one is 0\.9"),
        (IDS, [1.0, np.nan], "Labels must be whole numbers, but one is nan"),
        (IDS, ["pos", "neg"], "Labels must be whole numbers, but one is 'pos'"),
        (IDS, [0, None], "Labels must be whole numbers"),
        (IDS, [np.array([0, 1]), np.array([0.5, 1])], r"of example 1 .*one is 0\.5"),
        ([[1, 2], [3.5, 4]], [0, 1], r"Ids and labels of example 1 .*one is 3\.5"),
        ([["a", "b"], [1]], None, "of example 0 must be whole numbers, but one is 'a'"),
        ([[], [1]], [0, 1], "Example 0 has no tokens"),
        (IDS, [0], "2 examples came with 1 labels"),
        (IDS, [np.array([0]), np.array([0, 1])], "Example 0 has not one label for each token"),
    ],
)
def test_what_would_be_changed_in_silence_is_refused(ids, labels, told):
    with pytest.raises(ValueError, match=told):
        Encoded(ids, labels)


@pytest.mark.parametrize("labels", [[1, 0], [1.0, 0.0], [True, False], np.array([1, 0], "uint8")])
def test_whole_numbers_of_any_type_are_labels(labels):
    data = Encoded(IDS, labels)
    assert data.labels.tolist() == [1, 0]
    assert data.labels.dtype == np.int64


def test_tags_come_in_any_container():
    """A tuple, an array or a column of a table; whole numbers among objects are numbers."""
    for tags in (((0, 1), (1, 1)), np.array([[0, 1], [1, 1]]), [np.array([0, 1], object), [1, 1]]):
        data = Encoded([[5, 6], [7, 8]], tags)
        assert isinstance(data.labels, list)
        assert [list(row) for row in data.labels] == [[0, 1], [1, 1]]
    assert Encoded([[5], [6]], np.array([1, 0], object)).labels.tolist() == [1, 0]


def test_a_batch_is_padded_to_its_longest_example():
    data = Encoded([np.array([5]), [6, 7, 8]], [np.array([1]), [0, -100, 2]])
    batch = data.collate([data[0], data[1]])
    assert batch["input_ids"].tolist() == [[5, 0, 0], [6, 7, 8]]
    assert batch["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [[1, -100, -100], [0, -100, 2]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@pytest.mark.parametrize(("batch_size", "parts"), [(0, 1), (1, 0)])
def test_sizes_below_one_are_refused(batch_size, parts):
    with pytest.raises(ValueError, match="is 0, but must be at least 1"):
        EpochParts([1], batch_size, parts, seed=0)


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    parts=st.integers(1, 12),
)
def test_the_rounds_of_a_pass_hold_each_row_once(lengths, batch_size, parts):
    rounds = EpochParts(lengths, batch_size, parts, seed=3)
    for once in range(2):
        seen = []
        for epoch in range(once * rounds.parts, (once + 1) * rounds.parts):
            rounds.set_epoch(epoch)
            batches = list(rounds)
            assert 1 <= len(batches) <= len(rounds)
            assert max(map(len, batches)) <= batch_size
            seen += [row for batch in batches for row in batch]
        assert sorted(seen) == list(range(len(lengths)))


def test_passes_differ_and_seeds_repeat():
    def rows(seed, first):
        rounds, found = EpochParts([4] * 40, 4, 5, seed), []
        for epoch in range(first, first + 5):
            rounds.set_epoch(epoch)
            found += list(rounds)
        return found

    assert rows(0, 0) == rows(0, 0)
    assert rows(0, 0) != rows(0, 5)
    assert rows(0, 0) != rows(1, 0)

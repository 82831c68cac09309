import re
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.text import IGNORED, Encoded, LengthBatches, Vocabulary, tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't! It's fine.", ["do", "n't", "!", "it", "'s", "fine", "."]),
        ("I CAN’T say", ["i", "ca", "n't", "say"]),
        ("Mr. O'Brien, U.S. well-known", ["mr.", "o'brien", ",", "u.s.", "well-known"]),
        ("$1,000.50... 3-1", ["$", "1,000.50", "...", "3-1"]),
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("我喜欢film", ["我", "喜", "欢", "film"]),
        ("it is n't 's", ["it", "is", "n't", "'s"]),
        ("the end.Then\tx", ["the", "end", ".", "then", "x"]),
        ("", []),
    ],
)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens


def test_case_is_kept_on_request():
    assert tokenize("He DIDN'T", lower=False) == ["He", "DID", "N'T"]


@given(st.text() | st.text(alphabet="aZ9'’-. \n…_\u0301我n't"))
def test_tokenize_loses_nothing_but_blanks(text):
    tokens = tokenize(text, lower=False)
    assert "".join(tokens) == re.sub(r"\s", "", text.replace("’", "'"))
    assert all(tokens)
    assert not any(re.search(r"\s", token) for token in tokens)


def test_tokenize_is_linear_in_the_length_of_a_text():
    def seconds(text):
        start = time.perf_counter()
        tokenize(text)
        return time.perf_counter() - start

    for piece in ("a-", "a.", "1,", "'", "-", "n't", "ab\u0301"):
        assert seconds(piece * 100_000) < 1


words = st.lists(st.lists(st.sampled_from("abcdefg")), max_size=8)


@given(words, st.integers(1, 3), st.none() | st.integers(2, 6))
def test_vocabulary_keeps_the_most_frequent(token_lists, min_count, max_size):
    vocabulary = Vocabulary.build(token_lists, min_count, max_size)
    counts = {w: sum(t.count(w) for t in token_lists) for w in "abcdefg"}
    frequent = sorted((w for w in counts if counts[w] >= min_count), key=lambda w: -counts[w])
    size = len(frequent) + 2 if max_size is None else min(len(frequent) + 2, max_size)
    assert len(vocabulary) == size
    kept = [counts[w] for w in vocabulary.words[2:]]
    assert kept == [counts[w] for w in frequent[: size - 2]]
    for tokens in token_lists:
        ids = vocabulary.encode(tokens)
        assert ids.dtype == np.int64
        expected = [token if token in vocabulary else "<unk>" for token in tokens]
        assert vocabulary.decode(ids) == expected


def test_vocabulary_round_trip(tmp_path):
    vocabulary = Vocabulary.build([["café", "我", '"', "<pad>", "<unk>"]])
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json").words == vocabulary.words
    assert len(vocabulary) == 5
    assert vocabulary["never"] == 1
    assert vocabulary["<pad>"] == 0


def test_vocabulary_refuses_a_broken_list():
    with pytest.raises(ValueError, match="<pad>"):
        Vocabulary(["a", "b"])
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(["<pad>", "<unk>", "a", "a"])


@given(st.lists(st.lists(st.integers(1, 9), min_size=1), min_size=1, max_size=9))
def test_collate_masks_exactly_the_padding(sequences):
    tags = [[i + 1 for i in s] for s in sequences]
    tagged = Encoded([np.array(s) for s in sequences], [np.array(t) for t in tags])
    batch = tagged.collate([tagged[i] for i in range(len(tagged))])
    mask = batch["attention_mask"].bool()
    assert mask.sum(1).tolist() == [len(s) for s in sequences]
    for row, sequence in enumerate(sequences):
        assert batch["input_ids"][row][mask[row]].tolist() == sequence
        assert batch["labels"][row][mask[row]].tolist() == tags[row]
        assert mask[row].long().diff().le(0).all()  # no gap
    assert (batch["input_ids"][~mask] == 0).all()
    assert (batch["labels"][~mask] == IGNORED).all()


def test_collate_characters_and_single_labels():
    data = Encoded([np.ones((2, 5), int), np.ones((4, 5), int)], [1, 0])
    batch = data.collate([data[0], data[1]])
    assert batch["input_ids"].shape == (2, 4, 5)
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist() == [1, 0]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    assert "labels" not in data.collate([Encoded([np.ones(3, int)])[0]])


def test_encoded_names_the_bad_example():
    with pytest.raises(ValueError, match="Example 1 has no tokens"):
        Encoded([np.ones(2, int), np.array([], int)])
    with pytest.raises(ValueError, match="2 examples came with 1 labels"):
        Encoded([np.ones(2, int)] * 2, [0])
    with pytest.raises(ValueError, match="Example 1 "):
        Encoded([np.ones(2, int)] * 2, [np.ones(2, int), np.ones(3, int)])


def test_subset_keeps_labels_with_their_examples():
    data = Encoded([np.full(i + 1, i) for i in range(5)], np.arange(5) * 10).subset([3, 1])
    assert data.lengths.tolist() == [4, 2]
    assert [int(data[i]["labels"]) for i in range(2)] == [30, 10]


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 50), max_size=300),
    st.integers(1, 7),
    st.booleans(),
    st.integers(0, 3),
)
def test_batches_cover_every_index_once(lengths, size, shuffle, epoch):
    sampler = LengthBatches(lengths, size, shuffle, seed=1)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    assert all(len(batch) == size for batch in batches[:-1])
    assert batches == list(sampler)


def test_batches_are_of_similar_length_and_change_with_epoch_and_seed():
    lengths = np.random.default_rng(0).integers(1, 60, size=5000)

    def padding(batches):
        return sum(len(b) * lengths[b].max() for b in batches) / lengths.sum() - 1

    sampler = LengthBatches(lengths, 32, shuffle=True, seed=3)
    first = list(sampler)
    assert padding(first) < 0.1
    assert padding(LengthBatches(lengths, 32)) < 0.02
    longest = [lengths[b].max() for b in first]
    assert np.abs(np.corrcoef(longest[:-1], np.arange(len(longest) - 1))[0, 1]) < 0.25
    assert first != list(LengthBatches(lengths, 32, shuffle=True, seed=4))
    sampler.set_epoch(1)
    assert first != list(sampler)


def test_batching_time_is_flat():
    """Microseconds an example, encoded and batched, at 1,000 and at 20,000 examples."""
    tokens = tokenize("It isn't nearly as bad as it's made out to be, in fact.")
    vocabulary = Vocabulary.build([tokens])

    def cost(n):
        start = time.perf_counter()
        data = Encoded([vocabulary.encode(tokens) for _ in range(n)], np.zeros(n))
        sampler = LengthBatches(data.lengths, 32, shuffle=True)
        for batch in sampler:
            data.collate([data[i] for i in batch])
        return (time.perf_counter() - start) / n

    cost(1000)
    assert min(cost(20_000) for _ in range(3)) < 1.5 * min(cost(1000) for _ in range(5))

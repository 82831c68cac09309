import re
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.text import (
    IGNORED,
    Encoded,
    LengthBatches,
    Vocabulary,
    digest,
    normal,
    tokenize,
)


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
        ("\u304b\u3099\u30ab\u65e5\u672c", ["\u304b\u3099\u30ab", "\u65e5", "\u672c"]),
        ("\uf900\u3400\U00020000a", ["\uf900", "\u3400", "\U00020000", "a"]),
        ("\uff26\uff29\uff2c\uff2d\u3000\uff11", ["\uff46\uff49\uff4c\uff4d", "\uff11"]),
        ("d'e\u0301te\u0301", ["d'e\u0301te\u0301"]),
        ("\u2764\ufe0f 1\ufe0f\u20e3", ["\u2764", "\ufe0f", "1", "\ufe0f", "\u20e3"]),  # emoji
        ("a\ufe0fb", ["a", "\ufe0f", "b"]),
        ("the end.Then\tx", ["the", "end", ".", "then", "x"]),
        ("", []),
    ],
)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens


WORDS = {
    "Hangul": "\uc88b\uc544\uc694",
    "Hangul in conjoining parts": "\u1112\u1161\u11ab",
    "Devanagari": "\u0917\u092f\u093e",
    "Devanagari with a joiner": "\u0915\u094d\u200d\u0937",
    "Bengali": "\u09ac\u09be\u0982\u09b2\u09be",
    "Tamil": "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd",
    "Arabic with vowels": "\u0645\u064f\u062d\u064e\u0645\u0651",
    "Persian with a non-joiner": "\u0645\u06cc\u200c\u062e\u0648\u0627",
    "Hebrew with vowels": "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd",
    "Thai, a phrase": "\u0e44\u0e17\u0e22\u0e17\u0e35\u0e48",
}


@pytest.mark.parametrize("script", WORDS)
def test_a_word_of_any_script_is_one_token(script):
    word = WORDS[script]
    assert tokenize(f"{word}! {word}") == [word, "!", word]


def test_case_is_kept_on_request():
    assert tokenize("He DIDN'T", lower=False) == ["He", "DID", "N'T"]


@given(st.text() | st.text(alphabet="aZ9'’-. \n…_\u0301我n't"))
def test_tokenize_loses_nothing_but_blanks(text):
    tokens = tokenize(text, lower=False)
    assert "".join(tokens) == re.sub(r"\s", "", text.replace("’", "'"))
    assert all(tokens)
    assert not any(re.search(r"\s", token) for token in tokens)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Don't  STOP_it!", "don t stop it"),
        ("\uff26\uff29\uff2c\uff2d", "film"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u0935\u0939 \u0917\u092f\u093e.", "\u0935\u0939 \u0917\u092f\u093e"),
        ("\u0130zmir", "i\u0307zmir"),
        ("x\u0304 y", "x\u0304 y"),
        ("a\ufe0fb\u0301", "a b\u0301"),
        (":-) !", ":-) !"),
        ("\u2764\ufe0f", "\u2764\ufe0f"),
    ],
)
def test_normal_forms(text, form):
    assert normal(text) == form
    assert digest(text) == digest(form)


def test_texts_that_differ_in_a_vowel_sign_differ():
    pairs = [
        ("\u0935\u0939 \u0917\u092f\u093e", "\u0935\u0939 \u0917\u092f\u0940")
    ]  # he / she went
    pairs += [("\u0e21\u0e32", "\u0e21\u0e35"), ("\u0e1b\u0e35", "\u0e1b\u0e34")]
    pairs += [("\u05e9\u05b8", "\u05e9\u05b9"), ("\u0995\u09be", "\u0995\u09bf")]
    for one, other in pairs:
        assert normal(one) != normal(other)
        assert digest(one) != digest(other)


@given(st.text(), st.integers(-(2**63), 2**63 - 1))
def test_normal_is_stable_under_case_and_blanks(text, seed):
    assert normal(f"  {normal(text)}\n") == normal(text)
    assert digest(text, seed) == digest(f" {normal(text)} ", seed)


def test_lone_surrogates_have_a_digest():
    assert digest("\ud800") != digest("\ud801")


def test_tokenize_is_linear_in_the_length_of_a_text():
    def seconds(text):
        start = time.process_time()
        tokenize(text)
        return time.process_time() - start

    for piece in ("a-", "a.", "1,", "'", "-", "n't", "ab\u0301", "\u093e", "a\u200d", "o'\u093e"):
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


def test_special_tokens_come_once_and_unknown_words_are_one():
    vocabulary = Vocabulary.build([["café", "我", '"', "<pad>", "<unk>"]])
    assert len(vocabulary) == 5
    assert vocabulary["never"] == 1
    assert vocabulary["<pad>"] == 0


def test_vocabulary_refuses_a_broken_list():
    with pytest.raises(ValueError, match="<pad>"):
        Vocabulary(["a", "b"])
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(["<pad>", "<unk>", "a", "a"])
    for size in (-1, 1):
        with pytest.raises(ValueError, match="max_size"):
            Vocabulary.build([["a"]], max_size=size)


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
    """An example costs as much among 20,000, encoded and batched, as among 1,000. Each ratio is of
    neighbouring moments, and the median counts: how fast the machine is changes meanwhile."""
    tokens = tokenize("It isn't nearly as bad as it's made out to be, in fact.")
    vocabulary = Vocabulary.build([tokens])

    def cost(n):
        start = time.process_time()
        data = Encoded([vocabulary.encode(tokens) for _ in range(n)], np.zeros(n))
        sampler = LengthBatches(data.lengths, 32, shuffle=True)
        for batch in sampler:
            data.collate([data[i] for i in batch])
        return (time.process_time() - start) / n

    def ratio():
        before, among_many = [cost(1000) for _ in range(10)], cost(20_000)
        return among_many / np.mean(before + [cost(1000) for _ in range(10)])

    ratio()
    assert np.median([ratio() for _ in range(5)]) < 1.5

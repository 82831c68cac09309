"""Taggers: reading of words, equality with PyTorch's packed LSTM, padding, training, decoding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import BertConfig, BertModel

from helpers.models.crf import CRF, bio_constraints, crf_loss, decode
from helpers.models.tagger import SHAPES, BiLSTMTagger, EncoderTagger, encode_words, shape
from helpers.text import Encoded, Vocabulary
from helpers.training import fit, predict_logits, transfer

NAMES = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
CLOSE = {"atol": 1e-5, "rtol": 0}
VARIANTS = {
    "words": {},
    "shapes": {"shapes": True},
    "characters": {"characters": 12},
    "all": {"shapes": True, "characters": 12},
}


def tagger(crf=True, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vectors = torch.randn(30, 6)
        vectors[0] = 0
        field = CRF(5, bio_constraints(NAMES)) if crf else None
        return BiLSTMTagger(vectors, 5, hidden=7, crf=field, **options).eval()


def ids(lengths, seed=0):
    """Random sentences `(T, 2 + 8)`; words have 1 to 8 characters."""
    rng, found = np.random.default_rng(seed), []
    for length in lengths:
        words, shapes = rng.integers(1, 30, (length, 1)), rng.integers(1, 8, (length, 1))
        letters = rng.integers(1, 12, (length, 8)) * (
            np.arange(8) < rng.integers(1, 9, (length, 1))
        )
        found.append(np.hstack([words, shapes, letters]))
    return found


def batch(sentences):
    return Encoded.collate([{"input_ids": one} for one in sentences])


@pytest.mark.parametrize(
    ("word", "name"),
    [("the", "lower"), ("London", "Title"), ("I", "Title"), ("EU", "UPPER"), ("U.S.", "UPPER"),
     ("McCoy", "miXed"), ("1,996", "number"), ("F-16", "numb3r and letters"), ("(", "neither"),
     ("", "neither"), ("的", "neither"), ("Élan", "Title"), ("straße", "lower")],
)  # fmt: skip
def test_shapes(word, name):
    assert SHAPES[shape(word) - 1] == name


WORDS = st.lists(st.lists(st.text(max_size=30), max_size=5), max_size=4)


@settings(max_examples=50, deadline=None)
@given(WORDS, st.integers(1, 9))
def test_any_words_become_ids_that_keep_their_two_ends(sentences, width):
    vocabulary = Vocabulary(["<pad>", "<unk>", "a", "B", "ab"])
    characters = Vocabulary.build(word for row in sentences for word in row)
    found = encode_words(sentences, vocabulary, characters, width)
    for row, words in zip(found, sentences, strict=True):
        assert row.shape == (len(words), 2 + width)
        for numbers, word in zip(row, words, strict=True):
            assert numbers[0] == vocabulary[word] or numbers[0] == vocabulary[word.lower()]
            letters = "".join(characters.decode(numbers[2:][numbers[2:] > 0]))
            if len(word) <= width:
                assert letters == word
            else:
                assert letters == word[: width // 2] + word[len(word) - (width - width // 2) :]


def test_a_word_is_looked_up_as_written_then_in_lower_case():
    vocabulary = Vocabulary(["<pad>", "<unk>", "us", "US", "apple"])
    (row,) = encode_words([["US", "us", "Us", "Apple", "pear"]], vocabulary, vocabulary)
    assert row[:, 0].tolist() == [3, 2, 2, 4, 1]


def test_equals_pytorchs_packed_bidirectional_lstm():
    model, data = tagger(), batch([one[:, 0] for one in ids([5, 1, 9])])
    theirs = nn.LSTM(6, 7, batch_first=True, bidirectional=True)
    names = [name for name, _ in model.forwards.named_parameters()]
    theirs.load_state_dict(
        {name: getattr(model.forwards, name) for name in names}
        | {f"{name}_reverse": getattr(model.backwards, name) for name in names}
    )
    lengths = data["attention_mask"].sum(1)
    packed = pack_padded_sequence(
        model.embedding(data["input_ids"]), lengths, batch_first=True, enforce_sorted=False
    )
    expected = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    found = model.features(**data) * data["attention_mask"].unsqueeze(2)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_and_neighbours_change_nothing(variant):
    model, sentences = tagger(**VARIANTS[variant]), ids([4, 1, 11])
    data = batch(sentences)
    together = model(**data)
    data["input_ids"][data["attention_mask"] == 0] = 3
    torch.testing.assert_close(model(**data)[data["attention_mask"] == 1],
                               together[data["attention_mask"] == 1], **CLOSE)  # fmt: skip
    for row, one in enumerate(sentences):
        torch.testing.assert_close(together[row, : len(one)], model(**batch([one]))[0], **CLOSE)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("empty", [[1], [0, 1, 2]])
def test_sentences_that_are_masked_altogether_give_numbers_and_disturb_no_other(variant, empty):
    model, data = tagger(**VARIANTS[variant]), batch(ids([4, 1, 5]))
    together = model(**data)
    data["attention_mask"][empty] = 0
    found = model(**data)
    assert found.isfinite().all()
    for row in {0, 1, 2} - set(empty):
        torch.testing.assert_close(found[row], together[row], **CLOSE)


def test_the_room_for_characters_changes_nothing():
    model, sentences = tagger(**VARIANTS["all"]), ids([6])
    sentences[0][:, -1] = 1  # words as long as there is room
    nn.init.ones_(model.spelling.windows.bias)  # what a blank would score
    wider = [np.pad(one, ((0, 0), (0, 9))) for one in sentences]
    torch.testing.assert_close(model(**batch(wider)), model(**batch(sentences)), **CLOSE)


@pytest.mark.parametrize(("channel", "variant"), [(0, "words"), (1, "shapes"), (2, "characters")])
def test_each_channel_is_read_where_it_is_asked_for(channel, variant):
    first, second = ids([3]), ids([3])
    second[0][1, channel] = first[0][1, channel] % 6 + 1
    for name, options in VARIANTS.items():
        model = tagger(**options)
        same = torch.equal(model(**batch(first)), model(**batch(second)))
        assert same == (name not in (variant, "all") and channel > 0)


def test_every_word_sees_both_sides():
    model, sentences = tagger(), ids([6])
    before = model(**batch(sentences))[0]
    for at in (0, 5):
        sentences[0][at, 0] = sentences[0][at, 0] % 28 + 1
        assert ((model(**batch(sentences))[0] - before).abs().amax(1) > 0).all()


def test_an_empty_word_and_unknown_characters_pass():
    sentences = [["", "\u200b", "😀" * 50, "שלום", "\x00"]]
    characters = Vocabulary.build(["abc"])
    data = batch(encode_words(sentences, Vocabulary(["<pad>", "<unk>"]), characters))
    assert tagger(**VARIANTS["all"])(**data).isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_layer_groups_are_complete_and_from_the_input_up(variant):
    model = tagger(**VARIANTS[variant])
    groups = transfer.layer_groups(model)
    assert list(groups) == ["embeddings", "lstm", "head"]
    ids = [id(p) for group in groups.values() for p in group]
    assert sorted(ids) == sorted(map(id, model.parameters()))
    assert any(p is model.crf.transitions for p in groups["head"])


def language(n, seed=0):
    """Sentences whose tags need order and spelling: a capital begins a place, or after "mr" a
    person; the next word goes on with it if it is "city"."""
    rng, sentences, tags = np.random.default_rng(seed), [], []
    for _ in range(n):
        words, row = [], []
        for _ in range(int(rng.integers(1, 5))):
            name = "".join(rng.choice(list("abcdef"), 4)).capitalize()
            kind = rng.choice(["LOC", "PER", "O"])
            if kind == "O":
                words, row = [*words, name.lower()], [*row, "O"]
            elif kind == "PER":
                words, row = [*words, "mr", name], [*row, "O", "B-PER"]
            else:
                words, row = [*words, name, "city"], [*row, "B-LOC", "I-LOC"]
        sentences.append(words)
        tags.append(np.array([NAMES.index(tag) for tag in row]))
    return sentences, tags


def encoded(n, seed, vocabulary, characters):
    sentences, tags = language(n, seed)
    return Encoded(encode_words(sentences, vocabulary, characters, 6), tags)


@pytest.mark.parametrize("crf", [True, False])
def test_fit_learns_a_small_language_and_the_callers_matrix_is_its_own(crf):
    vocabulary = Vocabulary(["<pad>", "<unk>", "mr", "city"])
    characters = Vocabulary.build(["abcdefABCDEFmrcity"])
    train, test = (encoded(n, n, vocabulary, characters) for n in (200, 50))
    vectors = np.diag([0, 1, 1, 1]).astype(np.float32)
    torch.manual_seed(0)
    field = CRF(5, bio_constraints(NAMES)) if crf else None
    model = BiLSTMTagger(vectors, 5, hidden=16, characters=len(characters), shapes=True, crf=field,
                         dropout=0.1)  # fmt: skip

    def f1(labels, scores) -> float:
        tags = [[[NAMES[tag] for tag in row] for row in rows]
                for rows in (labels, decode(model, scores))]  # fmt: skip
        return f1_score(*tags, mode="strict", scheme=IOB2)

    done = fit(model, train, test, epochs=6, lr=0.02, metric=f1, progress=False,
               loss=crf_loss(model) if crf else None)  # fmt: skip
    assert done.best > 0.98
    assert done.history["validation_f1"].max() == done.best
    assert np.array_equal(vectors, np.diag([0, 1, 1, 1]))  # the model has a copy
    assert not model.embedding.weight[0].any()
    scores = predict_logits(model, test)
    assert [row.shape for row in scores] == [(len(row), 5) for row in test.labels]
    assert f1(test.labels, scores) == pytest.approx(done.best)


def test_frozen_vectors_stay_and_tuned_ones_move():
    data = Encoded([one[:, 0] for one in ids([5, 3])], [np.ones(5, int), np.zeros(3, int)])
    for freeze in (True, False):
        model = tagger(freeze=freeze)
        before = model.embedding.weight.detach().clone()
        fit(model, data, epochs=1, lr=0.1, loss=crf_loss(model), progress=False)
        assert torch.equal(model.embedding.weight, before) == freeze


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    place = tmp_path_factory.mktemp("bert")
    BertModel(BertConfig(vocab_size=40, intermediate_size=16, **sizes)).save_pretrained(place)
    return str(place)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_encoder_tags_pieces_and_padding_changes_nothing(folder, variant):
    model, sentences = EncoderTagger(folder, 5, **VARIANTS[variant]).eval(), ids([4, 1, 9])
    together = model(**batch(sentences))
    assert together.shape == (3, 9, 5)
    for row, one in enumerate(sentences):
        torch.testing.assert_close(together[row, : len(one)], model(**batch([one]))[0], **CLOSE)
    state = model.encoder(torch.as_tensor(sentences[2][None, :, 0])).last_hidden_state
    torch.testing.assert_close(model.features(**batch(sentences))[2:, :, :8], state, **CLOSE)


def test_an_encoder_with_a_crf_trains_and_has_the_layer_groups_of_the_encoder(folder):
    model = EncoderTagger(folder, 5, shapes=True, crf=CRF(5))
    data = Encoded(
        ids([4, 6]), [np.array([-100, 1, 2, -100]), np.array([-100, 3, -100, 0, 0, -100])]
    )
    before = model.crf.transitions.detach().clone()
    fit(model, data, epochs=2, loss=crf_loss(model), progress=False)
    assert not torch.equal(model.crf.transitions, before)
    assert list(transfer.layer_groups(model)) == ["embeddings", "layer 1", "layer 2", "head"]


@pytest.mark.parametrize("make", ["words", "subwords"])
def test_freezing_below_the_head_trains_the_spelling_which_is_new(make, folder):
    looks = {"characters": 9, "shapes": True, "crf": CRF(5)}
    model = tagger(**looks) if make == "words" else EncoderTagger(folder, 5, **looks)
    transfer.freeze_below(model, "head")
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"spelling", "head", "crf"}
    assert all(p.requires_grad for p in model.spelling.parameters())
    assert not any(p is q for p in model.spelling.parameters()
                   for q in transfer.layer_groups(model)["embeddings"])  # fmt: skip


def test_the_random_start_control_has_other_weights(folder):
    first, control = EncoderTagger(folder, 5), EncoderTagger(folder, 5, pretrained=False)
    query = "encoder.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(first.state_dict()[query], control.state_dict()[query])

"""ELMo against the original's outputs, against arithmetic written out, and against torch's LSTM."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_checkpoints import change_facts
from torch import nn

from helpers import text
from helpers.models import checkpoints, elmo, softmax
from helpers.models.elmo import BidirectionalLM, Elmo, ElmoConfig, ScalarMix, character_ids

CLOSE = {"atol": 1e-5, "rtol": 0}
FIXTURE = Path(__file__).resolve().parents[2] / "shared" / "fixtures" / "elmo"
SMALL = ElmoConfig(dim=12, projection=6, character_dim=3, filters=[(1, 4), (3, 5)],
                   n_highway=1, max_characters=10, dropout=0.0)  # fmt: skip
OPTIONS = {
    "lstm": {"dim": 12, "projection_dim": 6, "n_layers": 2, "cell_clip": 0.5, "proj_clip": 0.3,
             "use_skip_connections": True},
    "char_cnn": {"embedding": {"dim": 3}, "filters": [[1, 4], [3, 5]], "n_highway": 2,
                 "n_characters": 262, "max_characters_per_token": 50, "activation": "relu"},
}  # fmt: skip
SENTENCES = [["the", "bank", "of", "the", "river"], ["hm"], ["a", "cell", ",", "a", "cell", "!"]]
WORDS = [text.PAD, text.UNKNOWN, "the", "of", "a", "cell", "bank", "river", "light", "leaves",
         "table", "spring"]  # fmt: skip


def batch(sentences, width=SMALL.max_characters):
    """Characters (B, T, C) and mask (B, T), padded as `Encoded` does it."""
    ids = [character_ids(words, width) for words in sentences]
    longest = max(map(len, ids))
    padded = [np.pad(a, ((0, longest - len(a)), (0, 0))) for a in ids]
    mask = [[1] * len(a) + [0] * (longest - len(a)) for a in ids]
    return torch.from_numpy(np.stack(padded)), torch.tensor(mask)


def shaken(model, scale=0.5, seed=0):
    """The model with all weights drawn anew, biases included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.eval()


@pytest.fixture
def model():
    return shaken(Elmo(SMALL))


@pytest.fixture
def lm():
    return shaken(BidirectionalLM(SMALL, WORDS, n_softmax=7))


# --- characters -----------------------------------------------------------------------------------


def test_character_ids_of_a_word_and_of_the_markers_by_hand():
    assert character_ids(["né"], 8).tolist() == [[259, 111, 196, 170, 260, 261, 261, 261]]
    assert character_ids(["<S>", "</S>"], 4).tolist() == [
        [259, 257, 260, 261],
        [259, 258, 260, 261],
    ]
    assert character_ids(["abcdef"], 5).tolist() == [[259, 98, 99, 100, 260]]
    assert character_ids([]).shape == (0, 50)


@settings(deadline=None)
@given(st.text(st.characters(), max_size=60).filter(lambda word: word not in elmo.MARKERS))
def test_any_word_keeps_its_first_48_bytes_between_its_marks(word):
    (row,) = character_ids([word])
    inside = word.encode("utf-8", "ignore")[:48]
    assert row.tolist() == [259, *(b + 1 for b in inside), 260, *[261] * (48 - len(inside))]


# --- parts ----------------------------------------------------------------------------------------


def test_highway_by_hand():
    layer = elmo.Highway(1)
    with torch.no_grad():
        for part, weight, bias in ((layer.carry, 1.0, 0.5), (layer.transform, -2.0, 1.0)):
            part.weight.fill_(weight)
            part.bias.fill_(bias)
    gate = 1 / (1 + np.exp([-1.5, 2.5]))  # x = 1 and x = -3
    expected = [gate[0] * 0 + (1 - gate[0]) * 1, gate[1] * 7 + (1 - gate[1]) * -3]
    found = layer(torch.tensor([[1.0], [-3.0]])).flatten()
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_a_filter_answers_with_its_strongest_match_but_never_below_zero_and_padding_counts():
    config = replace(SMALL, character_dim=1, filters=[(1, 2)], n_highway=0, projection=2)
    network = elmo.CharacterCNN(config)
    with torch.no_grad():
        network.embedding.weight.zero_()
        network.embedding.weight[ord("a") + 1], network.embedding.weight[ord("b") + 1] = 1.0, 5.0
        network.embedding.weight[elmo.PAD + 1] = -4.0
        network.convolutions[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1))
        network.convolutions[0].bias.copy_(torch.tensor([0.5, -6.0]))
        network.projection.weight.copy_(torch.eye(2))
        network.projection.bias.zero_()
    ids = torch.from_numpy(character_ids(["ab", "a"], 10))
    assert network(ids).tolist() == [[5.5, 0.0], [1.5, 0.0]]
    with torch.no_grad():
        network.convolutions[0].bias[1] = 1.0
    assert network(ids).tolist() == [[5.5, 5.0], [1.5, 5.0]]  # -(-4) + 1, from the padding


def test_scalar_mix_starts_as_the_mean_and_follows_its_weights():
    layers = list(torch.randn(3, 2, 4, 6, generator=torch.Generator().manual_seed(0)))
    mix = ScalarMix(3)
    torch.testing.assert_close(mix(layers), sum(layers) / 3)
    with torch.no_grad():
        mix.w.copy_(torch.tensor([0.0, 1.0, 0.0]).log())
        mix.gamma.fill_(2)
    torch.testing.assert_close(mix(layers), 2 * layers[1])
    with pytest.raises(ValueError, match="zip"):
        mix(layers[:2])


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_each_direction_without_clipping_is_torchs_lstm_with_projection(monkeypatch):
    monkeypatch.setattr(elmo, "SPAN", 4)  # the seven steps in two spans
    ours = shaken(elmo.LSTM(5, 8, 3, torch.inf, torch.inf))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 7, 4, 5, generator=generator)
    state = torch.randn(2, 4, 3, generator=generator), torch.randn(2, 4, 8, generator=generator)
    found, (h, c) = ours(x, state)
    for d in (0, 1):
        theirs = nn.LSTM(5, 8, proj_size=3)
        i, f, o, g = (slice(8 * k, 8 * k + 8) for k in range(4))
        order = np.r_[i, f, g, o]  # torch has the candidate before the output gate
        with torch.no_grad():
            theirs.weight_ih_l0.copy_(ours.input[d, :, order].T)
            theirs.weight_hh_l0.copy_(ours.recurrent[d, :, order].T)
            theirs.weight_hr_l0.copy_(ours.projection[d].T)
            theirs.bias_ih_l0.copy_(ours.bias[d, order])
            theirs.bias_hh_l0.zero_()
        expected, last = theirs(x[d], (state[0][d : d + 1], state[1][d : d + 1]))
        torch.testing.assert_close(found[d], expected, **CLOSE)
        torch.testing.assert_close(h[d], last[0][0], **CLOSE)
        torch.testing.assert_close(c[d], last[1][0], **CLOSE)


@torch.no_grad()
def test_cell_and_output_are_clipped():
    layer = shaken(elmo.LSTM(5, 8, 3, 0.2, 0.1), scale=3)
    found, (_, c) = layer(torch.ones(2, 6, 1, 5))
    assert found.abs().max() == pytest.approx(0.1)
    assert c.abs().max() == pytest.approx(0.2)


# --- the original ---------------------------------------------------------------------------------


def original(weights, sentences):
    """What TensorFlow computes, word by word, with the state carried from sentence to sentence."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def relu(x):
        return np.maximum(x, 0)

    def vector(row):
        table = np.concatenate([np.zeros((1, 3)), weights["char_embed"]])[row]
        found = []
        for k, width in ((0, 1), (1, 3)):
            kernel, bias = weights[f"CNN/W_cnn_{k}"][0], weights[f"CNN/b_cnn_{k}"]
            windows = [table[i : i + width] for i in range(len(table) - width + 1)]
            found.append(
                relu(np.max([np.einsum("wd,wdn->n", w, kernel) for w in windows], 0) + bias)
            )
        x = np.concatenate(found)
        for k in (0, 1):
            part = {n: weights[f"CNN_high_{k}/{n}"] for n in
                    ("W_carry", "b_carry", "W_transform", "b_transform")}  # fmt: skip
            c = sigmoid(x @ part["W_carry"] + part["b_carry"])
            x = c * relu(x @ part["W_transform"] + part["b_transform"]) + (1 - c) * x
        return x @ weights["CNN_proj/W_proj"] + weights["CNN_proj/b_proj"]

    state = {(d, k): (np.zeros(6), np.zeros(12)) for d in (0, 1) for k in (0, 1)}
    for words in sentences:
        x = [vector(row) for row in character_ids(["<S>", *words, "</S>"])]
        found = [[np.concatenate([v, v]) for v in x]]
        read = {0: x, 1: x[::-1]}
        for k in (0, 1):
            for d in (0, 1):
                cell = f"RNN_{d}/RNN/MultiRNNCell/Cell{k}/LSTMCell"
                h, c = state[d, k]
                outputs = []
                for v in read[d]:
                    total = np.concatenate([v, h]) @ weights[f"{cell}/W_0"] + weights[f"{cell}/B"]
                    i, j, f, o = np.split(total, 4)
                    c = np.clip(sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j), -0.5, 0.5)
                    h = np.clip(sigmoid(o) * np.tanh(c) @ weights[f"{cell}/W_P_0"], -0.3, 0.3)
                    outputs.append(h + v if k else h)
                state[d, k], read[d] = (h, c), outputs
            both = zip(read[0], read[1][::-1], strict=True)
            found.append([np.concatenate(pair) for pair in both])
        yield [np.array(layer[1:-1], dtype=np.float32) for layer in found]


@pytest.fixture
def official():
    """A weight file of the official kind with random numbers, as a mapping."""
    shapes = {"char_embed": (261, 3), "CNN_proj/W_proj": (9, 6), "CNN_proj/b_proj": (6,)}
    for k, (width, count) in enumerate([(1, 4), (3, 5)]):
        shapes |= {f"CNN/W_cnn_{k}": (1, width, 3, count), f"CNN/b_cnn_{k}": (count,)}
        for gate in ("carry", "transform"):
            shapes |= {f"CNN_high_{k}/W_{gate}": (9, 9), f"CNN_high_{k}/b_{gate}": (9,)}
        for d in (0, 1):
            cell = f"RNN_{d}/RNN/MultiRNNCell/Cell{k}/LSTMCell"
            shapes |= {f"{cell}/W_0": (12, 48), f"{cell}/B": (48,), f"{cell}/W_P_0": (12, 6)}
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()}


def loaded(folder, options, arrays):
    """An ELMo by a pair of files of the official kind."""
    with h5py.File(folder / "weights.hdf5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    (folder / "options.json").write_text(json.dumps(options))
    return Elmo.load(folder / "options.json", folder / "weights.hdf5")


@torch.no_grad()
def test_official_weights_give_what_the_original_arithmetic_gives(official, tmp_path):
    model, state = loaded(tmp_path, OPTIONS, official), None
    assert not model.training
    for words, expected in zip(SENTENCES, original(official, SENTENCES), strict=True):
        layers, state = model(*batch([words], 50), state)
        for found, wanted in zip(layers, expected, strict=True):
            torch.testing.assert_close(found[0], torch.from_numpy(wanted), **CLOSE)
        assert any(np.isclose(np.abs(layer), 0.3).any() for layer in expected[1:2])  # it clips


@torch.no_grad()
def test_the_outputs_of_the_original_implementation_with_its_state_carried():
    if not FIXTURE.exists():
        pytest.skip(f"{FIXTURE} is not there")
    model = Elmo.load(FIXTURE / "options.json", FIXTURE / "lm_weights.hdf5")
    rows = json.loads((FIXTURE / "sentences.json").read_text())
    state = None
    with h5py.File(FIXTURE / "lm_embeddings_0.hdf5") as file:
        for k in range(10):
            inputs = batch([row[k].split() for row in rows], 50)
            expected = torch.from_numpy(np.concatenate(file[str(k)][()], axis=1))
            layers, state = model(*inputs, state)
            torch.testing.assert_close(layers[-1][0, : len(expected)], expected, **CLOSE)
            fresh = model(*inputs)[0][-1][0, : len(expected)]
            assert torch.allclose(fresh, expected, **CLOSE) == (k == 0)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("CNN_proj/W_proj", lambda _: None, "not fit its options: 'CNN_proj/W_proj' is missing"),
        ("char_embed", lambda a: a[:-1], r"embedding.weight is \(261, 3\).* be \(262, 3\)"),
        (
            "RNN_2/more",
            lambda _: np.zeros(1),
            r"hdf5: RNN_2/more is \(1,\), but should be left",
        ),
    ],
)
def test_other_weights_are_refused(official, name, change, message, tmp_path):
    changed = {**official, name: change(official.get(name))}
    with pytest.raises(ValueError, match=message):
        loaded(tmp_path, OPTIONS, {n: array for n, array in changed.items() if array is not None})


def test_other_options_are_refused(official, tmp_path):
    tanh = {**OPTIONS["char_cnn"], "activation": "tanh"}
    for options, message in (
        (
            {"lstm": OPTIONS["lstm"]},
            r"options\.json does not describe an ELMo: 'char_cnn' is missing",
        ),
        ({**OPTIONS, "char_cnn": tanh}, r"\('tanh', 262\) in it is not relu on 262 characters"),
        ({**OPTIONS, "lstm": 3}, r"options\.json does not describe an ELMo"),
    ):
        with pytest.raises(ValueError, match=message):
            loaded(tmp_path, options, official)


# --- sentences ------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_padded_batch_gives_what_its_sentences_give_alone(model):
    before = model(*batch(SENTENCES))[1]
    layers, state = model(*batch(SENTENCES), before)
    for row, words in enumerate(SENTENCES):
        own = [tuple(part[:, row : row + 1] for part in layer) for layer in before]
        alone, after = model(*batch([words]), own)
        for found, wanted in zip(layers, alone, strict=True):
            torch.testing.assert_close(found[row, : len(words)], wanted[0], **CLOSE)
            assert not found[row, len(words) :].any()
        for found, wanted in zip(sum(state, ()), sum(after, ()), strict=True):
            torch.testing.assert_close(found[:, row], wanted[:, 0], **CLOSE)


@torch.no_grad()
def test_the_directions_stay_apart(model):
    """A change in the middle is seen after it forwards, before it backwards, and nowhere else."""
    (ids, mask), size = batch([WORDS[2:]]), SMALL.projection
    model.double()  # so that rounding is far below any effect
    other = ids.clone()
    other[0, 4] = ids[0, 7]
    for depth, (a, b) in enumerate(zip(model(ids, mask)[0], model(other, mask)[0], strict=True)):
        changed = [((a - b)[0, :, part].abs() > 1e-12).any(1).tolist()
                   for part in (slice(size), slice(size, None))]  # fmt: skip
        if depth == 0:
            assert changed == [[t == 4 for t in range(10)]] * 2
            assert torch.equal(a[..., :size], a[..., size:])
        else:
            assert changed == [[t >= 4 for t in range(10)], [t <= 4 for t in range(10)]]


@torch.no_grad()
def test_the_forward_direction_over_two_halves_is_that_over_the_whole(model):
    words = torch.randn(2, 8, 3, SMALL.projection, generator=torch.Generator().manual_seed(0))
    whole, end = model.run(words)
    first, state = model.run(words[:, :3])
    second, state = model.run(words[:, 3:], state)
    for a, b, wanted in zip(first, second, whole, strict=True):
        torch.testing.assert_close(torch.cat([a[0], b[0]]), wanted[0], **CLOSE)
    torch.testing.assert_close(state, end, **CLOSE)


@torch.no_grad()
def test_an_empty_sentence_has_no_layers_and_keeps_its_state(model):
    ids, mask = batch([*SENTENCES, []])
    before = model(*batch([*SENTENCES, ["hm"]]))[1]
    layers, after = model(ids, mask, before)
    assert not any(layer[-1].any() for layer in layers)
    for old, new in zip(sum(before, ()), sum(after, ()), strict=True):
        assert torch.equal(old[:, -1], new[:, -1])
    layers, _ = model(*batch([[]]))
    assert [layer.shape for layer in layers] == [(1, 0, 2 * SMALL.projection)] * 3


@torch.no_grad()
def test_odd_and_long_sentences_pass(model):
    odd = ["🙂🙂🙂🙂", "שלום", "مرحبا", "x" * 500, "", "\ud800", "\x00"]
    long = [f"word{i % 700}" for i in range(10_000)]
    for words in (odd, long):
        layers, _ = model(*batch([words]))
        assert all(
            layer.shape == (1, len(words), 12) and layer.isfinite().all() for layer in layers
        )


@torch.no_grad()
def test_words_are_computed_once_each_and_in_chunks(model, monkeypatch):
    ids, _ = batch([["a", "b", "a", "c", "b", "a", "d"]])
    expected, seen = model.characters(ids[0]), []
    model.characters.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr(elmo, "CHUNK", 3)
    torch.testing.assert_close(model.embed(ids)[0], expected, **CLOSE)
    assert seen == [3, 1]


def test_padding_before_words_is_refused(model):
    ids, mask = batch(SENTENCES)
    with pytest.raises(ValueError, match="padding must come after"):
        model(ids, mask.flip(1))
    assert torch.equal(model(ids, mask.bool())[0][-1], model(ids, mask)[0][-1])


def test_inputs_are_not_changed(model):
    ids, mask = batch(SENTENCES)
    copies = ids.clone(), mask.clone()
    model(ids, mask)
    assert torch.equal(ids, copies[0])
    assert torch.equal(mask, copies[1])


# --- language model -------------------------------------------------------------------------------


def windows(*shape, seed=0):
    return torch.randint(len(WORDS), shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_no_word_is_guessed_from_itself_and_each_neighbour_counts(lm):
    tokens = torch.arange(2, 9)[None]  # seven different words
    before, _ = lm.double().contexts(tokens)  # so that rounding is far below any effect
    assert before.shape == (2, 1, 5, SMALL.projection)
    for place in range(7):
        other = tokens.clone()
        other[0, place] = 11
        changed = ((lm.contexts(other)[0] - before).abs() > 1e-12).any(3)[:, 0].tolist()
        guessed = range(1, 6)
        assert changed[0] == [place < t for t in guessed]
        assert changed[1] == [place > t for t in guessed]


@torch.no_grad()
def test_the_loss_is_the_mean_surprise_of_both_directions(lm):
    tokens = windows(3, 9)
    contexts, _ = lm.contexts(tokens)
    wanted = tokens[:, 1:-1].clone()
    assert (wanted >= 7).any()
    wanted[wanted >= 7] = 1  # outside the softmax: the unknown word
    scores = lm.softmax(contexts).log_softmax(3)
    picked = scores.gather(3, wanted.expand(2, 3, 7)[..., None])
    loss, nll, _ = lm.loss(tokens)
    torch.testing.assert_close(loss, -picked.mean(), **CLOSE)
    assert torch.equal(loss, nll)


@pytest.mark.parametrize("scores", [1000, 35])
def test_chunks_of_the_softmax_change_neither_loss_nor_gradients(lm, monkeypatch, scores):
    monkeypatch.setattr(softmax, "SCORES", scores)  # of 42 positions and 7 words each
    loss, nll, _ = lm.loss(windows(3, 9))
    found = torch.autograd.grad(3 * loss, lm.parameters())
    assert not nll.requires_grad
    wanted = windows(3, 9)[:, 1:-1].expand(2, 3, 7).flatten()
    scores = lm.softmax(lm.contexts(windows(3, 9))[0]).flatten(0, 2)
    plain = nn.functional.cross_entropy(scores, wanted.where(wanted < 7, 1))
    expected = torch.autograd.grad(3 * plain, lm.parameters())
    assert all(gradient.any() for gradient in expected)
    torch.testing.assert_close([loss, *found], [plain, *expected], **CLOSE)


@torch.no_grad()
def test_windows_share_two_words_and_carry_the_forward_state_alone(lm):
    tokens = windows(2, 12)
    whole, _ = lm.contexts(tokens)
    _, _, state = lm.loss(tokens[:, :7])
    second, _ = lm.contexts(tokens[:, 5:], state)
    torch.testing.assert_close(second[0], whole[0, :, 5:], **CLOSE)
    torch.testing.assert_close(second[1], whole[1, :, 5:], **CLOSE)
    assert all(part[0].any() and not part[1].any() for layer in state for part in layer)


def test_the_carried_state_has_no_gradient(lm):
    assert not any(part.requires_grad for part in sum(lm.loss(windows(2, 6))[2], ()))


@torch.no_grad()
def test_dropout_acts_on_what_each_layer_reads_and_on_what_the_softmax_sees():
    lm = shaken(BidirectionalLM(replace(SMALL, dropout=1.0), WORDS, 7)).train()
    first, second = (lm.elmo(*batch([words]))[0] for words in (["the", "bank"], ["a", "river"]))
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(first[2], second[2])
    assert not lm.contexts(windows(2, 6))[0].any()
    lm.eval()
    assert lm.contexts(windows(2, 6))[0].all()


def test_a_step_of_training_follows_the_seed_and_the_loss_falls():
    def train(seed, steps):
        torch.manual_seed(seed)
        lm = BidirectionalLM(replace(SMALL, dropout=0.3), WORDS, 7).train()
        optimizer, losses, state = torch.optim.Adam(lm.parameters(), 0.02), [], None
        for _ in range(steps):
            loss, _, state = lm.loss(windows(4, 10), state)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    with torch.random.fork_rng():
        first, again, other = train(0, 2), train(0, 2), train(1, 2)
        assert first == again
        assert first != other
        losses = train(0, 60)
    assert losses[-1] < 0.7 * losses[0]


def test_the_vector_that_stands_for_no_character_stays_zero(lm):
    lm = BidirectionalLM(SMALL, WORDS, 7)
    optimizer = torch.optim.AdamW(lm.parameters(), 0.1)
    lm.loss(windows(2, 6))[0].backward()
    optimizer.step()
    assert not lm.elmo.characters.embedding.weight[0].any()


def test_evaluation_works_without_gradients(lm):
    expected = lm.loss(windows(2, 6))[1]
    with torch.inference_mode():
        assert torch.equal(lm.loss(windows(2, 6))[1], expected)


# --- checkpoints ----------------------------------------------------------------------------------


@torch.no_grad()
def test_a_checkpoint_comes_back_in_half_precision_without_the_softmax(lm, tmp_path):
    stem = tmp_path / "new" / "elmo-0.5"  # a name with a dot in it
    lm.save(stem, {"corpus": "news", "seconds": 3})
    elmo, about = Elmo.from_checkpoint(stem)
    assert not elmo.training
    assert elmo.config == lm.elmo.config == SMALL
    weights = load_file(f"{stem}.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert not any("softmax" in name for name in weights)
    assert elmo.state_dict().keys() == lm.elmo.state_dict().keys()
    for name, tensor in elmo.state_dict().items():
        assert torch.equal(tensor, lm.elmo.state_dict()[name].half().float())
    found = checkpoints.read(stem, "elmo")
    assert found.vocabulary.words == WORDS[:7]
    assert about == found.about == {"corpus": "news", "seconds": 3}
    layers, _ = elmo(*batch(SENTENCES))
    expected, _ = lm.eval().elmo(*batch(SENTENCES))
    torch.testing.assert_close(layers, expected, atol=1e-2, rtol=0)


def test_other_kinds_sizes_and_descriptions_are_refused(lm, tmp_path):
    file = tmp_path / "lm.safetensors"

    def refused(message, **changes):
        lm.save(file, {})
        change_facts(file, **changes)
        with pytest.raises(ValueError, match=message):
            Elmo.from_checkpoint(file)

    refused("of kind 'awd_lstm', not 'elmo'", kind="awd_lstm")
    refused(
        "not describe a model of kind 'elmo': .*'n_heads'",
        configuration={**asdict(SMALL), "n_heads": 2},
    )
    refused("not describe a model of kind 'elmo'", configuration={**asdict(SMALL), "filters": 3})
    refused(r"layers\.0\.bias is \(2, 48\), but should be \(2, 64\)",
            configuration={**asdict(SMALL), "dim": 16})  # fmt: skip
    refused(r"but should be \(2, 4000000000000\)",  # before any memory is taken
            configuration={**asdict(SMALL), "dim": 10**12})  # fmt: skip
    refused(
        r"layers\.2\.bias is missing, but should be \(2, 48\)",
        configuration={**asdict(SMALL), "n_layers": 3},
    )
    refused(r"layers\.1\.bias is \(2, 48\), but should be left out",
            configuration={**asdict(SMALL), "n_layers": 1})  # fmt: skip
    refused("not describe a model of kind 'elmo'", about=None)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"[" * 5000, None])
def test_damaged_official_files_are_refused_by_name(official, content, tmp_path):
    options, weights = tmp_path / "options.json", tmp_path / "weights.hdf5"
    loaded(tmp_path, OPTIONS, official)
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=r"weights\.hdf5 is no readable HDF5"):
        Elmo.load(options, weights)
    if content is not None:
        options.write_bytes(content)
        with pytest.raises(ValueError, match=r"options\.json does not describe an ELMo"):
            Elmo.load(options, weights)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("CNN/W_cnn_0", np.zeros(())), ("CNN/W_cnn_0", np.zeros((1, 2))),
        ("char_embed", np.zeros((261, 3), int)), ("char_embed", np.full((261, 3), np.nan)),
        ("CNN_proj/b_proj", np.full(6, np.inf)), ("CNN_proj/W_proj", np.zeros((2, 3, 4))),
        ("RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell/W_0", np.zeros((5, 48))),
    ],
)  # fmt: skip
def test_official_arrays_of_another_shape_or_kind_are_refused(official, name, array, tmp_path):
    with pytest.raises(ValueError, match=r"weights\.hdf5( does not fit its options)?: "):
        loaded(tmp_path, OPTIONS, {**official, name: array})

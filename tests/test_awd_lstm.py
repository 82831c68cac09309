"""AWD-LSTM against plain LSTMs and autograd to 1e-5; its dropouts; pooling; checkpoints."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_checkpoints import change_facts, change_weights
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import training
from helpers.models import fastai, softmax
from helpers.models.awd_lstm import (
    ALPHA,
    BETA,
    DROPOUTS,
    AWDLSTMConfig,
    Classifier,
    LanguageModel,
    WeightDropLSTM,
    variational_dropout,
)
from helpers.text import PAD, UNKNOWN, Encoded, Vocabulary
from helpers.training.precision import autocast
from helpers.training.transfer import count_parameters, layer_groups

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SMALL = AWDLSTMConfig(n_words=30, embedding=6, hidden=10)


def language_model(config=SMALL, multiplier=1.0, seed=0):
    torch.manual_seed(seed)
    model = LanguageModel(replace(config, multiplier=multiplier))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model


def tokens(n=4, length=9, n_words=30, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, n_words, (n, length), generator=generator)


def plain_lstms(model):
    """PyTorch's LSTM layers with the model's weights."""
    layers = []
    for ours in model.encoder.layers:
        theirs = nn.LSTM(ours.weight_ih.size(1), ours.weight_hh.size(1), batch_first=True)
        theirs.load_state_dict({f"{name}_l0": w for name, w in ours.state_dict().items()})
        layers.append(theirs)
    return layers


def plain_forward(embedding, layers, ids, states=None):
    x, after = F.embedding(ids, embedding, 0), []
    for i, layer in enumerate(layers):
        x, state = layer(x, states and states[i])
        after.append(state)
    return x, after


# --- encoder and language model -------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_in_evaluation_it_is_a_stack_of_lstms(layers):
    model, ids = language_model(replace(SMALL, layers=layers)).eval(), tokens()
    stack, weight = plain_lstms(model), model.encoder.embedding.weight
    expected, state = plain_forward(weight, stack, ids)
    found, after = model.encoder(ids)
    torch.testing.assert_close(found, expected, **CLOSE)
    torch.testing.assert_close(after, state, **CLOSE)
    scores, _ = model(ids)
    torch.testing.assert_close(scores, F.linear(expected, weight, model.decoder.bias), **CLOSE)


def test_loss_and_gradients_are_those_of_plain_lstms_and_cross_entropy(monkeypatch):
    """With no dropout: the regularised loss, and each parameter's gradient, at the second window of
    a text with padding among the targets."""
    model, words = language_model(multiplier=0.0), tokens(length=17)
    words[0, 12:], words[2, 10] = 0, 0
    first, second = words[:, :9], words[:, 8:]
    stack, bias = plain_lstms(model), model.decoder.bias.detach().clone().requires_grad_()
    weight = model.encoder.embedding.weight.detach().clone().requires_grad_()
    _, state = plain_forward(weight, stack, first[:, :-1])
    state = [tuple(part.detach() for part in pair) for pair in state]
    out, _ = plain_forward(weight, stack, second[:, :-1], state)
    nats = F.cross_entropy(F.linear(out, weight, bias).flatten(0, 1), second[:, 1:].flatten(),
                           ignore_index=0)  # fmt: skip
    expected = nats + 2 * (out**2).mean() + ((out[:, 1:] - out[:, :-1]) ** 2).mean()
    expected.backward()

    monkeypatch.setattr(softmax, "SCORES", 7 * 30)  # several chunks, the last one shorter
    _, _, carried = model.loss(first)
    loss, found, _ = model.loss(second, carried)
    loss.backward()
    torch.testing.assert_close(loss, expected, **CLOSE)
    torch.testing.assert_close(found, nats.detach(), **CLOSE)
    pairs = [(model.encoder.embedding.weight, weight), (model.decoder.bias, bias)]
    for ours, theirs in zip(model.encoder.layers, stack, strict=True):
        pairs += [(p, getattr(theirs, f"{name}_l0")) for name, p in ours.named_parameters()]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-5)


def test_a_text_read_in_two_windows_is_one_text_and_the_state_is_detached():
    model, ids = language_model().eval(), tokens(length=12)
    whole, _ = model(ids)
    first, state = model(ids[:, :7])
    second, _ = model(ids[:, 7:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, **CLOSE)
    assert not any(part.requires_grad for pair in state for part in pair)


def test_a_state_from_outside_is_read_and_not_changed():
    model, ids = language_model().eval(), tokens()
    _, state = model(ids)
    before = [tuple(part.clone() for part in pair) for pair in state]
    model(ids, state)
    torch.testing.assert_close(state, before, atol=0, rtol=0)


class SeenLSTM(TorchFunctionMode):
    """Keeps the weights that each call of `torch.lstm` gets."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.lstm:
            self.weights.append([w.detach().clone() for w in args[2]])
        return function(*args, **(kwargs or {}))


def test_weight_drop_drops_the_recurrent_matrix_alone_and_the_raw_one_is_trained():
    torch.manual_seed(0)
    layer, x = WeightDropLSTM(5, 40, dropout=0.5), torch.randn(2, 3, 5)
    state = torch.zeros(1, 2, 40), torch.zeros(1, 2, 40)
    raw = layer.weight_hh.detach().clone()
    with SeenLSTM() as seen:
        out, _ = layer(x, state)
        layer(x, state)
        layer.eval()(x, state)
    for used, own in zip(seen.weights[0], layer.parameters(), strict=True):
        assert torch.equal(used, own) == (own is not layer.weight_hh)
    first, second, evaluated = (weights[1] for weights in seen.weights)
    kept = first != 0
    assert 0.45 < kept.float().mean() < 0.55
    torch.testing.assert_close(first[kept], 2 * raw[kept])
    assert not torch.equal(kept, second != 0)  # each window draws anew
    assert torch.equal(evaluated, raw)
    out.sum().backward()
    assert torch.equal(layer.weight_hh, raw)
    assert torch.equal(layer.weight_hh.grad != 0, kept & (layer.weight_hh.grad != 0))
    assert layer.weight_hh.grad.any()


def test_embedding_dropout_drops_whole_words_and_keeps_their_mean():
    config = replace(SMALL, n_words=4000, embedding_dropout=0.3)
    model, ids = language_model(config), torch.arange(4000).repeat(2, 2)  # each word four times
    vectors = model.encoder.embed(ids)
    dropped = (vectors == 0).all(2)
    assert torch.equal(dropped, (vectors == 0).any(2))
    assert torch.equal(dropped, dropped[0, :4000].repeat(2, 2))
    assert abs(dropped.float().mean() - 0.3) < 0.03
    kept = model.encoder.embedding.weight[ids][~dropped] / 0.7
    torch.testing.assert_close(vectors[~dropped], kept)
    assert torch.equal(model.eval().encoder.embed(ids), model.encoder.embedding(ids))


@pytest.mark.parametrize("size", [(8, 20, 500), (70, 2, 400)])
def test_variational_dropout_has_one_mask_for_each_sequence(size):
    torch.manual_seed(0)
    x = torch.rand(size) + 1
    found = variational_dropout(x, 0.4, training=True)
    mask = found / x
    torch.testing.assert_close(mask, mask[:, :1].expand_as(mask))
    assert not torch.equal(mask[0, 0] == 0, mask[1, 0] == 0)
    assert abs((mask == 0).float().mean() - 0.4) < 0.03
    torch.testing.assert_close(mask.max().item(), 1 / 0.6, rtol=1e-4, atol=0)
    assert variational_dropout(x, 0.4, training=False) is x


def test_each_dropout_acts_at_its_place_with_its_share():
    model, ids = language_model(multiplier=0.5), tokens(4, 9)
    config, seen = model.config, []

    class Seen(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is F.dropout:
                seen.append((tuple(args[0].shape), kwargs["p"]))
            return function(*args, **(kwargs or {}))

    with Seen():
        model.loss(ids)
    p = {name: config.dropout(name) for name in DROPOUTS}
    assert seen == [
        ((30, 1), p["embedding"]), ((4, 1, 6), p["input"]), ((40, 10), p["weight"]),
        ((4, 1, 10), p["hidden"]), ((40, 10), p["weight"]),
        ((4, 1, 10), p["hidden"]), ((24, 6), p["weight"]), ((4, 1, 6), p["output"]),
    ]  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_with_every_regulariser_on_is_the_same_to_the_bit_under_a_seed(precision):
    found = []
    for seed in (5, 5, 6):
        model = language_model(AWDLSTMConfig(60, 24, 40))
        torch.manual_seed(seed)
        with autocast(precision, "cpu"):
            loss, _, _ = model.loss(tokens(8, 21, n_words=60))
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_activation_regularisation_by_hand(monkeypatch):
    """alpha times the mean square of dropped outputs, beta times that of the raw ones' changes."""
    model = language_model()
    raw = torch.randn(2, 3, 6)
    monkeypatch.setattr(model.encoder, "forward", lambda ids, state=None: (raw, None))
    seen = []
    drop = model._drop
    monkeypatch.setattr(model, "_drop", lambda x: seen.append(drop(x)) or seen[-1])
    loss, nats, _ = model.loss(tokens(2, 4))
    changes = [(raw[b, t + 1, k] - raw[b, t, k]) ** 2
               for b in range(2) for t in range(2) for k in range(6)]  # fmt: skip
    wanted = nats + ALPHA * (seen[0] ** 2).sum() / 36 + BETA * sum(changes) / 24
    torch.testing.assert_close(loss, wanted, **CLOSE)
    assert (ALPHA, BETA) == (2, 1)
    assert (seen[0] == 0).any()
    loss, nats, _ = model.eval().loss(tokens(2, 4))
    assert loss == nats
    model.train()
    raw = raw[:, :1]
    assert torch.isfinite(model.loss(tokens(2, 2))[0])  # one word: nothing changes


def test_the_matrix_that_embeds_also_scores_and_counts_once():
    model = language_model()
    assert model.decoder.weight is model.encoder.embedding.weight
    sizes = 30 * 6 + 30 + sum(4 * n * (i + n + 2) for i, n in ((6, 10), (10, 10), (10, 6)))
    assert count_parameters(model) == (sizes, sizes)
    model.loss(tokens())[0].backward()
    unseen = model.encoder.embedding.weight.grad[0]  # padding is never read, but could be guessed
    assert unseen.any()


@pytest.mark.parametrize("make", [LanguageModel, lambda config: Classifier(config, 3)])
def test_layer_groups_go_from_the_input_up_and_share_out_all_parameters(make):
    model = make(SMALL)
    groups = layer_groups(model)
    assert list(groups) == ["embeddings", "LSTM 1", "LSTM 2", "LSTM 3", "head"]
    shared_out = [id(p) for group in groups.values() for p in group]
    assert len(shared_out) == len(set(shared_out))
    assert set(shared_out) == {id(p) for p in model.parameters()}
    assert groups["embeddings"] == [model.encoder.embedding.weight]


def test_one_multiplier_scales_all_dropouts_and_the_classifier_has_its_own():
    config = replace(AWDLSTMConfig(9), multiplier=0.5)
    found = [config.dropout(name) for name in DROPOUTS]
    assert found == pytest.approx([0.05, 0.075, 0.125, 0.01, 0.1])
    found = [config.for_classifier().dropout(name) for name in DROPOUTS]
    assert found == pytest.approx([0.2, 0.15, 0.2, 0.025, 0.25])
    assert (config.embedding, config.hidden, config.layers, config.pad_id) == (400, 1152, 3, 0)


# --- softmax in chunks ----------------------------------------------------------------------------


def pieces(n, size, n_words, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = (n, size), (n_words, size), (n_words,)
    made = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    targets = torch.randint(0, n_words, (n,), generator=generator)
    return [tensor.requires_grad_() for tensor in made], targets


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(2, 12), st.integers(1, 100), st.integers(0, 99))
def test_the_softmax_in_chunks_is_cross_entropy_whatever_the_chunk(n, n_words, scores, seed):
    inputs, targets = pieces(n, 3, n_words, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(softmax, "SCORES", scores)
        found = softmax.softmax_cross_entropy(*inputs, targets)
        gradients = torch.autograd.grad(3 * found, inputs)
    if not targets.any():
        assert found == 0
        assert not any(gradient.any() for gradient in gradients)
        return
    expected = F.cross_entropy(F.linear(*inputs), targets, ignore_index=0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad(3 * expected, inputs))


def test_the_softmax_in_chunks_computes_the_gradients_that_are_wanted():
    inputs, targets = pieces(9, 4, 7, seed=0)
    inputs[1].requires_grad_(False)
    found = torch.autograd.grad(softmax.softmax_cross_entropy(*inputs, targets), inputs[::2])
    whole = F.cross_entropy(F.linear(*inputs), targets, ignore_index=0)
    torch.testing.assert_close(found, torch.autograd.grad(whole, inputs[::2]))
    with torch.no_grad():
        torch.testing.assert_close(softmax.softmax_cross_entropy(*inputs, targets), whole)


def test_large_scores_do_not_overflow():
    hidden, weight = torch.tensor([[300.0]]), torch.tensor([[-1.0], [1.0], [0.5]])
    found = softmax.softmax_cross_entropy(hidden, weight, torch.zeros(3), torch.tensor([2]))
    assert found.item() == pytest.approx(150.0)


class Largest(TorchDispatchMode):
    """The most numbers in a tensor that an operation made."""

    found = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.found = max(self.found, tensor.untyped_storage().nbytes() // 4)
        return made


def test_the_scores_of_all_words_at_all_positions_never_exist(monkeypatch):
    inputs, targets = pieces(1000, 4, 200, seed=0, dtype=torch.float32)
    monkeypatch.setattr(softmax, "SCORES", 3000)
    with Largest() as largest:
        softmax.softmax_cross_entropy(*inputs, targets).backward()
    assert largest.found <= 4000  # the hidden states; all scores are 200,000
    with Largest() as largest:
        F.cross_entropy(F.linear(*inputs), targets).backward()
    assert largest.found >= 200_000


# --- classifier -----------------------------------------------------------------------------------

LENGTHS = (23, 7, 1, 8, 14, 21)


def texts(lengths=LENGTHS, seed=3):
    words = tokens(1, max(lengths) * len(lengths), seed=seed).view(len(lengths), -1)
    mask = (torch.arange(words.size(1)) < torch.tensor(lengths)[:, None]).long()
    return words * mask, mask


def classifier(seed=0, **options):
    model = language_model(seed=seed)
    made = Classifier.from_language_model(model, 3, **{"window": 7, **options})
    with torch.no_grad():
        for norm in (made.head[0], made.head[4]):  # as after some training
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return made


def test_pooling_by_hand_over_the_real_words_of_each_text():
    model, (ids, mask) = classifier().eval(), texts()
    found = model.features(ids, mask)
    for row, n in enumerate(LENGTHS):
        out = model.encoder(ids[row : row + 1, :n])[0][0]
        expected = torch.cat([out[-1], out.amax(0), out.mean(0)])
        torch.testing.assert_close(found[row], expected, **CLOSE)
    last = classifier(pooling="last").eval().features(ids, mask)
    torch.testing.assert_close(last, found[:, :6], **CLOSE)
    with pytest.raises(ValueError, match="concat or last"):
        Classifier(SMALL, 2, pooling="mean")


@pytest.mark.parametrize("training", [False, True])
def test_padding_and_batch_mates_change_neither_a_texts_scores_nor_its_gradients(training):
    """In training without dropout, but with the gradient cut at each text's last two windows."""
    model, (ids, mask) = classifier(max_length=14, config=replace(SMALL, multiplier=0)), texts()
    model.encoder.train(training)
    model.head.eval()
    together = model(F.pad(ids, (0, 11)), F.pad(mask, (0, 11)))
    for row, n in enumerate(LENGTHS):
        alone = model(ids[row : row + 1, :n], mask[row : row + 1, :n])
        torch.testing.assert_close(together[row : row + 1], alone, **CLOSE)
        weights = list(model.encoder.parameters())
        of_batch = torch.autograd.grad(together[row].sum(), weights, retain_graph=True)
        torch.testing.assert_close(of_batch, torch.autograd.grad(alone.sum(), weights), **CLOSE)


def test_gradients_flow_through_the_last_words_only_and_not_between_windows():
    model, (ids, mask) = classifier(max_length=14).eval(), texts((23,))
    weight = model.encoder.embedding.weight
    (gradient,) = torch.autograd.grad(model.features(ids, mask).sum(), weight)
    state, outs = None, []
    for begin in (0, 7, 14, 21):
        with torch.set_grad_enabled(begin >= 14):
            out, state = model.encoder(ids[:, begin : begin + 7], state)
        outs.append(out)
    out = torch.cat(outs, 1)[0]
    pooled = out[-1].sum() + out.amax(0).sum() + out.mean(0).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(pooled, weight)[0], **CLOSE)
    early = sorted(set(ids[0, :14].tolist()) - set(ids[0, 14:].tolist()))
    assert early
    assert not gradient[early].any()


def test_a_text_of_ten_thousand_words_needs_the_memory_of_its_last_windows(monkeypatch):
    model, (ids, mask) = classifier(window=70, max_length=140), texts((10_000, 10_000))
    tracked, forward = [], model.encoder.forward

    def watched(*inputs):
        tracked.append(torch.is_grad_enabled())
        return forward(*inputs)

    monkeypatch.setattr(model.encoder, "forward", watched)
    model(ids, mask).sum().backward()
    assert len(tracked) == 143
    assert tracked[-3:] == [False, True, True]
    assert not any(tracked[:-2])
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("row", [[5], [1], [1, 1, 1, 1], [0]])
def test_one_word_unknown_words_and_no_word_at_all_have_scores(row):
    model, ids = classifier().eval(), torch.tensor([row])
    assert model(ids, (ids > 0).long()).isfinite().all()
    scores, _ = language_model().eval()(ids)
    assert scores.isfinite().all()


def test_a_batch_of_one_text_can_be_trained_on():
    model, (ids, mask) = classifier(), texts((5,))
    before = model.head[0].running_mean.clone()
    model(ids, mask).sum().backward()
    assert model.head[-1].weight.grad.any()
    assert torch.equal(model.head[0].running_mean, before)  # one text says nothing of the spread


def test_the_head_is_that_of_fastai():
    head = Classifier(AWDLSTMConfig(9).for_classifier(), 4).head
    kinds = [nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Dropout, nn.Linear]
    assert all(isinstance(part, kind) for part, kind in zip(head, kinds, strict=True))
    assert (head[2].in_features, head[2].out_features, head[6].out_features) == (1200, 50, 4)
    assert (head[1].p, head[5].p) == (0.2, 0.1)


def test_padding_before_words_is_refused():
    with pytest.raises(ValueError, match="padding must stand behind"):
        classifier()(torch.ones(1, 3, dtype=torch.long), torch.tensor([[0, 1, 1]]))
    read = classifier().eval()
    ids, mask = torch.ones(1, 3, dtype=torch.long), torch.tensor([[1, 1, 0]])
    assert torch.equal(read(ids, mask.bool()), read(ids, mask))


def test_a_classifier_starts_from_a_copy_of_the_language_model():
    model = language_model()
    before = model.encoder.embedding.weight.clone()
    made = Classifier.from_language_model(model, 2)
    for name, weight in made.encoder.state_dict().items():
        assert torch.equal(weight, model.encoder.state_dict()[name])
    with torch.no_grad():
        made.encoder.embedding.weight.zero_()
    assert torch.equal(model.encoder.embedding.weight, before)
    assert made.encoder.config.dropout("weight") == 0.25
    with pytest.raises(RuntimeError, match=r"size mismatch for embedding\.weight"):
        Classifier.from_language_model(model, 2, config=replace(SMALL, n_words=31))


def test_the_classifier_learns_in_the_loop_of_the_series_and_equal_seeds_give_equal_bits():
    rng, found = np.random.default_rng(0), []
    labels = rng.integers(0, 2, 65)  # the last batch is a single text
    ids = [np.append(rng.integers(2, 28, rng.integers(1, 20)), 28 + label) for label in labels]
    data = Encoded(ids, labels)
    for _ in range(2):
        torch.manual_seed(0)
        model = Classifier(replace(SMALL, embedding=12).for_classifier(), 2, window=7)
        training.fit(model, data, epochs=20, batch_size=16, lr=0.02, progress=False)
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*found)
    scores = training.predict_logits(model, data)
    assert (scores.argmax(1) == labels).mean() > 0.9


# --- vocabulary and checkpoints -------------------------------------------------------------------


def vocabulary(n=30):
    return Vocabulary([PAD, UNKNOWN, *(f"w{i}" for i in range(2, n))])


def test_words_that_the_old_vocabulary_lacks_get_the_mean_row_and_the_mean_bias():
    model, old = language_model(), vocabulary().words
    new = [PAD, UNKNOWN, "neu", "w7", "w3", "noch"]
    found = model.with_vocabulary(old, new)
    rows, bias = model.encoder.embedding.weight, model.decoder.bias
    expected = torch.stack([rows[0], rows[1], rows.mean(0), rows[7], rows[3], rows.mean(0)])
    torch.testing.assert_close(found.encoder.embedding.weight, expected)
    wanted = torch.stack([bias[0], bias[1], bias.mean(), bias[7], bias[3], bias.mean()])
    torch.testing.assert_close(found.decoder.bias, wanted)
    assert found.decoder.weight is found.encoder.embedding.weight
    assert torch.equal(found.encoder.layers[1].weight_hh, model.encoder.layers[1].weight_hh)
    assert len(rows) == 30
    assert found.config == replace(model.config, n_words=6)
    assert torch.equal(model.with_vocabulary(old[:-1], new).decoder.bias, found.decoder.bias)


def test_a_checkpoint_of_our_own_comes_back_in_half_precision(tmp_path):
    model, about = language_model(), {"corpus": "none", "steps": 3, "validation_perplexity": 30.5}
    model.save(tmp_path / "made" / "lm", vocabulary(), about)
    found, words, told = LanguageModel.from_checkpoint(tmp_path / "made" / "lm")
    assert (words.words, told, found.config) == (vocabulary().words, about, model.config)
    for name, weight in found.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name].half().float())
    assert found.decoder.weight is found.encoder.embedding.weight
    assert not found.training
    weights = load_file(tmp_path / "made" / "lm.safetensors")  # the tied matrix is in it once
    assert sum(w.numel() for w in weights.values()) == count_parameters(model)[1]
    assert {w.dtype for w in weights.values()} == {torch.float16}
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["lm.safetensors"]


def test_a_checkpoint_of_another_kind_size_or_vocabulary_is_refused_by_name(tmp_path):
    file, model = tmp_path / "lm.safetensors", language_model()
    with pytest.raises(ValueError, match="29 words are not the model's 30"):
        model.save(file, vocabulary(29), {})
    facts = {"kind": "elmo"}, {"configuration": {"n_words": 30, "depth": 3}}
    facts += ({"configuration": {"n_words": "many"}}, {"configuration": {"n_words": -3}})
    facts += ({"vocabulary": ["a", "b"] * 15},)
    facts += ({"configuration": {"n_words": 30, "embedding": 6, "hidden": 11}},)
    said = ["kind 'elmo', not 'awd_lstm'", "does not describe .* 'awd_lstm'.*depth"]
    said += [r"lm\.safetensors: its sizes make no model"] * 2
    said += [r"lm\.safetensors.*starts with <pad>", r"bias_hh is \(40,\), but should be \(44,"]
    for changes, message in zip(facts, said, strict=True):
        model.save(file, vocabulary(), {})
        change_facts(file, **changes)
        with pytest.raises(ValueError, match=message):
            LanguageModel.from_checkpoint(file)
    for change, message in (
        ("pop", r"decoder.bias is missing, but should be \(30,\)"),
        ("add", r"more is \(1,\), but should be left out"),
    ):
        model.save(file, vocabulary(), {})
        more = {"more": torch.ones(1)} if change == "add" else {}
        change_weights(file, more, drop=() if more else ["decoder.bias"])
        with pytest.raises(ValueError, match=message):
            LanguageModel.from_checkpoint(file)


def test_reading_a_checkpoint_draws_as_many_random_numbers_as_making_the_model(tmp_path):
    language_model().save(tmp_path / "lm", vocabulary(), {})
    torch.manual_seed(0)
    LanguageModel(SMALL)
    expected = torch.rand(3)
    torch.manual_seed(0)
    LanguageModel.from_checkpoint(tmp_path / "lm")
    assert torch.equal(torch.rand(3), expected)  # so that what is trained after it stays the same


WORDS_2019 = ["xxunk", "xxpad", "xxbos", "the", "cat", "sat"]
WORDS_2018 = ["_unk_", "_pad_", "the", "cat", "sat", "on"]


def official(generation, seed=0):
    """A state dictionary as fastai wrote it in 2018 or 2019, sizes 4 -> 7 -> 7 -> 4."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(6, 4, generator=generator)
    copies = {2019: "0.encoder_dp.emb.weight", 2018: "0.encoder_with_dropout.embed.weight"}
    found = {"0.encoder.weight": table, copies[generation]: table.clone()}
    for i, (n_in, n_out) in enumerate(((4, 7), (7, 7), (7, 4))):
        module, raw = f"0.rnns.{i}.module.", f"0.rnns.{i}."
        recurrent = torch.randn(4 * n_out, n_out, generator=generator)
        found[(raw if generation == 2019 else module) + "weight_hh_l0_raw"] = recurrent
        found[module + "weight_ih_l0"] = torch.randn(4 * n_out, n_in, generator=generator)
        found[module + "bias_ih_l0"] = torch.randn(4 * n_out, generator=generator)
        found[module + "bias_hh_l0"] = torch.randn(4 * n_out, generator=generator)
        if generation == 2019:  # the last dropped copy
            found[module + "weight_hh_l0"] = F.dropout(recurrent, 0.5)
    found["1.decoder.weight"] = table.clone()
    if generation == 2019:
        found["1.decoder.bias"] = torch.randn(6, generator=generator)
    return found


def written(folder, weights, words):
    torch.save(weights, folder / "lm.pth")
    (folder / "itos.pkl").write_bytes(pickle.dumps(words))
    return folder / "lm.pth", folder / "itos.pkl"


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("generation", [2018, 2019])
def test_checkpoints_of_fastai_load_by_name(generation, wrapped, tmp_path):
    weights = official(generation)
    words = WORDS_2019 if generation == 2019 else WORDS_2018
    shuffled = dict(sorted(weights.items(), reverse=True))  # the order says nothing
    state = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    files = written(tmp_path, {"model": shuffled, "opt": state} if wrapped else shuffled, words)
    model, vocabulary = fastai.load(*files)
    assert vocabulary.words == [PAD, UNKNOWN, *words[2:]]
    assert vocabulary["cat"] == words.index("cat")
    assert not model.training
    assert (model.config.n_words, model.config.embedding, model.config.hidden) == (6, 4, 7)

    ids = torch.tensor([[3, 4, 0, 5, 2]])  # as their rows
    layers = [nn.LSTM(*pair, batch_first=True) for pair in ((4, 7), (7, 7), (7, 4))]
    for i, layer in enumerate(layers):
        for name, parameter in layer.named_parameters():
            place = f"0.rnns.{i}.module.{name}"
            if name == "weight_hh_l0":
                place = place.replace(".module" * (generation == 2019), "") + "_raw"
            parameter.data.copy_(weights[place])
    out, _ = plain_forward(weights["0.encoder.weight"], layers, ids)
    scores = F.linear(out, weights["0.encoder.weight"], weights.get("1.decoder.bias"))
    ours = torch.tensor([1, 0, *range(2, 6)])  # our row of each of theirs
    found, _ = model(ours[ids])
    torch.testing.assert_close(found[..., ours], scores, **CLOSE)


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("owned"),)


def test_pickles_that_name_code_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights, words = written(tmp_path, official(2019), [Evil()])
    with pytest.raises(ValueError, match="no pickled list of words: the list names pathlib"):
        fastai.load(weights, words)
    weights, words = written(tmp_path, {"0.encoder.weight": Evil()}, WORDS_2019)
    with pytest.raises(ValueError, match="damaged or holds more than tensors"):
        fastai.load(weights, words)
    assert not Path("owned").exists()


def test_damaged_weights_of_fastai_are_refused_without_the_advice_to_unpickle(tmp_path):
    file, words = written(tmp_path, official(2019), WORDS_2019)
    whole = file.read_bytes()
    contents = [b"", b"words", b"PK", whole[:100], whole[: len(whole) // 2], whole[:-10]]
    contents += [pickle.dumps({"a": 1}), pickle.dumps([1]), b"\x80\x02" + b"(" * 100, bytes(1000)]
    for content in contents:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"lm\.pth") as refused:
            fastai.load(file, words)
        assert "weights_only" not in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"words", pickle.dumps({"a": 1}), pickle.dumps(["a", 1])])
def test_what_is_no_list_of_words_is_refused(content, tmp_path):
    weights, words = written(tmp_path, official(2019), [])
    words.write_bytes(content)
    with pytest.raises(ValueError, match=r"itos\.pkl is no "):
        fastai.load(weights, words)


def test_official_files_that_do_not_fit_are_refused_by_name(tmp_path):
    def refused(message, words=WORDS_2019, **changes):
        weights = official(2019)
        for name, tensor in changes.items():
            weights[name] = tensor
        weights = {name: w for name, w in weights.items() if w is not None}
        with pytest.raises(ValueError, match=message):
            fastai.load(*written(tmp_path, weights, words))

    refused("the list has 5 words, the model 6", WORDS_2019[:5])
    refused("lm.pth with .*itos.pkl is no AWD-LSTM of fastai: '_pad_' is not", ["_unk_", *"abcde"])
    refused("'encoder.embedding.weight' is missing", **{"0.encoder.weight": None})
    refused("lm.pth: encoder.layers.1.bias_ih is missing", **{"0.rnns.1.module.bias_ih_l0": None})
    refused("lm.pth: encoder.layers.0.weight_hh is missing", **{"0.rnns.0.weight_hh_l0_raw": None})
    refused("another matrix", **{"1.decoder.weight": torch.ones(6, 4)})
    refused("is no AWD-LSTM of fastai", **{"0.encoder.weight": torch.ones(6)})
    refused("is no AWD-LSTM of fastai", **{"0.rnns.0.module.bias_ih_l0": torch.ones(())})
    refused("is no AWD-LSTM of fastai", **{"1.decoder.bias": torch.ones(())})
    refused(
        r"lm.pth: encoder.layers.1.bias_hh is \(\), but",
        **{"0.rnns.1.module.bias_hh_l0": torch.ones(())},
    )
    refused("finite numbers", **{"0.rnns.0.module.bias_ih_l0": torch.full((28,), torch.nan)})
    refused("finite numbers", **{"0.rnns.0.module.bias_hh_l0": torch.ones(28).int()})
    refused(r"layers.1.weight_ih is \(28, 3\), but should be \(28, 7\)",
            **{"0.rnns.1.module.weight_ih_l0": torch.ones(28, 3)})  # fmt: skip
    weights, words = written(tmp_path, [torch.ones(1)], WORDS_2019)
    with pytest.raises(ValueError, match="is no AWD-LSTM of fastai: 'list'"):
        fastai.load(weights, words)


def test_it_is_fastais_own_module(tmp_path):
    models = pytest.importorskip("fastai.text.models")
    torch.manual_seed(0)
    config = {"emb_sz": 4, "n_hid": 7, "n_layers": 3, "pad_token": 1, "bidir": False,
              "output_p": 0.1, "hidden_p": 0.15, "input_p": 0.25, "embed_p": 0.02,
              "weight_p": 0.2, "tie_weights": True, "out_bias": True}  # fmt: skip
    theirs = models.get_language_model(models.AWD_LSTM, 6, config)
    theirs[1].decoder.bias.data.normal_()
    model, _ = fastai.load(*written(tmp_path, theirs.state_dict(), WORDS_2019))
    ours, ids = torch.tensor([1, 0, *range(2, 6)]), torch.tensor([[3, 4, 0, 5, 2], [2, 2, 3, 5, 4]])
    theirs.eval().reset()
    state = None
    for part in ids.split(3, dim=1):  # both carry their state on
        expected = theirs(part)[0]
        found, state = model(ours[part], state)
        torch.testing.assert_close(found[..., ours], expected, **CLOSE)

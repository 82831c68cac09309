"""INIT, MULT and MULT+INIT against training on one task, on small models and made-up tasks."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from helpers import training
from helpers.models import awd_lstm
from helpers.models.encoder import EncoderClassifier
from helpers.models.text_cnn import TextCNN
from helpers.text import Encoded, LengthBatches
from helpers.training import schemes
from helpers.training.schemes import JointBatches, Task, init, mult, train_single_task

WORDS = 30
ONCE = {"epochs": 1, "batch_size": 8, "lr": 0.01, "progress": False}
EXACT = {"atol": 1e-6, "rtol": 0}


def make(n_classes, dropout=0.0, words=WORDS):
    vectors = torch.randn(words, 6)
    return TextCNN(vectors, n_classes, widths=(1, 2), filters=5, dropout=dropout)


def task(n=24, n_classes=2, seed=0):
    """Random texts of 2 to 8 words with random labels."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(1, WORDS, rng.integers(2, 9)) for _ in range(n)]
    return Task(Encoded(ids, rng.permutation(np.arange(n) % n_classes)), n_classes)


def weights(model, part=""):
    return torch.cat([p.detach().flatten() for n, p in model.named_parameters() if part in n])


def body(model):
    return torch.cat([p.detach().flatten() for n, p in model.named_parameters() if "head" not in n])


# --- INIT -----------------------------------------------------------------------------------------


def test_init_starts_from_the_source_and_tunes_everything():
    source, target = task(seed=1), task(seed=2)
    trained, _ = train_single_task(make, source, **ONCE)
    still = ONCE | {"lr": 0.0, "weight_decay": 0.0}
    model, _ = init(make, source, target, trained=trained, **still)
    torch.testing.assert_close(weights(model), weights(trained), **EXACT)
    tuned, _ = init(make, source, target, trained=trained, **ONCE)
    for part in ("embedding", "convolutions", "head"):
        assert not torch.equal(weights(tuned, part), weights(trained, part))


def test_frozen_init_changes_nothing_but_the_head():
    source, target = task(seed=1), task(seed=2)
    trained, _ = train_single_task(make, source, **ONCE)
    model, _ = init(make, source, target, trained=trained, frozen=True, **ONCE, weight_decay=0.5)
    assert torch.equal(body(model), body(trained))
    assert not torch.equal(weights(model, "head"), weights(trained, "head"))


@pytest.mark.parametrize(("n_classes", "head"), [(3, True), (2, False)])
def test_other_classes_get_a_new_head_on_the_sources_body(n_classes, head):
    source, target = task(seed=1), task(seed=2, n_classes=n_classes)
    trained, _ = train_single_task(make, source, **ONCE)
    still = ONCE | {"lr": 0.0, "weight_decay": 0.0, "seed": 5}
    model, _ = init(make, source, target, trained=trained, head=head, **still)
    new, _ = train_single_task(make, target, **still)
    assert torch.equal(body(model), body(trained))
    assert torch.equal(weights(model, "head"), weights(new, "head"))


def test_a_source_stage_that_runs_here_equals_one_that_ran_before(tmp_path):
    source, target = task(seed=1), task(seed=2)
    trained, _ = train_single_task(make, source, **ONCE)
    first, _ = init(make, source, target, trained=trained, **ONCE)
    for file in (None, tmp_path / "run.pt", tmp_path / "run.pt"):  # the last finds a checkpoint
        second, _ = init(make, source, target, checkpoint=file, **ONCE)
        assert torch.equal(weights(first), weights(second))
    assert {f.name for f in tmp_path.iterdir()} == {"run.pt"}


@pytest.mark.parametrize("scheme", [init, mult])
def test_the_trained_model_and_the_data_stay_as_they_are(scheme):
    source, target = task(seed=1), task(seed=2)
    trained, _ = train_single_task(make, source, **ONCE)
    before = copy.deepcopy(trained.state_dict()), copy.deepcopy((source, target))
    model, _ = scheme(make, source, target, trained=trained, **ONCE)
    after = trained.state_dict()
    assert after.keys() == before[0].keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before[0].items())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in trained.parameters()}
    for now, then in zip((source, target), before[1], strict=True):
        assert np.array_equal(now.train.labels, then.train.labels)
        assert all(map(np.array_equal, now.train.ids, then.train.ids))


def test_transfer_names_what_it_leaves_and_refuses_another_body():
    two, three = make(2), make(3)
    assert schemes.transfer_weights(two, make(2)) == []
    assert schemes.transfer_weights(two, make(2), head=False) == ["head.weight", "head.bias"]
    kept = three.head.weight.clone()
    assert schemes.transfer_weights(two, three) == ["head.weight", "head.bias"]
    assert torch.equal(three.head.weight, kept)
    assert torch.equal(body(three), body(two))
    with pytest.raises(ValueError, match=r"embedding.weight is \(30, 6\).*\(31, 6\).*vocabulary"):
        schemes.transfer_weights(two, make(2, words=31))


# --- MULT -----------------------------------------------------------------------------------------


def test_with_lambda_0_mult_is_training_on_the_target_alone():
    source, target = task(40, n_classes=3, seed=1), task(21, seed=2)
    settings = ONCE | {"epochs": 3, "seed": 4}
    model, _ = mult(make, source, target, weight=0.0, **settings)
    control, _ = train_single_task(make, target, **settings)
    torch.testing.assert_close(weights(model), weights(control), **EXACT)


def test_with_a_large_lambda_mult_is_training_on_the_source_alone():
    source, target = task(24, seed=1), task(24, seed=2)
    settings = ONCE | {"epochs": 3, "seed": 4, "clip": 0, "optimizer": torch.optim.SGD}
    scaled = settings | {"weight": 1e6, "lr": 0.5e-6, "shared_head": True}
    model, _ = mult(make, source, target, **scaled)
    control, _ = train_single_task(make, source, **settings | {"lr": 0.5})
    torch.testing.assert_close(weights(model), weights(control), atol=1e-5, rtol=0)
    target_alone, _ = train_single_task(make, target, **settings | {"lr": 0.5})
    assert (weights(model) - weights(target_alone)).abs().max() > 0.01


@pytest.mark.parametrize("shared", [False, True])
def test_the_gradient_of_a_mixed_batch_is_the_sum_of_the_two_gradients(shared):
    """Uneven shares: 3 texts of the target and 5 of the source, each loss a mean of its own."""
    torch.manual_seed(0)
    model, n_source = make(2).train(), 2 if shared else 4
    heads = [model.head, model.head if shared else nn.Linear(10, n_source)]
    parts = [task(3, 2, seed=1).train, task(5, n_source, seed=2).train]
    parameters = [*model.parameters(), *([] if shared else heads[1].parameters())]
    expected = [torch.zeros_like(p) for p in parameters]
    for weight, head, part in zip((1.0, 0.3), heads, parts, strict=True):
        model.head, batch = head, part.collate([part[i] for i in range(len(part))])
        loss = F.cross_entropy(model(batch["input_ids"], batch["attention_mask"]), batch["labels"])
        found = torch.autograd.grad(weight * loss, parameters, materialize_grads=True)
        expected = [one + other for one, other in zip(expected, found, strict=True)]
    model.head = heads[0] if shared else schemes.TwoHeads(*heads)
    items = [*(parts[0][i] for i in range(3)), *(parts[1][i] for i in range(5))]
    items = [item | {"labels": item["labels"] + 2 * (row >= 3)} for row, item in enumerate(items)]
    batch = Encoded.collate([items[i] for i in (4, 0, 7, 1, 2, 3, 5, 6)])  # in any order
    output = model(batch["input_ids"], batch["attention_mask"])
    found = torch.autograd.grad(schemes.joint_loss(2, 0.3)(output, batch), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_the_answer_is_the_targets_in_its_own_classes(shared):
    source, target = task(24, 2 if shared else 4, seed=1), task(24, 2, seed=2)
    held = task(9, 2, seed=3).train
    settings = ONCE | {"epochs": 2, "validation": held}
    model, fitted = mult(make, source, target, shared_head=shared, **settings)
    assert training.predict_logits(model, target.train).shape == (24, 2)
    assert type(model.head) is nn.Linear
    accuracy = (training.predict(model, held) == held.labels).mean()
    assert accuracy == fitted.best == fitted.history["validation_accuracy"].max()


def test_an_epoch_has_as_many_target_steps_as_training_on_it_alone():
    asked = []

    def schedule(step, total):
        asked.append(total)
        return 1.0

    source, target = task(200, seed=1), task(20, seed=2)
    for options in ({}, {"alternate": True}):
        mult(make, source, target, **options, schedule=schedule, **ONCE)
    train_single_task(make, target, schedule=schedule, **ONCE)
    assert list(dict.fromkeys(asked)) == [3, 6]  # 20 texts by 8; twice as many when alternating
    assert asked.count(6) == 6
    assert asked.count(3) == 6


@pytest.mark.parametrize("alternate", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_mult_reaches_body_and_both_tasks(alternate, shared):
    """The source's texts and labels change the model, with one head or two, mixed or in turn."""
    target, settings = task(24, seed=2), ONCE | {"shared_head": shared, "alternate": alternate}
    found = [mult(make, task(24, seed=s), target, **settings)[0] for s in (1, 1, 3)]
    assert torch.equal(weights(found[0]), weights(found[1]))
    assert not torch.equal(body(found[0]), body(found[2]))


def test_mult_with_a_trained_model_starts_both_heads_and_the_body_from_the_source():
    source, target = task(seed=1), task(seed=2)
    trained, _ = train_single_task(make, source, **ONCE)
    still = ONCE | {"lr": 0.0, "weight_decay": 0.0}
    seen = []
    note = {"callbacks": [lambda model, epoch: seen.append(copy.deepcopy(model.head))]}
    model, _ = mult(make, source, target, trained=trained, **still, **note)
    assert torch.equal(weights(model), weights(trained))
    assert torch.equal(seen[0].source.weight, trained.head.weight)
    assert torch.equal(seen[0].target.weight, trained.head.weight)
    new, _ = mult(make, source, target, trained=trained, head=False, **still)
    assert torch.equal(body(new), body(trained))
    assert not torch.equal(new.head.weight, trained.head.weight)


def test_a_source_model_that_was_frozen_gives_a_head_that_learns():
    source, target = task(seed=1), task(seed=2)
    trained = train_single_task(make, source, **ONCE)[0].requires_grad_(False)
    seen = []
    note = {"callbacks": [lambda model, epoch: seen.append(model.head.source.weight)]}
    mult(make, source, target, trained=trained, **ONCE, **note)
    assert not torch.equal(seen[0], trained.head.weight)


# --- the batches ----------------------------------------------------------------------------------

sizes = st.integers(1, 40)


def passes(n_target, n_source, size, source_size, alternate, epochs, seed=0):
    batches = JointBatches(
        np.arange(n_target) % 7, np.arange(n_source) % 5, size, source_size, alternate, seed
    )
    found = []
    for epoch in range(epochs):
        batches.set_epoch(epoch)
        found.append(list(batches))
        assert len(found[-1]) == len(batches)
    return found


@settings(deadline=None)
@given(sizes, sizes, st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(1, 4))
def test_the_target_comes_once_an_epoch_and_the_source_in_turn(
    n, m, size, other, alternate, epochs
):
    seen = np.zeros(n + m, int)
    for batches in passes(n, m, size, other, alternate, epochs):
        rows = np.concatenate(batches)
        assert sorted(rows[rows < n]) == list(range(n))
        np.add.at(seen, rows, 1)
    assert set(seen[:n]) == {epochs}
    assert seen[n:].sum() == epochs * -(-n // size) * other
    assert np.ptp(seen[n:]) <= 1, "no text of the source comes again before all have come"


@given(sizes, st.integers(1, 9), st.booleans())
def test_as_large_tasks_are_both_seen_exactly_once_an_epoch(steps, size, alternate):
    n = steps * size
    for batches in passes(n, n, size, size, alternate, epochs=2):
        assert sorted(np.concatenate(batches)) == list(range(2 * n))


@given(sizes, sizes, st.integers(1, 9), st.integers(1, 9), st.integers(0, 3))
def test_alternating_batches_hold_one_task_each_and_take_turns(n, m, size, other, seed):
    (batches,) = passes(n, m, size, other, True, epochs=1, seed=seed)
    tasks = [{row >= n for row in batch} for batch in batches]
    assert tasks == [{False}, {True}] * -(-n // size)
    assert {len(batch) for batch in batches[1::2]} == {other}


@given(sizes, sizes, st.integers(1, 9), st.integers(1, 9))
def test_mixed_batches_hold_the_very_batches_of_the_target_alone(n, m, size, other):
    control = LengthBatches(np.arange(n) % 7, size, shuffle=True, seed=3)
    for epoch, batches in enumerate(passes(n, m, size, other, False, epochs=2, seed=3)):
        control.set_epoch(epoch)
        assert [[row for row in batch if row < n] for batch in batches] == list(control)
        assert {sum(row >= n for row in batch) for batch in batches} == {other}


def test_an_epochs_batches_depend_on_seed_and_epoch_alone():
    third = passes(20, 50, 4, 6, False, epochs=3)[2]
    batches = JointBatches(np.arange(20) % 7, np.arange(50) % 5, 4, 6)
    batches.set_epoch(2)
    assert list(batches) == list(batches) == third
    assert passes(20, 50, 4, 6, False, epochs=3, seed=1)[2] != third


# --- seeds, selection, other models ---------------------------------------------------------------


def stir(model, epoch):
    torch.rand(3)


@pytest.mark.parametrize("scheme", ["init", "mult", "mult+init"])
def test_equal_seeds_give_equal_weights_to_the_bit(scheme):
    source, target = task(seed=1), task(seed=2, n_classes=3)
    trained, _ = train_single_task(make, source, **ONCE)
    options = {"trained": trained} if scheme == "mult+init" else {}
    scheme, found = init if scheme == "init" else mult, []
    for drawn, seed in [(1, 7), (2, 7), (2, 8)]:
        torch.manual_seed(drawn)  # whatever was drawn before must not matter
        state = torch.get_rng_state()
        model, _ = scheme(
            lambda n: make(n, dropout=0.3), source, target, seed=seed, **options, **ONCE
        )
        assert torch.equal(state, torch.get_rng_state())
        found.append(weights(model))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_only_the_targets_validation_selects_for_the_target():
    source, target, held, asked = task(seed=1), task(seed=2), task(7, seed=3).train, []

    def metric(labels, logits):
        asked.append(len(labels))
        return 0.0

    settings = ONCE | {"epochs": 2, "metric": metric, "validation": held}
    for scheme in (mult, init):
        scheme(make, source, target, **settings)
        assert asked == [7, 7]
        asked.clear()


def language_model(n_classes):
    """Its head has more than one layer, with dropout and batch normalisation."""
    return awd_lstm.Classifier(awd_lstm.AWDLSTMConfig(WORDS, embedding=4, hidden=5), n_classes)


@pytest.fixture
def encoder(tmp_path):
    size = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=WORDS, num_hidden_layers=2, max_position_embeddings=16, **size)
    BertModel(config).save_pretrained(tmp_path)
    return lambda n_classes: EncoderClassifier(str(tmp_path), n_classes)


@pytest.mark.parametrize("name", ["language model", "encoder"])
def test_every_scheme_works_for_other_models(name, encoder):
    build = {"language model": language_model, "encoder": encoder}[name]
    source, target = task(seed=1), task(seed=2, n_classes=3)
    trained, _ = train_single_task(build, source, **ONCE)
    for scheme, options in [(init, {"trained": trained, "frozen": True}), (mult, {}),
                            (mult, {"trained": trained, "alternate": True})]:  # fmt: skip
        model, _ = scheme(build, source, target, **options, **ONCE)
        assert training.predict_logits(model, target.train).shape == (24, 3)
        assert torch.equal(body(model), body(trained)) == (scheme is init)


# --- does it help? --------------------------------------------------------------------------------


def topics(n, seed, groups):
    """Texts of 8 words; words come from one of two groups more often than from the other, and the
    label says from which. Only with many texts does one see which word is of which group."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    chosen = np.where(rng.random((n, 8)) < 0.75, labels[:, None], 1 - labels[:, None])
    ids = groups[chosen, rng.integers(0, groups.shape[1], (n, 8))]
    return Encoded(list(ids), labels)


def build(n_classes):
    return make(n_classes, words=121)


@pytest.fixture(scope="module")
def pairs():
    """A target with 20 texts and its test; two sources with 800, of its groups and of others, each
    with a model trained on it."""
    related = np.random.default_rng(0).permutation(np.arange(1, 121)).reshape(2, 60)
    unrelated = related.reshape(2, 2, 30).swapaxes(0, 1).reshape(2, 60)  # half of each
    groups = related, unrelated
    sources = [Task(topics(800, 3, group), 2) for group in groups]
    settings = {"epochs": 3, "batch_size": 16, "lr": 0.02, "progress": False}
    trained = [train_single_task(build, source, **settings)[0] for source in sources]
    return Task(topics(20, 1, groups[0]), 2), topics(400, 2, groups[0]), sources, trained


SCHEMES = {
    "init tuned": (init, {}),
    "init frozen": (init, {"frozen": True}),
    "mult": (mult, {"shared_head": True, "weight": 4.0}),
    "mult+init": (mult, {"shared_head": True}),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_transfer_helps_where_the_tasks_share_their_words_and_not_elsewhere(pairs, name):
    target, test, sources, trained = pairs
    settings = {"epochs": 20, "batch_size": 10, "lr": 0.02, "progress": False}
    scheme, options = SCHEMES[name]

    def accuracy(model):
        return (training.predict_logits(model, test).argmax(1) == test.labels).mean()

    control, found = accuracy(train_single_task(build, target, **settings)[0]), []
    for source, start in zip(sources, trained, strict=True):
        given = options if name == "mult" else options | {"trained": start}
        found.append(accuracy(scheme(build, source, target, **given, **settings)[0]))
    assert found[0] > control + 0.1
    assert found[1] < control + 0.05


# --- refusals -------------------------------------------------------------------------------------


def test_bad_calls_are_refused_in_one_sentence():
    two, three = task(seed=1), task(seed=2, n_classes=3)
    with pytest.raises(ValueError, match="2 and 3 classes cannot share a head"):
        mult(make, two, three, shared_head=True, **ONCE)
    with pytest.raises(ValueError, match="the labels are 0 to 2, but must be 0 to 1"):
        Task(three.train, 2)
    with pytest.raises(ValueError, match="one label each"):
        Task(Encoded([np.arange(1, 4)]), 2)
    with pytest.raises(ValueError, match="one label each"):
        Task(Encoded([np.arange(1, 4)], [training.IGNORED]), 2)
    with pytest.raises(ValueError, match="one label each"):
        Task(Encoded([np.arange(1, 3)], [np.array([0, 1])]), 2)
    with pytest.raises(TypeError, match="'loss'"):
        mult(make, two, two, loss=training.cross_entropy, **ONCE)


def test_early_stopping_is_of_the_target_alone():
    source, target = task(seed=1), task(seed=2)
    again = {**ONCE, "epochs": 3, "validation": target.train, "patience": 1}
    _, fit = init(make, source, target, **again)
    assert 1 <= fit.best_epoch <= 3

"""The loop: same seed, same weights; resume; early stopping; order, padding and loss."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from helpers import training
from helpers.models.crf import CRF, bio_constraints, crf_loss
from helpers.text import Encoded, EpochParts, LengthBatches
from helpers.training import (
    constant,
    cross_entropy,
    fit,
    linear,
    measure,
    predict,
    predict_logits,
    predict_proba,
)
from helpers.training.runs import own_randomness


class MeanOfVectors(nn.Module):
    """A small classifier with dropout, so that randomness matters."""

    def __init__(self, per_token=False):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embedding, self.head = nn.Embedding(20, 8, padding_idx=0), nn.Linear(8, 2)
        self.dropout, self.per_token = nn.Dropout(0.3), per_token

    def forward(self, input_ids, attention_mask):
        real = attention_mask.unsqueeze(-1)
        hidden = self.dropout(self.embedding(input_ids))
        if self.per_token:
            return self.head(hidden)
        return self.head((hidden * real).sum(1) / real.sum(1))


def examples(n=60, seed=0):
    """Texts of 1 to 9 ids; the label says whether the ids are mostly above 10."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    low, high = np.where(labels, 8, 1), np.where(labels, 20, 12)
    ids = [rng.integers(low[i], high[i], rng.integers(1, 10)) for i in range(n)]
    return Encoded(ids, labels)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_training_learns_and_reports_each_epoch():
    model = MeanOfVectors()
    result = fit(model, examples(), examples(seed=1), epochs=15, lr=0.05, progress=False)
    assert list(result.history["epoch"]) == list(range(1, 16))
    assert result.history["train_loss"].iloc[-1] < 0.6 * result.history["train_loss"].iloc[0]
    assert result.best == result.history["validation_accuracy"].max() > 0.8
    assert result.seconds > 0


def test_same_seed_gives_the_same_weights_to_the_bit_and_another_seed_others():
    found = []
    for seed in (3, 3, 4):
        model = MeanOfVectors()
        torch.rand(seed)  # whatever was drawn before must not matter
        fit(model, examples(), epochs=2, seed=seed, progress=False)
        found.append(weights(model))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_callers_random_state_and_denormals_are_left_as_they_were():
    before = torch.get_rng_state()
    fit(MeanOfVectors(), examples(), examples(), epochs=1, progress=False)
    assert torch.equal(before, torch.get_rng_state())
    assert (torch.tensor([1e-30]) * torch.tensor([1e-10])).item() > 0


def test_an_interrupted_run_goes_on_and_ends_like_one_that_was_not(tmp_path):
    options = {"epochs": 4, "lr": 0.02, "seed": 1, "schedule": linear(0.2), "progress": False}
    whole = MeanOfVectors()
    expected = fit(whole, examples(), examples(seed=1), **options)

    epochs, power = [], [2]

    def power_cut(model, epoch):
        if epoch in power:
            power.clear()
            raise KeyboardInterrupt
        epochs.append(epoch)

    options |= {"checkpoint": tmp_path / "run.pt", "callbacks": [power_cut]}
    with pytest.raises(KeyboardInterrupt):
        fit(MeanOfVectors(), examples(), examples(seed=1), **options)
    resumed = MeanOfVectors()
    found = fit(resumed, examples(), examples(seed=1), **options)
    assert epochs == [0, 1, 2, 3]
    assert torch.equal(weights(whole), weights(resumed))
    columns = ["epoch", "train_loss", "validation_accuracy"]
    assert found.history[columns].equals(expected.history[columns])
    assert not list(tmp_path.glob("*.part"))


def relabelled(data):
    return Encoded(data.ids, 1 - data.labels)


def frozen_head(model):
    model.head.requires_grad_(False)
    return model


def with_dropout(p):
    model = MeanOfVectors()
    model.dropout.p = p
    return model


def moved():
    model = MeanOfVectors()
    with torch.no_grad():
        model.head.bias[0] += 1e-6
    return model


def anneal(model, epoch):
    pass


def closeness(y_true, logits):
    return -np.square(logits[:, 1] - y_true).mean()


OTHERS = {
    r"lr \[0.001\] there, \[10.0\] here": {"lr": 10.0},
    "epochs 2 there, 3 here": {"epochs": 3},
    "seed 0 there, 1 here": {"seed": 1},
    r"weight_decay \[0.01\] there, \[0.1\] here": {"weight_decay": 0.1},
    "schedule": {"schedule": linear(0.5)},
    "clip 1.0 there, 0.5 here": {"clip": 0.5},
    "precision 'float32' there, 'bf16' here": {"precision": "bf16"},
    "loss": {"loss": partial(cross_entropy, label_smoothing=0.1)},
    "other (?=loss)loss": {"loss": partial(cross_entropy, weight=torch.tensor([1.0, 2.0]))},
    "optimizer 'AdamW' there, 'SGD' here": {"optimizer": torch.optim.SGD},
    r"betas \[\[0.9, 0.999\]\] there, \[\[0.5, 0.9\]\]": {
        "optimizer": lambda groups: torch.optim.AdamW(groups, betas=(0.5, 0.9), fused=True)
    },
    "other batches": {"batch_size": 8},
    "other batche?s": {"batches": EpochParts(examples().lengths, 32, 2, seed=0)},
    "training data": {"train": examples(seed=5)},
    "other training (?=data)data": {"train": relabelled(examples())},
    "validation data": {"validation": examples(seed=5)},
    "metric 'accuracy' there, 'closeness' here": {"metric": closeness},
    "patience None there, 1 here": {"patience": 1},
    r"callbacks \[\] there, \['anneal'\] here": {"callbacks": [anneal]},
    "parameters .* there, .*embedding": {"model": frozen_head(MeanOfVectors())},
    "other model": {"model": with_dropout(0.1)},
    "other starting weights": {"model": moved()},
}


@pytest.mark.parametrize("told", OTHERS)
def test_a_checkpoint_of_other_settings_is_refused_and_what_differs_is_said(told, tmp_path):
    file = tmp_path / "run.pt"
    options = {"train": examples(), "validation": examples(seed=1), "epochs": 2}
    options |= {"checkpoint": file, "precision": "float32", "progress": False}
    fit(MeanOfVectors(), **options)
    before = file.read_bytes()
    changed = {"model": MeanOfVectors()} | options | OTHERS[told]
    with pytest.raises(ValueError, match=rf"run\.pt is from a run with other settings.*{told}"):
        fit(**changed)
    assert file.read_bytes() == before


def test_what_shapes_no_result_may_change_and_a_finished_model_may_go_on(tmp_path):
    options = {"epochs": 2, "checkpoint": tmp_path / "run.pt"}
    model = MeanOfVectors()
    fit(model, examples(), examples(seed=1), **options, progress=True)
    best = weights(model)
    fit(model, examples(), examples(seed=1), **options, progress=False)  # the cell is run again
    again = MeanOfVectors()
    fit(again, examples(), examples(seed=1), **options, progress=False)
    assert torch.equal(weights(model), best)
    assert torch.equal(weights(again), best)


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    file = tmp_path / "run.pt"
    options = {"epochs": 1, "checkpoint": file, "progress": False}
    fit(MeanOfVectors(), examples(), **options)
    whole = file.read_bytes()
    other = tmp_path / "other.pt"
    torch.save({"weights": torch.zeros(2)}, other)
    for data in (b"", whole[: len(whole) // 2], b"no checkpoint", other.read_bytes()):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=r"run\.pt is damaged, or no checkpoint") as caught:
            fit(MeanOfVectors(), examples(), **options)
        assert "weights_only" not in str(caught.value)


def test_the_best_epochs_weights_are_restored_and_training_stops_early():
    values = iter([0.1, 0.9, 0.2, 0.3, 0.8, 0.95])
    seen = []

    def remember(model, epoch):
        seen.append(weights(model))

    model = MeanOfVectors()
    result = fit(model, examples(), examples(), epochs=6, patience=2, lr=0.05, progress=False,
                 metric=lambda labels, logits: next(values), callbacks=[remember])  # fmt: skip
    assert len(result.history) == 4  # the second epoch was best; two more did not beat it
    assert (result.best, result.best_epoch) == (0.9, 2)
    assert torch.equal(weights(model), seen[2])  # as they were when the third epoch began


def test_for_the_loss_lower_is_better():
    model, held = MeanOfVectors(), examples(seed=1)
    result = fit(model, examples(), held, epochs=4, lr=0.3, metric="loss", progress=False)
    losses = result.history["validation_loss"]
    assert result.best == losses.min() < losses.max()
    logits, batch = torch.tensor(predict_logits(model, held)), {"labels": torch.tensor(held.labels)}
    assert cross_entropy(logits, batch) == pytest.approx(result.best)


def test_an_early_stop_is_the_same_after_an_interruption(tmp_path):
    options = {"patience": 1, "lr": 0.0, "progress": False, "checkpoint": tmp_path / "run.pt"}
    for _ in range(2):  # the second time from the checkpoint of the first
        result = fit(MeanOfVectors(), examples(), examples(), epochs=4, **options)
        assert (len(result.history), result.best_epoch) == (2, 1)


def test_metrics_by_name_leave_out_what_has_no_label():
    y_true, logits = np.array([0, 0, 0, 1, -100]), np.eye(2)[[0, 0, 1, 1, 0]]
    assert measure("accuracy", y_true, logits) == 3 / 4
    assert measure("macro_f1", y_true, logits) == pytest.approx((4 / 5 + 2 / 3) / 2)
    nats = [np.log(np.e + 1) - 1] * 3 + [np.log(np.e + 1)]
    assert measure("loss", y_true, logits) == pytest.approx(np.mean(nats))
    rows = [y_true[:2], y_true[2:]], [logits[:2], logits[2:]]
    assert measure("macro_f1", *rows) == measure("macro_f1", y_true, logits)


def test_a_metric_of_ones_own_is_higher_for_better_and_named_in_the_history():
    model, held = MeanOfVectors(), examples(seed=1)
    result = fit(model, examples(), held, epochs=4, lr=0.05, metric=closeness, progress=False)
    assert result.best == result.history["validation_closeness"].max()
    assert closeness(held.labels, predict_logits(model, held)) == pytest.approx(result.best)


def test_groups_train_at_their_own_rates_and_frozen_parameters_stay():
    model = MeanOfVectors()
    before = model.embedding.weight.clone(), model.head.weight.clone()
    model.head.bias.requires_grad_(False)
    bias = model.head.bias.clone()
    groups = [
        {"params": [model.embedding.weight], "lr": 0.0},
        {"params": [model.head.weight], "lr": 0.01},
    ]
    fit(model, examples(), epochs=1, groups=groups, progress=False)
    assert torch.equal(before[0], model.embedding.weight)
    assert not torch.equal(before[1], model.head.weight)
    assert torch.equal(bias, model.head.bias)


def test_one_step_is_adamw_on_the_mean_loss_of_the_batch():
    """Against a hand-written step of PyTorch's reference (unfused) optimizer."""
    data = examples(8)
    ours, reference = MeanOfVectors(), MeanOfVectors()
    ours.dropout.p = reference.dropout.p = 0.0
    fit(ours, data, epochs=1, batch_size=8, lr=0.01, clip=0.5, progress=False)
    batch = data.collate([data[i] for i in range(8)])
    logits = reference(batch["input_ids"], batch["attention_mask"])
    nn.functional.cross_entropy(logits, batch["labels"]).backward()
    nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
    torch.optim.AdamW(reference.parameters(), lr=0.01, weight_decay=0.01, fused=False).step()
    torch.testing.assert_close(weights(ours), weights(reference), atol=1e-6, rtol=0)


def test_schedule_sees_every_step_once_and_sets_the_rate():
    asked = []

    def schedule(step, total):
        asked.append((step, total))
        return 0.0

    model = MeanOfVectors()
    before = weights(model)
    fit(model, examples(50), epochs=2, batch_size=16, schedule=schedule, weight_decay=0.0,
        progress=False)  # fmt: skip
    assert asked == [(step, 8) for step in range(8)]
    assert torch.equal(before, weights(model))


def test_each_step_has_the_rate_of_its_place_in_the_whole_run():
    rates = []

    def watched(groups):
        optimizer = torch.optim.SGD(groups)
        optimizer.register_step_pre_hook(lambda it, *_: rates.append(it.param_groups[0]["lr"]))
        return optimizer

    how = {"epochs": 2, "batch_size": 16, "lr": 0.08, "progress": False, "optimizer": watched}
    fit(MeanOfVectors(), examples(50), schedule=lambda step, total: step / total, **how)
    assert rates == pytest.approx([0.01 * step for step in range(8)])


def test_linear_schedule_by_hand():
    rate = linear(warmup=0.2)
    assert [rate(step, 10) for step in range(10)] == pytest.approx(
        [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    )
    assert constant(3, 10) == 1.0


def test_predict_restores_the_order_and_padding_changes_nothing():
    data, model = examples(41), MeanOfVectors()
    together = predict_logits(model, data, batch_size=16)
    alone = np.concatenate(
        [predict_logits(model, Encoded([ids]), batch_size=1) for ids in data.ids]
    )
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert model.training  # as it was before


def test_predict_per_token_gives_each_text_its_own_length():
    data = examples(20)
    found = predict_logits(MeanOfVectors(per_token=True), data, batch_size=8)
    assert [len(one) for one in found] == list(data.lengths)
    assert found[0].shape[1] == 2


def test_tagging_loss_and_accuracy_leave_out_what_has_no_label():
    logits = torch.tensor([[[5.0, 0.0], [0.0, 5.0]]])
    batch = {"labels": torch.tensor([[0, training.IGNORED]])}
    expected = nn.functional.cross_entropy(logits[0, :1], torch.tensor([0]))
    assert cross_entropy(logits, batch) == pytest.approx(expected.item())
    assert measure("accuracy", [np.array([0, -100])], [logits[0].numpy()]) == 1.0


def test_a_batch_of_tags_that_all_are_left_out_teaches_nothing():
    logits = torch.randn(2, 3, 2, requires_grad=True)
    loss = cross_entropy(logits, {"labels": torch.full((2, 3), training.IGNORED)})
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_class_weights_weigh_the_loss():
    logits, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    each = nn.functional.cross_entropy(logits, labels, reduction="none")
    found = cross_entropy(logits, {"labels": labels}, weight=torch.tensor([1.0, 3.0]))
    assert found.item() == pytest.approx(((each[0] + 3 * each[1]) / 4).item())


def with_labels(labels):
    return Encoded([np.array([1, 2])] * len(labels), labels)


def group(model, **options):
    return {"params": list(model.parameters()), **options}


TAGS = [np.array([0, 1]), np.array([1, 5])]
MODEL = MeanOfVectors()
BAD = {
    "no training examples": {"train": Encoded([], [])},
    "unknown metric 'accurancy'": {"metric": "accurancy"},
    "needs validation": {"patience": 1},
    "no validation examples": {"validation": Encoded([], [])},
    "the training examples have no labels": {"train": Encoded([np.array([1])])},
    "the validation examples have no labels": {"validation": Encoded([np.array([1])])},
    "the training labels are 0 to 2, but must be 0 to 1": {"train": with_labels([0, 1, 2])},
    "the validation labels are 0 to 7, but must be 0 to 1": {"validation": with_labels([0, 7])},
    "the training labels are -1 to 1, but must be 0 to 1": {"train": with_labels([-1, 1])},
    "the training labels are all -100": {"train": with_labels([-100, -100])},
    "the training labels are 0 to 5, but must be 0 to 1": {
        "model": MeanOfVectors(per_token=True), "train": with_labels(TAGS)
    },
    "the training labels are -2 to 1, but must be 0 or more": {
        "train": with_labels([-2, 1]), "loss": lambda output, batch: output.sum()
    },
    "lr=0.1 changes nothing": {"model": MODEL, "lr": 0.1, "groups": [group(MODEL, lr=0.2)]},
}  # fmt: skip


@pytest.mark.parametrize("told", BAD)
def test_bad_calls_are_refused_in_one_sentence_before_training(told):
    options = {"model": MeanOfVectors(), "train": examples(), "epochs": 1, "progress": False}
    options |= BAD[told]
    before = weights(options["model"])
    with pytest.raises(ValueError, match=told):
        fit(**options)
    assert torch.equal(before, weights(options["model"]))
    with pytest.raises(ValueError, match="unknown metric"):
        measure("accurancy", np.array([0]), np.zeros((1, 2)))


def test_a_batch_without_a_label_that_counts_teaches_nothing():
    data, model = with_labels([0, 1, -100, -100, -100, -100]), MeanOfVectors()
    result = fit(model, data, epochs=2, batch_size=2, lr=0.01, progress=False)
    assert np.isfinite(result.history["train_loss"]).all()
    assert weights(model).isfinite().all()


def test_nothing_is_predicted_of_nothing():
    assert predict(MeanOfVectors(), Encoded([])).tolist() == []


def test_groups_without_a_learning_rate_take_lr_and_stay_as_they_are():
    model = MeanOfVectors()
    before = model.embedding.weight.clone(), model.head.weight.clone()
    groups = [{"params": model.embedding.parameters()},
              {"params": model.head.parameters(), "lr": 0.0, "weight_decay": 0.0}]  # fmt: skip
    given = [dict(one) for one in groups]
    seen = []

    def make(groups):
        seen.extend(one["lr"] for one in groups)
        return torch.optim.SGD(groups)

    fit(model, examples(), epochs=1, lr=0.5, groups=groups, optimizer=make, progress=False)
    assert seen == [0.5, 0.0]
    assert groups == given
    assert not torch.equal(before[0], model.embedding.weight)
    assert torch.equal(before[1], model.head.weight)


def test_a_metric_that_is_no_number_is_never_best():
    values = iter([np.nan, 0.3, np.nan, 0.2])
    options = {"epochs": 4, "progress": False}
    result = fit(MeanOfVectors(), examples(), examples(), **options,
                 metric=lambda y_true, logits: next(values))  # fmt: skip
    assert (result.best, result.best_epoch) == (0.3, 2)

    def nothing(y_true, logits):
        return np.nan

    with pytest.raises(ValueError, match="validation nothing was no number in any epoch"):
        fit(MeanOfVectors(), examples(), examples(), **options, metric=nothing)


def test_a_loss_that_is_no_number_ends_the_training():
    with pytest.raises(ValueError, match="loss is not finite in epoch 1: take a lower learning"):
        fit(MeanOfVectors(), examples(), epochs=3, progress=False, clip=0,
            loss=lambda output, batch: cross_entropy(output, batch) * np.nan)  # fmt: skip


class Tagger(MeanOfVectors):
    def __init__(self):
        super().__init__(per_token=True)
        self.head, self.crf = nn.Linear(8, 3), CRF(3, bio_constraints(["O", "B-X", "I-X"]))


def test_predict_gives_labels_and_probabilities_and_asks_the_crf_of_a_tagger():
    model, data = MeanOfVectors(), examples(13)
    logits = predict_logits(model, data)
    np.testing.assert_array_equal(predict(model, data), logits.argmax(1))
    chances = predict_proba(model, data)
    np.testing.assert_allclose(chances, torch.tensor(logits).softmax(1), atol=1e-6)
    torch.manual_seed(1)
    model = Tagger()
    tags = predict(model, data)
    assert [len(row) for row in tags] == list(data.lengths)
    steps = [pair for row in tags for pair in zip([0, *row[:-1]], row, strict=True)]
    assert (0, 2) not in steps  # the rule that O I-X is forbidden holds
    single = [row.argmax(1) for row in predict_logits(model, data)]
    assert any((0, 2) in zip([0, *row[:-1]], row, strict=True) for row in single)
    marginals = predict_proba(model, data)
    assert all(np.allclose(row.sum(1), 1, atol=1e-5) for row in marginals)
    assert all(row[0, 2] < 1e-3 for row in marginals)  # no sentence begins with I-X


def test_labels_beyond_the_tags_of_a_crf_are_refused():
    model = Tagger()
    with pytest.raises(ValueError, match="the training labels are 0 to 5, but must be 0 to 2"):
        fit(model, with_labels(TAGS), epochs=1, loss=crf_loss(model), progress=False)


def test_own_randomness_keeps_the_state_of_every_device(monkeypatch):
    """Two CUDA devices and an Apple one, as fakes that remember their state."""
    states = {"mps": torch.zeros(1, dtype=torch.uint8)}
    states |= {i: torch.full((1,), i, dtype=torch.uint8) for i in range(2)}
    before = dict(states)
    number = lambda device: getattr(device, "index", device)  # noqa: E731
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[number(device)])
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda new, device: states.update({number(device): new})
    )
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states["mps"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda new: states.update(mps=new))
    cpu = torch.get_rng_state()
    drawn = []

    def interrupted():
        with own_randomness(3):
            drawn.append(torch.rand(2))
            states.update({device: torch.ones(1, dtype=torch.uint8) * 9 for device in states})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert states == before
    assert torch.equal(cpu, torch.get_rng_state())
    with own_randomness(3):
        assert torch.equal(drawn[0], torch.rand(2))


def test_a_loss_sees_whatever_the_model_returns():
    class WithState(MeanOfVectors):
        def forward(self, input_ids, attention_mask):
            logits = super().forward(input_ids, attention_mask)
            return SimpleNamespace(logits=logits, squares=logits.square().mean())

    def shrinking(output, batch):
        return cross_entropy(output, batch) + 10 * output.squares

    models = {loss: WithState() for loss in (None, shrinking)}
    for loss, model in models.items():
        fit(model, examples(), epochs=5, lr=0.05, loss=loss, progress=False)
    sizes = {
        loss: np.abs(predict_logits(model, examples())).mean() for loss, model in models.items()
    }
    assert sizes[shrinking] < 0.5 * sizes[None]


def test_an_optimizer_of_ones_own_gets_the_groups():
    model, data = MeanOfVectors(), examples(8)
    before = weights(model)
    groups = [{"params": model.head.parameters(), "lr": 0.5}]

    def make(given):
        assert given == groups
        return torch.optim.SGD(given)

    model.dropout.p = 0.0
    batch = data.collate([data[i] for i in range(8)])
    cross_entropy(model(batch["input_ids"], batch["attention_mask"]), batch).backward()
    expected = model.head.weight.detach() - 0.5 * model.head.weight.grad
    fit(model, data, epochs=1, groups=groups, optimizer=make, clip=0, progress=False)
    torch.testing.assert_close(model.head.weight.detach(), expected)
    assert not torch.equal(before, weights(model))


def test_batches_of_ones_own_are_used_as_they_are():
    class InOrder(LengthBatches):
        def __iter__(self):
            yield from ([4, 0], [1, 2], [3])

    seen, data = [], examples(5)

    def loss(output, batch):
        seen.extend(batch["labels"].tolist())
        return cross_entropy(output, batch)

    batches = InOrder(data.lengths, 2)
    fit(MeanOfVectors(), data, epochs=1, loss=loss, batches=batches, progress=False)
    assert seen == [data.labels[i] for i in (4, 0, 1, 2, 3)]

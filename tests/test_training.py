"""The loop: same seed, same weights; resume; early stopping; order, padding and loss."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from helpers import training
from helpers.text import Encoded, LengthBatches
from helpers.training import constant, cross_entropy, fit, linear, measure, predict_logits


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

    def power_cut(model, epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(MeanOfVectors(), examples(), examples(seed=1), **options, checkpoint=file,
            callbacks=[power_cut])  # fmt: skip
    resumed, epochs = MeanOfVectors(), []
    found = fit(resumed, examples(), examples(seed=1), **options, checkpoint=file,
                callbacks=[lambda model, epoch: epochs.append(epoch)])  # fmt: skip
    assert epochs == [2, 3]
    assert torch.equal(weights(whole), weights(resumed))
    columns = ["epoch", "train_loss", "validation_accuracy"]
    assert found.history[columns].equals(expected.history[columns])
    assert not list(tmp_path.glob("*.part"))


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    file = tmp_path / "run.pt"
    fit(MeanOfVectors(), examples(), epochs=1, checkpoint=file, progress=False)
    with pytest.raises(ValueError, match="other settings"):
        fit(MeanOfVectors(), examples(), epochs=2, checkpoint=file, progress=False)


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
    model = MeanOfVectors()
    result = fit(model, examples(), examples(1), epochs=4, lr=0.05, metric="loss", progress=False)
    assert result.best == result.history["validation_loss"].min()


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
    assert list(dict.fromkeys(asked)) == [(step, 8) for step in range(8)]
    assert torch.equal(before, weights(model))


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
        [predict_logits(model, data.subset([i]), batch_size=1) for i in range(41)]
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
    assert cross_entropy()(logits, batch) == pytest.approx(expected.item())
    assert measure("accuracy", [np.array([0, -100])], [logits[0].numpy()]) == 1.0


def test_class_weights_weigh_the_loss():
    logits, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    each = nn.functional.cross_entropy(logits, labels, reduction="none")
    found = cross_entropy(weight=[1.0, 3.0])(logits, {"labels": labels})
    assert found.item() == pytest.approx(((each[0] + 3 * each[1]) / 4).item())


def test_bad_calls_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="no training examples"):
        fit(MeanOfVectors(), Encoded([], []), epochs=1)
    with pytest.raises(ValueError, match="needs validation"):
        fit(MeanOfVectors(), examples(), epochs=1, patience=1)
    with pytest.raises(ValueError, match="unknown metric"):
        measure("accurancy", np.array([0]), np.zeros((1, 2)))


def test_a_loss_sees_whatever_the_model_returns():
    class WithState(MeanOfVectors):
        def forward(self, input_ids, attention_mask):
            logits = super().forward(input_ids, attention_mask)
            return SimpleNamespace(logits=logits, squares=logits.square().mean())

    def shrinking(output, batch):
        return cross_entropy()(output, batch) + 10 * output.squares

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
        assert given is groups
        return torch.optim.SGD(given)

    model.dropout.p = 0.0
    batch = data.collate([data[i] for i in range(8)])
    cross_entropy()(model(batch["input_ids"], batch["attention_mask"]), batch).backward()
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
        return cross_entropy()(output, batch)

    batches = InOrder(data.lengths, 2)
    fit(MeanOfVectors(), data, epochs=1, loss=loss, batches=batches, progress=False)
    assert seen == [data.labels[i] for i in (4, 0, 1, 2, 3)]

"""Layer groups, freezing, rates and schedules, on small encoders with random weights."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel

from helpers.models.encoder import EncoderClassifier
from helpers.models.text_cnn import TextCNN
from helpers.text import Encoded
from helpers.training import fit, transfer

CONFIG = BertConfig(vocab_size=40, hidden_size=8, num_hidden_layers=3, num_attention_heads=2,
                    intermediate_size=16, max_position_embeddings=32)  # fmt: skip
GROUPS = ["embeddings", "layer 1", "layer 2", "layer 3", "head"]


@pytest.fixture
def folder(tmp_path):
    BertModel(CONFIG).save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture
def model(folder):
    return EncoderClassifier(folder, n_classes=2)


def test_layer_groups_partition_the_parameters_from_the_input_up(model):
    groups = transfer.layer_groups(model)
    assert list(groups) == GROUPS
    ids = [id(p) for group in groups.values() for p in group]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    assert any(p is model.encoder.embeddings.word_embeddings.weight for p in groups["embeddings"])
    assert any(p is model.encoder.encoder.layer[1].output.dense.weight for p in groups["layer 2"])
    assert any(p is model.head.weight for p in groups["head"])


@pytest.mark.parametrize("lowest", GROUPS)
def test_freeze_below_trains_exactly_that_group_and_those_above(model, lowest):
    transfer.freeze_below(model, lowest)
    position = GROUPS.index(lowest)
    for depth, parameters in enumerate(transfer.layer_groups(model).values()):
        assert all(p.requires_grad == (depth >= position) for p in parameters)
    transfer.freeze_below(model, "embeddings")
    assert transfer.count_parameters(model)[0] == transfer.count_parameters(model)[1]


def test_an_unknown_group_is_refused_with_the_names_there_are(model):
    with pytest.raises(ValueError, match=r"no layer group 'layer 9'.*embeddings, layer 1"):
        transfer.freeze_below(model, "layer 9")
    with pytest.raises(ValueError, match="no layer group"):
        transfer.parameter_groups(model, 1e-3, lrs={"top": 1.0})


def test_each_group_below_learns_more_slowly_by_the_factor(model):
    groups = transfer.parameter_groups(model, lr=0.01, factor=2.6)
    rates = {group["name"]: group["lr"] for group in groups}
    assert list(rates) == GROUPS[::-1]
    assert list(rates.values()) == pytest.approx([0.01 / 2.6**k for k in range(5)])
    head = transfer.parameter_groups(model, lr=0.01, lrs={"head": 0.5})
    assert {g["lr"] for g in head if g["name"] == "head"} == {0.5}
    assert {g["lr"] for g in head if g["name"] != "head"} == {0.01}


def test_only_matrices_decay_and_every_trainable_parameter_is_in_one_group(model):
    transfer.freeze_below(model, "layer 2")
    groups = transfer.parameter_groups(model, lr=0.01, weight_decay=0.1)
    for group in groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_count_parameters_counts_a_shared_one_once():
    tied = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)])
    tied[1].weight = tied[0].weight
    assert transfer.count_parameters(tied) == (16, 16)


def test_pooling_is_the_mean_over_real_tokens_only(model):
    model.eval()
    ids = torch.tensor([[3, 4, 5, 9, 9], [6, 7, 8, 10, 11]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    features = model.features(ids, mask)
    alone = model.encoder(ids[:1, :3]).last_hidden_state[0].mean(0)
    torch.testing.assert_close(features[0], alone, atol=1e-5, rtol=0)
    other = ids.clone()
    other[0, 3:] = 20
    torch.testing.assert_close(model.features(other, mask), features)


def test_the_random_start_control_has_the_same_shapes_and_other_weights(folder):
    first, control = EncoderClassifier(folder, 2), EncoderClassifier(folder, 2, pretrained=False)
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (first, control)]
    assert shapes[0] == shapes[1]
    query = "encoder.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(first.state_dict()[query], control.state_dict()[query])


def test_files_that_lack_a_part_of_the_encoder_are_refused(folder):
    file = Path(folder) / "model.safetensors"
    weights = load_file(file)
    del weights["encoder.layer.0.attention.self.query.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights of its encoder: .*query\.weight"):
        EncoderClassifier(folder, n_classes=2)


# --- encoders of several families -----------------------------------------------------------------

SIZE = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2,
        "intermediate_size": 16}  # fmt: skip
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
OTHERS = {
    "Bert": SIZE,
    "Roberta": SIZE | IDS,
    "DistilBert": {"vocab_size": 40, "dim": 8, "n_layers": 3, "n_heads": 2, "hidden_dim": 16},
    "GPT2": {"vocab_size": 40, "n_embd": 8, "n_layer": 3, "n_head": 2} | IDS,
    "Llama": SIZE | IDS,
    "MPNet": SIZE,
    "T5Encoder": {"vocab_size": 40, "d_model": 8, "num_layers": 3, "num_heads": 2, "d_ff": 16},
}


@pytest.mark.parametrize("family", OTHERS)
def test_the_groups_fit_encoders_of_other_families(family):
    config = getattr(transformers, f"{family.removesuffix('Encoder')}Config")(**OTHERS[family])
    model = nn.Module()
    model.encoder = getattr(transformers, f"{family}Model")(config)
    model.head = nn.Linear(8, 2)
    groups = transfer.layer_groups(model)
    assert list(groups) == GROUPS
    ids = [id(p) for group in groups.values() for p in group]
    assert sorted(ids) == sorted(id(p) for p in model.parameters()), "each in one group"
    names = {id(p): name for name, p in model.named_parameters()}
    assert any(p is model.encoder.get_input_embeddings().weight for p in groups["embeddings"])
    above = {names[id(p)].removesuffix(".weight").removesuffix(".bias") for p in groups["head"]}
    pooler, last_norm = {"pooler.dense"}, {"norm", "ln_f", "encoder.final_layer_norm"}
    assert "head" in above
    assert above <= {"head"} | {f"encoder.{part}" for part in pooler | last_norm}


# --- the slanted triangular schedule --------------------------------------------------------------


def test_slanted_triangular_by_hand():
    """20 steps, 2 of them up (p = 0, 1/2), 18 down (p = 1, 17/18 … 1/18); share (1 + 31 p) / 32."""
    rate = transfer.slanted_triangular(cut_frac=0.1, ratio=32)
    shares = [Fraction(0), Fraction(1, 2), *(Fraction(18 - k, 18) for k in range(18))]
    expected = [float((1 + 31 * p) / 32) for p in shares]
    assert [rate(step, 20) for step in range(20)] == pytest.approx(expected)
    assert rate(0, 20) == 1 / 32
    assert rate(2, 20) == 1
    assert rate(19, 20) == pytest.approx((1 + 31 / 18) / 32)  # 0.0851: not yet all the way down


def test_slanted_triangular_takes_other_shares_and_ratios():
    rate = transfer.slanted_triangular(cut_frac=0.29, ratio=10)  # 0.29 * 100 is 28.999…
    assert rate(29, 100) == 1
    assert rate(28, 100) == pytest.approx((1 + 9 * 28 / 29) / 10)
    assert rate(99, 100) == pytest.approx((1 + 9 / 71) / 10)


@pytest.mark.parametrize("total", [1, 2, 5, 9, 10, 19])
def test_a_run_shorter_than_the_rise_still_has_rates(total):
    rate = transfer.slanted_triangular()  # fewer than 10 steps: one of them rises, 9 would fall
    expected = [1 / 32, *((1 + 31 * max(0, 1 - k / 9)) / 32 for k in range(total - 1))]
    assert [rate(step, total) for step in range(total)] == pytest.approx(expected)


@given(st.integers(1, 3000), st.floats(0.001, 0.999), st.floats(1, 100))
def test_the_share_stays_between_the_lowest_and_one_with_one_peak(total, cut_frac, ratio):
    rate = transfer.slanted_triangular(cut_frac, ratio)
    found = np.array([rate(step, total) for step in range(total)])
    assert found.min() >= 1 / ratio - 1e-12 > 0
    assert found.max() <= 1 + 1e-12
    peak = found.argmax()
    assert np.all(np.diff(found[: peak + 1]) >= -1e-12)
    assert np.all(np.diff(found[peak:]) <= 1e-12)


# --- gradual unfreezing ---------------------------------------------------------------------------


def small(**options):
    torch.manual_seed(0)
    return TextCNN(torch.randn(20, 4), n_classes=2, filters=3, **options)


def texts(n=24):
    rng = np.random.default_rng(0)
    return Encoded([rng.integers(1, 20, 6) for _ in range(n)], rng.integers(0, 2, n))


def snapshot(model):
    return {n: [p.detach().clone() for p in g] for n, g in transfer.layer_groups(model).items()}


def changed(before, after):
    same = {n: all(map(torch.equal, before[n], after[n])) for n in before}
    return [name for name in before if not same[name]]


def watched(model, callback):
    """A callback that does `callback` and notes what has changed since the epoch before."""
    seen = []

    def watch(model, epoch):
        seen.append(snapshot(model))
        callback(model, epoch)

    return watch, lambda: [changed(*pair) for pair in pairwise([*seen, snapshot(model)])]


SETTINGS = {"batch_size": 8, "progress": False}


@pytest.mark.parametrize("rates", ["one rate", "discriminative"])
def test_one_more_group_changes_in_each_epoch_the_head_first(rates):
    model = small()
    groups = {"groups": transfer.parameter_groups(model, 0.01, 2.6, weight_decay=0.5)}
    given = groups if rates == "discriminative" else {"lr": 0.01, "weight_decay": 0.5}
    watch, epochs = watched(model, transfer.gradual_unfreezing(model))
    fit(model, texts(), epochs=4, callbacks=[watch], **given, **SETTINGS)
    every = ["embeddings", "windows", "head"]
    assert epochs() == [["head"], ["windows", "head"], every, every]


def test_it_unfreezes_a_transformers_encoder_layer_by_layer(model):
    watch, epochs = watched(model, transfer.gradual_unfreezing(model))
    groups = transfer.parameter_groups(model, 0.01, factor=2.6)
    fit(model, texts(), epochs=5, groups=groups, callbacks=[watch], **SETTINGS)
    assert epochs() == [GROUPS[-k:] for k in range(1, 6)]


def test_what_is_trainable_depends_on_the_epoch_alone():
    model = small()
    callback = transfer.gradual_unfreezing(model)
    for epoch in (2, 0, 1, 9):
        callback(model, epoch)
        groups = list(transfer.layer_groups(model).values())[::-1]
        due = [all(p.requires_grad for p in group) for group in groups]
        assert due == [depth <= epoch for depth in range(3)]


def test_a_resumed_run_unfreezes_as_one_that_nothing_stopped(tmp_path):
    power = []

    def run(model, **options):
        groups = transfer.parameter_groups(model, 0.01, factor=2.6)
        callbacks = [transfer.gradual_unfreezing(model), power_cut]
        fit(model, texts(), epochs=4, groups=groups, callbacks=callbacks, **SETTINGS, **options)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    def power_cut(model, epoch):
        if epoch in power:
            power.clear()
            raise KeyboardInterrupt

    file = tmp_path / "run.pt"
    power.append(2)
    with pytest.raises(KeyboardInterrupt):
        run(small(), checkpoint=file)
    assert torch.equal(run(small(), checkpoint=file), run(small()))


def test_neither_decay_nor_momentum_nor_an_old_gradient_moves_a_frozen_group():
    """Frozen after it has learned: AdamW has averages of its gradients, and one is still there."""
    model = small()
    callback = transfer.gradual_unfreezing(model)

    def refreeze(model, epoch):
        if epoch == 1:
            batch = texts().collate([texts()[0]])
            model(batch["input_ids"], batch["attention_mask"]).sum().backward()
        callback(model, {0: 2, 1: 0}[epoch])  # all groups, then the head alone

    watch, epochs = watched(model, refreeze)
    fit(model, texts(), epochs=2, lr=0.01, weight_decay=0.9, callbacks=[watch], **SETTINGS)
    assert epochs() == [["embeddings", "windows", "head"], ["head"]]


def test_what_was_frozen_on_purpose_stays_so():
    model = small(freeze=True)
    watch, epochs = watched(model, transfer.gradual_unfreezing(model))
    fit(model, texts(), epochs=3, callbacks=[watch], **SETTINGS)
    assert epochs() == [["head"], ["windows", "head"], ["windows", "head"]]
    assert not model.embedding.weight.requires_grad  # its gradient would count when clipping

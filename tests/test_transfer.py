"""Layer groups, freezing and rates, on a small BERT with random weights and on plain modules."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel

from helpers import transfer
from helpers.models.encoder import EncoderClassifier

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
        transfer.parameter_groups(model, 1e-3, rates={"top": 1.0})


def test_each_group_below_learns_more_slowly_by_the_factor(model):
    groups = transfer.parameter_groups(model, lr=0.01, factor=2.6)
    rates = {group["name"]: group["lr"] for group in groups}
    assert list(rates) == GROUPS[::-1]
    assert list(rates.values()) == pytest.approx([0.01 / 2.6**k for k in range(5)])
    head = transfer.parameter_groups(model, lr=0.01, rates={"head": 0.5})
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

"""BERT as written here against transformers' own, weights copied, to 1e-5."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForPreTraining, BertModel, RobertaConfig

from helpers.models.bert import Bert, translate

CLOSE = {"atol": 1e-5, "rtol": 0}
SHAPES = {
    "two heads": {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16},
    "one deep head": {"num_hidden_layers": 4, "num_attention_heads": 1, "hidden_size": 12},
    "wide": {"num_hidden_layers": 1, "num_attention_heads": 8, "hidden_size": 64},
}


def config(name="two heads", **changes):
    small = {"vocab_size": 60, "intermediate_size": 40, "max_position_embeddings": 20}
    return BertConfig(**{**small, **SHAPES[name], **changes})


def batch():
    """Three texts of 9, 5 and 1 pieces with padding, in two segments."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 60, (3, 9), generator=generator)
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] + [0] * 8])
    return {"input_ids": ids * mask, "attention_mask": mask,
            "token_type_ids": (torch.arange(9) > 3).long().expand(3, 9) * mask}  # fmt: skip


@pytest.fixture(params=SHAPES)
def pair(request):
    """Transformers' model with random weights, norms and biases included, and ours with its."""
    torch.manual_seed(0)
    theirs = BertModel(config(request.param)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    ours = Bert(theirs.config).eval()
    ours.load_state_dict(translate(theirs.state_dict()))
    return theirs, ours


@torch.no_grad()
def test_all_layers_are_those_of_bertmodel(pair):
    theirs, ours = pair
    inputs = batch()
    expected = theirs(**inputs, output_hidden_states=True)
    states, _ = ours(**inputs)
    assert len(states) == len(expected.hidden_states)
    real = inputs["attention_mask"].bool()
    for found, wanted in zip(states, expected.hidden_states, strict=True):
        torch.testing.assert_close(found[real], wanted[real], **CLOSE)


@torch.no_grad()
def test_attention_weights_sum_to_one_and_none_goes_to_padding(pair):
    _, ours = pair
    inputs = batch()
    for weights in ours(**inputs)[1]:
        torch.testing.assert_close(weights.sum(3), torch.ones_like(weights.sum(3)))
        assert not weights.masked_select(inputs["attention_mask"][:, None, None] == 0).any()


@torch.no_grad()
def test_padding_changes_nothing(pair):
    _, ours = pair
    inputs = batch()
    alone = {name: tensor[1:2, :5] for name, tensor in inputs.items()}
    torch.testing.assert_close(ours(**alone)[0][-1], ours(**inputs)[0][-1][1:2, :5], **CLOSE)


def test_gradients_are_those_of_transformers(pair):
    theirs, ours = pair
    inputs = batch()
    real = inputs["attention_mask"].bool()
    theirs(**inputs).last_hidden_state[real].square().sum().backward()
    ours(**inputs)[0][-1][real].square().sum().backward()
    found, wanted = ours.word.weight.grad, theirs.embeddings.word_embeddings
    torch.testing.assert_close(found, wanted.weight.grad, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("kind", [BertModel, BertForPreTraining])
@torch.no_grad()
def test_a_saved_model_is_loaded_with_or_without_heads(kind, tmp_path):
    torch.manual_seed(0)
    theirs = kind(config()).eval()
    theirs.save_pretrained(tmp_path)
    loaded = Bert.load(str(tmp_path))
    assert not loaded.training
    expected = getattr(theirs, "bert", theirs)(**batch()).last_hidden_state
    real = batch()["attention_mask"].bool()
    torch.testing.assert_close(loaded(**batch())[0][-1][real], expected[real], **CLOSE)


def test_it_starts_as_the_paper_says():
    torch.manual_seed(0)
    for name, weights in Bert(config("wide")).named_parameters():
        if name.endswith("bias"):
            assert not weights.any()
        elif "norm" in name:
            assert (weights == 1).all()
        else:
            assert weights.std().item() == pytest.approx(0.02, rel=0.15)
            assert abs(weights.mean()) < 0.002


def test_an_encoder_that_lacks_a_layer_is_refused_and_one_without_pooler_is_not(tmp_path):
    BertModel(config()).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    for part in ("pooler.", "encoder.layer.1."):
        rest = {key: weight for key, weight in whole.items() if not key.startswith(part)}
        assert len(rest) < len(whole)
        save_file(rest, file, metadata={"format": "pt"})
        if part == "pooler.":
            Bert.load(str(tmp_path))
    with pytest.raises(ValueError, match=r"lacks weights of its encoder: .*layer\.1\."):
        Bert.load(str(tmp_path))


def test_another_kind_of_model_is_refused(tmp_path):
    RobertaConfig(hidden_size=16, num_attention_heads=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is roberta .*this file reads bert"):
        Bert.load(str(tmp_path))
    file = tmp_path / "config.json"
    BertConfig(hidden_act="relu").save_pretrained(tmp_path)
    assert json.loads(file.read_text())["hidden_act"] == "relu"
    with pytest.raises(ValueError, match="bert with relu"):
        Bert.load(str(tmp_path))


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="21 positions are too many: this BERT has 20"):
        Bert(config())(torch.ones(1, 21, dtype=torch.long), torch.ones(1, 21))


def test_dropout_is_on_in_training_and_follows_the_seed():
    model = Bert(config(hidden_dropout_prob=0.5)).train()
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(model(**batch())[0][-1])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@torch.no_grad()
def test_a_text_that_is_masked_altogether_gives_numbers_and_disturbs_no_other(pair):
    _, ours = pair
    inputs = batch()
    inputs["attention_mask"][1] = 0
    states, attentions = ours(**inputs)
    assert all(part.isfinite().all() for part in (*states, *attentions))
    for row in (0, 2):
        torch.testing.assert_close(states[-1][row], ours(**batch())[0][-1][row], **CLOSE)
    half = ours.half()
    assert half(**inputs)[1][0].isfinite().all()

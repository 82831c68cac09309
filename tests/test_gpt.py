"""GPT-2 as written here against transformers' own, weights copied, to 1e-5; and its generation."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    PreTrainedTokenizerFast,
    ViTConfig,
)
from transformers.generation import logits_process

from helpers.models import GPT, GPTConfig, gpt, load_decoder
from helpers.models.gpt import choose
from helpers.training import language_models

CLOSE = {"atol": 1e-5, "rtol": 0}
SHAPES = {
    "two heads": {"n_layer": 2, "n_head": 2, "n_embd": 16},
    "one deep head": {"n_layer": 4, "n_head": 1, "n_embd": 12},
    "wide": {"n_layer": 1, "n_head": 8, "n_embd": 64, "layer_norm_epsilon": 1e-3},
}


def theirs_of(shape="two heads", **changes):
    """Transformers' model with random weights, biases and norms included."""
    sizes = {"vocab_size": 60, "n_positions": 24, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**{**sizes, **SHAPES[shape], **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def ours_of(theirs):
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "layer_norm_epsilon")
    ours = GPT(GPTConfig(**{name: getattr(theirs.config, name) for name in names}))
    ours.load_state_dict(theirs.state_dict())
    return ours.eval()


@pytest.fixture(params=SHAPES)
def pair(request):
    theirs = theirs_of(request.param)
    return theirs, ours_of(theirs)


@pytest.fixture(scope="module")
def model():
    return ours_of(theirs_of())


def batch(side):
    """Three texts of 9, 5 and 1 tokens, padded on one side: ids, mask and positions."""
    ids = torch.randint(1, 60, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] + [0] * 8])
    mask = mask.flip(1) if side == "left" else mask
    return ids * mask, mask, (mask.cumsum(1) - 1).clamp(min=0)


# --- equal to transformers -----------------------------------------------------------------------


@torch.no_grad()
def test_logits_of_whole_texts(pair):
    theirs, ours = pair
    ids, _, _ = batch("right")
    torch.testing.assert_close(ours(ids), theirs(ids).logits, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("side", ["right", "left"])
def test_logits_of_padded_batches(pair, side):
    theirs, ours = pair
    ids, mask, positions = batch(side)
    wanted = theirs(ids, attention_mask=mask, position_ids=positions).logits
    found, real = ours(ids, mask), mask.bool()
    torch.testing.assert_close(found[real], wanted[real], **CLOSE)
    assert found.isfinite().all()
    for row in range(3):  # and padding changes nothing
        alone = ours(ids[row, real[row]][None])
        torch.testing.assert_close(found[row, real[row]], alone[0], **CLOSE)


def test_loss_and_gradients(pair):
    theirs, ours = pair
    ids, _, _ = batch("right")
    wanted = theirs(ids, labels=ids).loss
    found, nats, state = ours.loss(ids)
    assert state is None
    assert not nats.requires_grad
    torch.testing.assert_close(found, wanted, **CLOSE)
    wanted.backward()
    found.backward()
    others = dict(theirs.named_parameters())
    assert len(others) == len(list(ours.parameters()))
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, others[name].grad, atol=1e-4, rtol=1e-4)


def test_gradients_reach_a_padded_batch_and_are_finite(model):
    ids, mask, _ = batch("left")
    ours = ours_of(theirs_of())
    ours(ids, mask)[mask.bool()].square().mean().backward()
    assert all(p.grad.isfinite().all() for p in ours.parameters())


# --- the future -----------------------------------------------------------------------------------


@torch.no_grad()
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_future_token_changes_an_earlier_logit(model, data):
    tokens = st.integers(0, 59)
    ids = torch.tensor([data.draw(st.lists(tokens, min_size=2, max_size=24))])
    at = data.draw(st.integers(1, ids.size(1) - 1))
    other = ids.clone()
    other[0, at:] = torch.tensor([data.draw(tokens) for _ in range(ids.size(1) - at)])
    torch.testing.assert_close(model(other)[:, :at], model(ids)[:, :at], atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_past_token_changes_later_logits(model):
    ids, _, _ = batch("right")
    other = ids.clone()
    other[:, 0] = (ids[:, 0] + 1) % 60
    changed = (model(other) - model(ids)).abs().amax(2)
    assert changed.min() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_text_in_two_parts_through_the_cache_is_the_whole_text(model, side, cut):
    ids, mask, _ = batch(side or "right")
    mask = mask if side else None
    whole, _ = model.states(ids, mask)
    first, cache = model.states(ids[:, :cut], None if mask is None else mask[:, :cut])
    rest, cache = model.states(ids[:, cut:], mask, cache)
    assert cache[0][0].shape == (3, 2, 9, 8)
    torch.testing.assert_close(torch.cat([first, rest], 1), whole, **CLOSE)


def test_it_starts_as_gpt_2_does():
    """Radford et al. 2019: outputs that add up are smaller by the root of how many there are."""
    torch.manual_seed(0)
    for name, weight in GPT(GPTConfig(500, 32, 64, 8, 2)).named_parameters():
        if weight.ndim == 2:
            std = 0.02 / 4 if "c_proj" in name else 0.02
            assert weight.std().item() == pytest.approx(std, rel=0.1), name
        elif name.endswith("bias"):
            assert not weight.any(), name


# --- generation -----------------------------------------------------------------------------------


def test_greedy_generation_is_that_of_transformers(pair):
    theirs, ours = pair
    ids, _, _ = batch("right")
    wanted = theirs.generate(ids, do_sample=False, max_new_tokens=12, eos_token_id=None)
    assert torch.equal(ours.generate(ids, max_new_tokens=12), wanted)


def test_greedy_generation_from_prompts_of_different_lengths(pair):
    theirs, ours = pair
    ids, mask, _ = batch("left")
    how = {"do_sample": False, "max_new_tokens": 12, "eos_token_id": None}
    wanted = theirs.generate(ids, attention_mask=mask, **how)
    assert torch.equal(ours.generate(ids, mask, max_new_tokens=12), wanted)
    alone = ours.generate(ids[1:2, 4:], max_new_tokens=12)
    assert torch.equal(ours.generate(ids, mask, max_new_tokens=12)[1, 4:], alone[0])


def test_greedy_generation_with_a_penalty_is_that_of_transformers(pair):
    theirs, ours = pair
    ids, _, _ = batch("right")
    how = {"repetition_penalty": 1.7, "max_new_tokens": 12}
    wanted = theirs.generate(ids, do_sample=False, eos_token_id=None, **how)
    found = ours.generate(ids, **how)
    assert torch.equal(found, wanted)
    assert not torch.equal(found, ours.generate(ids, max_new_tokens=12))


def test_a_penalty_spares_what_only_padding_shows(model, monkeypatch):
    seen = []
    monkeypatch.setattr(gpt, "choose", lambda logits, shown, **_: seen.append(shown) or shown[:, 0])
    ids, mask, _ = batch("left")
    padded = torch.where(mask.bool(), ids.clamp(min=1), 0)
    model.generate(padded, mask, max_new_tokens=1, repetition_penalty=1.7)
    assert not (seen[0] == 0).any()


DRAWS = [{}, {"temperature": 1.0}, {"temperature": 0.7, "top_k": 5},
         {"temperature": 1.3, "top_p": 0.8, "repetition_penalty": 1.2}]  # fmt: skip


@pytest.mark.parametrize("how", DRAWS)
@pytest.mark.parametrize("side", [None, "left"])
def test_the_cache_changes_no_token(model, how, side):
    ids, mask, _ = batch(side or "right")
    found = [
        model.generate(ids, mask if side else None, max_new_tokens=15, use_cache=cached,
                       generator=torch.Generator().manual_seed(3), **how)
        for cached in (True, False)
    ]  # fmt: skip
    assert found[0].shape == (3, 24)
    assert torch.equal(*found)


def test_the_generator_alone_decides_and_the_global_state_stays(model):
    ids, _, _ = batch("right")
    state = torch.get_rng_state()
    draw = [
        model.generate(ids, temperature=2.0, max_new_tokens=15,
                       generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert torch.equal(state, torch.get_rng_state())


def test_a_text_ends_at_the_stop_token(model):
    ids, _, _ = batch("right")
    free = model.generate(ids, max_new_tokens=15)[:, 9:]
    stop = int(free[0, 4])
    found = model.generate(ids, max_new_tokens=15, stop=stop)[:, 9:]
    for row, ended in zip(free.tolist(), found.tolist(), strict=True):
        until = row.index(stop) + 1 if stop in row else len(row)
        assert ended[:until] == row[: min(until, len(ended))]
        assert set(ended[until:]) <= {stop}
    one = model.generate(ids[:1], max_new_tokens=15, stop=stop)
    assert one[0, -1] == stop
    assert one.size(1) == 9 + free[0].tolist().index(stop) + 1


def one_after_the_other(*processors):
    return logits_process.LogitsProcessorList(processors)


def logits(rows=64):
    return torch.randn(rows, 40, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize(
    ("how", "process"),
    [
        ({"top_k": 7}, logits_process.TopKLogitsWarper(7)),
        ({"top_p": 0.6}, logits_process.TopPLogitsWarper(0.6)),
        ({"top_p": 1e-9}, logits_process.TopPLogitsWarper(1e-9)),
        ({"temperature": 3.0}, logits_process.TemperatureLogitsWarper(3.0)),
        ({"top_k": 400}, logits_process.TopKLogitsWarper(400)),
        ({"repetition_penalty": 2.5}, logits_process.RepetitionPenaltyLogitsProcessor(2.5)),
        (
            {"temperature": 2.0, "top_p": 0.6},
            one_after_the_other(
                logits_process.TemperatureLogitsWarper(2.0), logits_process.TopPLogitsWarper(0.6)
            ),
        ),
        (
            {"top_k": 7, "top_p": 0.6},
            one_after_the_other(
                logits_process.TopKLogitsWarper(7), logits_process.TopPLogitsWarper(0.6)
            ),
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else type(value).__name__,
)
def test_draws_follow_the_probabilities_of_transformers_processors(how, process):
    seen = torch.randint(0, 40, (64, 6), generator=torch.Generator().manual_seed(2))
    wanted = process(seen, logits()).softmax(1)
    asked = {"temperature": 1.0, **how, "generator": torch.Generator().manual_seed(5)}
    rows = wanted.repeat_interleave(500, 0)
    drawn = choose(logits().repeat_interleave(500, 0), seen.repeat_interleave(500, 0), **asked)
    assert (rows.gather(1, drawn[:, None]) > 0).all()  # nothing that they exclude
    share = F.one_hot(drawn, 40).view(64, 500, 40).float().mean(1)
    assert (share - wanted).abs().max() < 0.12
    assert (share - wanted).abs().mean() < 0.006


def test_temperature_zero_is_the_likeliest_and_a_penalty_moves_what_was_seen():
    assert torch.equal(choose(logits()), logits().argmax(1))
    best = logits().argmax(1, keepdim=True)
    moved = choose(logits(), best, repetition_penalty=50.0)
    assert (moved != best[:, 0]).all()


@pytest.mark.parametrize("how", [{"temperature": -0.1}, {"top_k": -1}, {"top_p": 0.0},
                                 {"top_p": 1.5}, {"repetition_penalty": 0.0},
                                 {"top_k": 7, "temperature": 0.0},
                                 {"top_p": 0.9, "temperature": 0.0}])  # fmt: skip
def test_senseless_settings_are_refused(how):
    with pytest.raises(ValueError, match=next(iter(how))) as refused:
        choose(logits(), **{"temperature": 1.0, **how})
    assert "\n" not in str(refused.value)


# --- lengths and padding --------------------------------------------------------------------------


def test_a_prompt_longer_than_the_context_is_one_sentence(model):
    with pytest.raises(ValueError, match="reads 24 tokens: a prompt of 30 and 1 new") as refused:
        model.generate(torch.ones(1, 30, dtype=torch.long), max_new_tokens=1)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="a prompt of 20 and 5 new ones are too many"):
        model.generate(torch.ones(1, 20, dtype=torch.long), max_new_tokens=5)
    assert model.generate(torch.ones(1, 20, dtype=torch.long), max_new_tokens=4).size(1) == 24
    with pytest.raises(ValueError, match="a text of 25 tokens is too long: this model reads 24"):
        model(torch.ones(1, 25, dtype=torch.long))


def test_prompts_without_a_last_token_are_refused(model):
    ids, mask, _ = batch("right")
    with pytest.raises(ValueError, match="pad on the left"):
        model.generate(ids, mask, max_new_tokens=3)
    with pytest.raises(ValueError, match="empty"):
        model.generate(ids[:, :0], max_new_tokens=3)


# --- folders and checkpoints ----------------------------------------------------------------------


@torch.no_grad()
def test_a_saved_model_is_loaded_by_name(pair, tmp_path):
    theirs, ours = pair
    theirs = copy.deepcopy(theirs)
    theirs.config.resid_pdrop = 0.3
    theirs.save_pretrained(tmp_path)
    loaded = GPT.load(str(tmp_path))
    ids, mask, _ = batch("right")
    assert not loaded.training
    assert loaded.config.dropout == 0.3
    assert loaded.lm_head.weight is loaded.transformer["wte"].weight
    torch.testing.assert_close(loaded(ids, mask), ours(ids, mask), **CLOSE)


@torch.no_grad()
def test_a_body_saved_without_its_head_is_loaded_too(tmp_path):
    theirs = theirs_of()
    body = GPT2Model(theirs.config)
    body.load_state_dict(theirs.transformer.state_dict())
    body.save_pretrained(tmp_path)
    ids, _, _ = batch("right")
    torch.testing.assert_close(GPT.load(str(tmp_path))(ids), theirs(ids).logits, **CLOSE)


def test_a_folder_of_other_shapes_or_without_a_layer_is_refused(tmp_path):
    theirs_of().save_pretrained(tmp_path)
    file, settings_ = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole, facts = load_file(file), json.loads(settings_.read_text())
    settings_.write_text(json.dumps(facts | {"n_embd": 12}))
    with pytest.raises(ValueError, match=r"weights do not fit its config\.json"):
        GPT.load(str(tmp_path))
    settings_.write_text(json.dumps(facts))
    rest = {key: weight for key, weight in whole.items() if ".h.1.attn.c_attn." not in key}
    assert len(rest) < len(whole)
    save_file(rest, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights .*h\.1\.attn\.c_attn"):
        GPT.load(str(tmp_path))


def test_a_model_that_is_no_decoder_of_this_kind_is_one_sentence(tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=9, intermediate_size=6, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"of the kind bert.*reads decoders of .*gpt2") as refused:
        GPT.load(str(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_decoder_of_any_kind_comes_with_its_tokenizer_and_an_encoder_is_refused(tmp_path):
    theirs_of().save_pretrained(tmp_path / "gpt")
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), eos_token="<|endoftext|>")
    words.save_pretrained(tmp_path / "gpt")
    decoder, found = load_decoder(str(tmp_path / "gpt"))
    assert not decoder.training
    ids = found("w3 w4", return_tensors="pt")["input_ids"]
    torch.testing.assert_close(decoder(ids).logits, theirs_of()(ids).logits, **CLOSE)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    for kind in (BertConfig(**sizes), ViTConfig(**sizes)):
        kind.save_pretrained(tmp_path / kind.model_type)
        with pytest.raises(ValueError, match=f"kind {kind.model_type}, which is no dec") as refused:
            load_decoder(str(tmp_path / kind.model_type))
        assert "\n" not in str(refused.value)


ODD = {"activation_function": "relu", "n_inner": 24, "scale_attn_by_inverse_layer_idx": True,
       "tie_word_embeddings": False, "scale_attn_weights": False}  # fmt: skip


@pytest.mark.parametrize("setting", ODD)
def test_a_gpt2_that_computes_otherwise_is_refused(setting, tmp_path):
    theirs_of(**{setting: ODD[setting]}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"has {setting}="):
        GPT.load(str(tmp_path))


def tokenizer(n=60):
    words = {"<|endoftext|>": 0, **{f"w{i}": i for i in range(1, n)}}
    found = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    return found


@torch.no_grad()
def test_a_checkpoint_brings_its_tokenizer_and_its_origin(model, tmp_path):
    model.save(tmp_path / "my", tokenizer(), {"corpus": "toy"})
    loaded, words, about = GPT.from_checkpoint(tmp_path / "my")
    ids, mask, _ = batch("right")
    assert about == {"corpus": "toy"}
    assert loaded.config == model.config
    assert words("w3 w59")["input_ids"] == [3, 59]
    assert words.pad_token_id == 0
    assert words.model_max_length == 24
    torch.testing.assert_close(loaded(ids, mask), model(ids, mask), atol=0.1, rtol=0)  # halves
    model.save(tmp_path / "my", tokenizer(59), {})
    with pytest.raises(ValueError, match="has 59 tokens, its model 60"):
        GPT.from_checkpoint(tmp_path / "my")
    (tmp_path / "my.json").write_text("{")
    with pytest.raises(ValueError, match=r"my\.json is no tokenizer"):
        GPT.from_checkpoint(tmp_path / "my")


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="multiple of the number of heads"):
        GPT(GPTConfig(n_embd=10, n_head=3))


# --- training -------------------------------------------------------------------------------------


def test_a_small_model_learns_a_text_and_says_how_well(tmp_path):
    torch.manual_seed(0)
    ids = torch.arange(4000).remainder(7).numpy()
    small = GPT(GPTConfig(vocab_size=7, n_positions=16, n_embd=8, n_layer=1, n_head=2, dropout=0))
    before = language_models.perplexity(small, ids, length=16)
    how = {"steps": 60, "batch_size": 4, "length": 16, "random_lengths": False, "lr": 1e-2}
    fit = language_models.fit_language_model(small, ids, progress=False, **how)
    after = language_models.perplexity(small, ids, length=16)
    assert 5 < before < 9
    assert after < 1.5
    assert len(fit.history)


def test_dropout_is_on_in_training_alone_and_follows_the_seed(model):
    noisy = GPT(replace(model.config, dropout=0.5)).train()
    ids, _, _ = batch("right")
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(noisy(ids))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(noisy.eval()(ids), noisy(ids))

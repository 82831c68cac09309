"""Notebook 07's way to ask a decoder for a label: likelihoods, and what is too long."""

import copy
from types import SimpleNamespace

import form
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from helpers.text import Encoded
from helpers.training.precision import autocast

FUNCTIONS = ("label_tokens", "check_fits", "behind", "label_scores")


class Letters:
    """A tokenizer that makes a token of each letter."""

    def __call__(self, texts, return_tensors=None, **_):
        rows = [[1 + ord(letter) % 50 for letter in t] for t in np.atleast_1d(texts)]
        rows = rows if isinstance(texts, list) else rows[0]
        return {"input_ids": torch.tensor([rows]) if return_tensors else rows}


@pytest.fixture(scope="module")
def asking():
    """The notebook's functions over a small random decoder that reads 40 tokens."""
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(vocab_size=60, n_positions=40, n_embd=16, n_layer=2, n_head=2, **ends)
    names = {"np": np, "torch": torch, "Encoded": Encoded, "autocast": autocast}
    names |= {
        "precision": "float32",
        "device": "cpu",
        "model_name": "small",
        "decoder_tokenizer": Letters(),
    }
    names |= {"decoder": GPT2LMHeadModel(config).eval(), "copy": copy}
    for cell in form.code(form.notebook("07_gpt")):
        if any(f"def {name}(" in cell.source for name in FUNCTIONS):
            exec(compile(cell.source, "<cell>", "exec"), names)
    return SimpleNamespace(**{name: names[name] for name in (*FUNCTIONS, "decoder")})


def log_likelihood(decoder, text: str, label: str, n_tokens: int) -> float:
    """In the plainest way: one text, one label, no cache, no padding."""
    read, label = Letters()(text)["input_ids"], Letters()(label)["input_ids"][:n_tokens]
    ids = torch.tensor([[*read, *label]])
    with torch.no_grad():
        log_p = F.log_softmax(decoder(ids).logits[0], 1)
    return sum(log_p[len(read) + k - 1, token].item() for k, token in enumerate(label))


@pytest.mark.parametrize(
    ("labels", "n_tokens"),
    [(["bad", "good"], 2), (["good", "goad", "gap"], 4), (["a", "ab", "b"], 3)],
)
def test_a_score_is_the_likelihood_of_the_label_up_to_where_labels_differ(labels, n_tokens, asking):
    shots, prompts = "fine good\n", ["well:", "not so well:", "x:"]
    found = asking.label_scores(shots, prompts, labels, batch=2)
    right = [
        [log_likelihood(asking.decoder, shots + p, f" {label}\n\n", n_tokens) for label in labels]
        for p in prompts
    ]
    np.testing.assert_allclose(found, right, atol=1e-4)


def joining_tokenizer():
    """A byte-level BPE with a token for two line breaks, which GPT-2's splitting into words uses
    at the end of a text alone."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = [*"\u0120\u010a.:", *map(chr, range(ord("a"), ord("z") + 1))]
    trainer = trainers.BpeTrainer(vocab_size=40, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["a\n\n"] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made)


@pytest.mark.parametrize("labels", [["yes", "no"], ["good", "good film"]])
def test_the_prompt_has_the_tokens_of_the_whole_text(labels, asking, monkeypatch):
    """A piece of a text can have other tokens than the same piece within the text."""
    tokenizer, shots = joining_tokenizer(), "it: yes\n\nso: no\n\n"
    assert [len(tokenizer(text)["input_ids"]) for text in ("a\n\n", "a\n\na")] == [2, 4]
    monkeypatch.setitem(asking.label_tokens.__globals__, "decoder_tokenizer", tokenizer)
    _, depth = asking.label_tokens(labels)
    found = asking.label_scores(shots, ["a:", "b c:"], labels)
    for prompt, scores in zip(["a:", "b c:"], found, strict=True):
        for label, score in zip(labels, scores, strict=True):
            before = len(tokenizer(shots + prompt)["input_ids"])
            ids = tokenizer(f"{shots}{prompt} {label}\n\nb", return_tensors="pt")["input_ids"]
            with torch.no_grad():
                log_p = F.log_softmax(asking.decoder(ids).logits[0], 1)
            right = [log_p[k - 1, ids[0, k]].item() for k in range(before, before + depth)]
            assert score == pytest.approx(sum(right), abs=1e-4)


def test_the_batch_changes_nothing(asking):
    given = ("yes yes\n", ["a:", "bcd:", "ef:"], ["yes", "no"])
    one, many = (asking.label_scores(*given, batch=size) for size in (1, 8))
    np.testing.assert_allclose(one, many, atol=1e-4)


def test_a_prompt_longer_than_the_context_is_one_sentence(asking):
    with pytest.raises(ValueError, match="too long, small reads 40: take fewer") as refused:
        asking.label_scores("example\n" * 5, ["text:"], ["yes", "no"])
    assert "\n" not in str(refused.value)

"""Models make their tensors where their inputs are: no factory call falls back to the CPU."""

import form
import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import BertConfig

from helpers.models import GPT, BiLSTMTagger, TextCNN
from helpers.models.awd_lstm import AWDLSTMConfig, Classifier, LanguageModel
from helpers.models.bert import Bert
from helpers.models.crf import CRF, decode, probabilities
from helpers.models.elmo import BidirectionalLM, Elmo, ElmoConfig, ScalarMix
from helpers.models.gpt import GPTConfig

FACTORIES = {"arange", "zeros", "ones", "full", "empty", "tensor", "as_tensor", "from_numpy"}
FACTORIES |= {"rand", "randn", "randint", "randperm", "eye", "linspace"}


class NoDefaultDevice(TorchFunctionMode):
    """Fails where a tensor is made without saying on which device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in FACTORIES and (kwargs or {}).get("device") is None:
            raise AssertionError(f"torch.{func.__name__} without a device")
        return func(*args, **(kwargs or {}))


def ones(*shape):
    return torch.ones(shape, dtype=torch.long)


ELMO = ElmoConfig(dim=12, projection=6, character_dim=3, filters=[(1, 4), (3, 5)], n_highway=1,
                  max_characters=10)  # fmt: skip
AWD = AWDLSTMConfig(30, 6, 10)
BERT = {"vocab_size": 60, "intermediate_size": 40, "hidden_size": 16, "num_attention_heads": 2}


def of_notebook(name: str, title: str, **names):
    """What a cell of a notebook defines as `title`."""
    (cell,) = [c for c in form.code(form.notebook(name)) if title in c.source]
    exec(compile(cell.source, "<cell>", "exec"), names)
    return names[title.split()[1]]


def steps():
    """What is run, and its inputs, made before."""
    vectors = torch.zeros(9, 4)
    bert = Bert(BertConfig(**BERT, num_hidden_layers=1))
    tagger = BiLSTMTagger(vectors, 2, characters=5, shapes=True)
    crf, emissions = CRF(3), torch.ones(2, 5, 3)
    owner = torch.nn.Module()
    owner.crf, rows = CRF(3), [np.ones((4, 3), np.float32), np.ones((2, 3), np.float32)]
    elmo, classifier, lm = Elmo(ELMO), Classifier(AWD, 2), LanguageModel(AWD)
    both, mix = BidirectionalLM(ELMO, list("abcdef"), 5), ScalarMix(2)
    small = GPTConfig(9, 12, 4, 1, 1)
    unmasked = of_notebook("07_gpt", "class Unmasked", GPT=GPT, torch=torch)(small)
    decoder = GPT(small)
    cnn, characters, spelt = TextCNN(vectors, 2), ones(2, 5, 6), ones(2, 5, 10)
    ids, long, states = ones(2, 5), ones(2, 150), [torch.ones(2, 3)] * 2
    return {
        "TextCNN": lambda: cnn(ids, ids),
        "Bert": lambda: bert(ids, ids),
        "tagger": lambda: tagger(characters, ids),
        "CRF": lambda: crf.nll(emissions, ids, ids),
        "Viterbi": lambda: crf.decode(emissions, ids),
        "marginals": lambda: crf.marginals(emissions, ids),
        "decode": lambda: decode(owner, rows),
        "probabilities": lambda: probabilities(owner, rows),
        "ELMo": lambda: elmo(spelt, ids),
        "biLM": lambda: both.loss(ids),
        "mix": lambda: mix(states),
        "classifier": lambda: classifier(long, long),
        "LM": lambda: lm.loss(ids),
        "GPT": lambda: decoder.states(ids, ids),
        "GPT writes": lambda: decoder.generate(ids, max_new_tokens=3, temperature=1.0, top_p=0.9),
        "GPT without its mask": lambda: unmasked.states(ids),
    }


@pytest.mark.parametrize("name", steps())
def test_every_tensor_is_made_where_its_inputs_are(name):
    step = steps()[name]
    with NoDefaultDevice():
        step()


def test_the_check_sees_a_tensor_made_anywhere():
    with NoDefaultDevice(), pytest.raises(AssertionError, match=r"torch\.arange without a device"):
        torch.arange(3)

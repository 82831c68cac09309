"""bfloat16 or float32: who chooses, what autocast does, and that training holds in both."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import training
from helpers.evaluation import records
from helpers.models import TextCNN
from helpers.models.awd_lstm import AWDLSTMConfig, Classifier, LanguageModel
from helpers.models.crf import CRF, crf_loss
from helpers.models.softmax import softmax_cross_entropy
from helpers.models.tagger import BiLSTMTagger
from helpers.text import Encoded
from helpers.training import precision
from helpers.training.language_models import fit_language_model, perplexity
from helpers.training.precision import autocast, choose, flush_denormals

CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("mode", ["float32", "bf16"])


@pytest.fixture
def machine(monkeypatch):
    """A machine of one's own: `machine(native, speedup)`."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)

    def make(native: bool, speedup: float = 9.0):
        flags = {"avx512_bf16": native, "avx512_f": True, "cpu_name": "one"}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
        monkeypatch.setattr(precision, "speedup", lambda device: speedup)

    return make


@pytest.mark.parametrize(
    ("native", "speedup", "chosen"),
    [(True, 3.0, "bf16"), (True, 1.1, "float32"), (True, 0.5, "float32"), (False, 9.0, "float32")],
)
def test_auto_takes_bf16_where_it_is_native_and_clearly_faster(machine, native, speedup, chosen):
    machine(native, speedup)
    assert choose("auto", CPU) == choose("auto", "cpu") == chosen


@pytest.mark.parametrize("flag", ["amx_bf16", "avx512_bf16", "bf16"])
def test_each_makers_flag_counts_and_its_absence_too(monkeypatch, flag):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {flag: True}, raising=False)
    assert precision.has_bf16(CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {flag: False}, raising=False)
    assert not precision.has_bf16(CPU)
    assert not precision.has_bf16(torch.device("mps"))


def test_a_gpu_that_only_emulates_bf16_counts_as_without(monkeypatch):
    asked = []

    def supported(including_emulation=True):
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert not precision.has_bf16(torch.device("cuda"))
    assert asked == [False]


@pytest.mark.parametrize(("asked", "chosen"), [("no", "float32"), ("bf16", "bf16")])
def test_auto_follows_accelerates_variable_and_names_stand_above_it(
    machine, monkeypatch, asked, chosen
):
    machine(native=asked == "no")  # the measurement alone would say the other
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", asked)
    assert choose("auto", CPU) == chosen
    assert [choose(name, CPU) for name in ("float32", "bf16")] == ["float32", "bf16"]
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="ACCELERATE_MIXED_PRECISION is 'fp16'"):
        choose("auto", CPU)


def test_another_precision_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="unknown precision 'fp16': one of auto, bf16, float32"):
        choose("fp16", CPU)


def test_the_measurement_is_made_once_draws_nothing_and_restores_the_threads():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    precision.speedup.cache_clear()
    with torch.inference_mode():
        first = precision.speedup(CPU)
    assert first > 0
    assert precision.speedup(CPU) == first
    assert precision.speedup.cache_info().misses == 1
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_measurement_divides_the_seconds_of_both(monkeypatch):
    class Timer:
        def __init__(self, statement, globals, **options):
            pass

        def blocked_autorange(self, min_run_time):
            return SimpleNamespace(median=2.0 if torch.is_autocast_enabled("cpu") else 6.0)

    monkeypatch.setattr(precision, "Timer", Timer)
    assert precision.speedup.__wrapped__(CPU) == 3.0


def test_autocast_in_float32_changes_nothing_and_in_bf16_layers_stay_in_it():
    x, linear, norm = torch.randn(4, 8), nn.Linear(8, 8), nn.LayerNorm(8)
    with autocast("float32", CPU):
        assert torch.equal(norm(linear(x)), F.layer_norm(F.linear(x, *linear.parameters()), (8,)))
    with autocast("bf16", CPU):
        assert norm(x).dtype == linear(x).dtype == norm(linear(x)).dtype == torch.bfloat16
    assert norm(linear(x)).dtype == torch.float32
    torch.testing.assert_close(norm(x).bfloat16(), in_bf16(lambda: norm(x)))


def in_bf16(work):
    with autocast("bf16", CPU):
        return work()


def test_dropout_in_bf16_drops_its_share_keeps_the_mean_and_masks_the_gradient():
    x = torch.ones(300, 1001, requires_grad=True)
    torch.manual_seed(0)
    first, second = (in_bf16(lambda: F.dropout(x, p=0.1)) for _ in range(2))
    torch.manual_seed(0)
    assert torch.equal(first, in_bf16(lambda: F.dropout(x, p=0.1)))
    for found in (first, second):
        dropped = found == 0
        assert abs(dropped.float().mean() - 0.1) < 4 * (0.09 / x.numel()) ** 0.5
        assert abs(dropped.float().mean(0).std() - (0.09 / 300) ** 0.5) < 0.002  # no columns
        assert found[~dropped].unique().tolist() == pytest.approx([1 / 0.9], rel=1e-3)
    both = ((first == 0) & (second == 0)).float().mean()
    assert abs(both - 0.01) < 0.001  # one mask says nothing about the next
    (gradient,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(gradient, first)


def test_no_dropout_where_there_is_none_to_do():
    x = torch.ones(40, 40)
    with autocast("bf16", CPU):
        assert torch.equal(F.dropout(x, p=0.5, training=False), x)
        assert torch.equal(F.dropout(x, p=0.0), x)
        assert not F.dropout(x, p=1.0).any()
        assert F.dropout(x, 0.5).any()
        F.dropout(x, p=0.5, inplace=True)
        assert (x == 0).any()
        with pytest.raises(ValueError, match="probability"):
            F.dropout(x, p=1.5)


def reads(places, mask, p, **options):
    """Attention that returns its own weights, since each value is a row of the unit matrix."""
    query, key = torch.randn(2, 3, 2, places, 8, generator=torch.Generator().manual_seed(0))
    value = torch.eye(places).expand(3, 2, places, places)
    attend = F.scaled_dot_product_attention
    return attend(query, key, value, attn_mask=mask, dropout_p=p, **options)


@pytest.mark.parametrize("kind", ["none", "bool", "added"])
def test_attention_in_bf16_reads_what_it_may_and_drops_its_share(kind):
    allowed = torch.arange(40) < torch.tensor([40, 25, 1]).view(3, 1, 1, 1)
    mask = {"none": None, "bool": allowed, "added": torch.where(allowed, 0.0, -1e9)}[kind]
    whole = reads(40, mask, 0.0)
    torch.manual_seed(0)
    found = torch.stack([in_bf16(lambda: reads(40, mask, 0.25)) for _ in range(400)]).float()
    kept = found != 0
    torch.testing.assert_close(
        found[kept], (whole / 0.75).expand_as(found)[kept], rtol=0.03, atol=2e-3
    )
    readable = whole > 1e-6
    assert not kept[:, ~readable].any()  # padding stays out
    assert abs(kept[:, readable].float().mean() - 0.75) < 0.005


def test_attention_without_dropout_or_with_a_causal_mask_is_pytorchs_own():
    for p, options in ((0.0, {}), (0.3, {"is_causal": True}), (0.0, {"scale": 0.1})):
        with torch.autocast("cpu", torch.bfloat16):
            torch.manual_seed(0)
            own = reads(6, None, p, **options)
        torch.manual_seed(0)
        assert torch.equal(in_bf16(lambda p=p, o=options: reads(6, None, p, **o)), own)


def test_a_causal_layer_of_pytorch_reads_no_later_token_in_bf16():
    """It hands over `is_causal` by position."""
    torch.manual_seed(0)
    layer, found = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True), []
    x, mask = torch.randn(2, 5, 8), torch.ones(5, 5).triu(1).bool()
    for text in (x, torch.cat([x[:, :4], x[:, :1]], dim=1)):
        torch.manual_seed(1)
        call = {"need_weights": False, "is_causal": True, "attn_mask": mask}
        found.append(in_bf16(lambda text=text, call=call: layer(text, text, text, **call)[0]))
    assert torch.equal(found[0][:, :4], found[1][:, :4])
    assert not torch.equal(*found)


def test_denormals_are_as_before_afterwards():
    def flushed():
        return (torch.tensor([1e-30]) * torch.tensor([1e-10])).item() == 0

    assert not flushed()
    with flush_denormals():
        assert flushed()
        with flush_denormals():
            pass
        assert flushed()
    assert not flushed()


def test_accelerates_own_autocast_stays_off_whatever_came_before(monkeypatch):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()
    Accelerator(mixed_precision="bf16")
    try:
        found = predicted(TextCNN(torch.randn(30, 8), 2), "float32")
        assert not np.array_equal(found, torch.as_tensor(found).bfloat16().float().numpy())
    finally:
        AcceleratorState._reset_state()


def texts(n=64, tags=False) -> Encoded:
    """Texts of 4 to 12 tokens; one of class 1 has tokens of 15 and above, one of 0 below."""
    rng, ids, labels = np.random.default_rng(0), [], []
    for i in range(n):
        ids.append(rng.integers(2 + 14 * (i % 2), 16 + 14 * (i % 2), rng.integers(4, 13)))
        labels.append(ids[-1] % 3 if tags else i % 2)
    return Encoded(ids, labels)


def predicted(model, mode, data=None, **options):
    return training.predict_logits(model, data or texts(), precision=mode, **options)


class Bert(nn.Module):
    """A tiny BERT of transformers with a head, dropout and all."""

    def __init__(self):
        super().__init__()
        from transformers import BertConfig, BertModel

        sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2,
                 "num_attention_heads": 2, "intermediate_size": 32}  # fmt: skip
        self.encoder = BertModel(BertConfig(**sizes), add_pooling_layer=False)
        self.head = nn.Linear(16, 2)

    def forward(self, input_ids, attention_mask):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return self.head(hidden.last_hidden_state[:, 0])


def models():
    torch.manual_seed(0)
    small = AWDLSTMConfig(40, 8, 12)
    return {"TextCNN": TextCNN(torch.randn(40, 8), 2), "BERT": Bert(),
            "AWD-LSTM": Classifier(small, 2, window=5)}  # fmt: skip


@pytest.mark.parametrize("name", models())
def test_logits_of_both_precisions_are_close_and_padding_says_nothing(name):
    model, data = models()[name], texts()
    exact, found = predicted(model, "float32"), predicted(model, "bf16")
    assert found.dtype == exact.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=0.03 * np.abs(exact).max())
    assert not np.array_equal(found, exact)
    for mode, room in (("float32", 1e-5), ("bf16", 0.02)):
        alone = predicted(model, mode, batch_size=1)
        np.testing.assert_allclose(predicted(model, mode, data), alone, atol=room)


@BOTH
@pytest.mark.parametrize("name", models())
def test_training_is_the_same_to_the_bit_and_goes_on_where_it_stopped(mode, name, tmp_path):
    def weights(epochs, checkpoint=None):
        model, options = models()[name], {"lr": 0.01, "progress": False}
        done = training.fit(model, texts(), epochs=epochs, precision=mode, batch_size=16,
                            checkpoint=checkpoint, **options)  # fmt: skip
        assert done.precision == mode
        assert all(p.dtype == torch.float32 for p in model.parameters())
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    whole = weights(2)
    assert torch.equal(whole, weights(2))
    assert not torch.equal(whole, weights(1))

    class Stopped(Exception):
        pass

    def stop(model, epoch):
        if epoch and not (tmp_path / "again").exists():
            raise Stopped

    def resumed():
        model = models()[name]
        training.fit(model, texts(), epochs=2, precision=mode, batch_size=16, lr=0.01,
                     progress=False, checkpoint=tmp_path / "run.pt", callbacks=[stop])  # fmt: skip
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    with pytest.raises(Stopped):
        resumed()
    (tmp_path / "again").touch()
    assert torch.equal(resumed(), whole)


def test_a_checkpoint_of_the_other_precision_is_refused(tmp_path):
    options = {"epochs": 1, "checkpoint": tmp_path / "run.pt", "progress": False}
    training.fit(models()["TextCNN"], texts(), precision="float32", **options)
    with pytest.raises(ValueError, match="precision"):
        training.fit(models()["TextCNN"], texts(), precision="bf16", **options)


def test_both_precisions_learn_the_same_within_an_interval():
    accuracy = {}
    for mode in ("float32", "bf16"):
        scores = []
        for seed in range(3):
            torch.manual_seed(seed)
            model = Bert()
            training.fit(model, texts(), epochs=6, lr=0.003, seed=seed, precision=mode,
                         batch_size=16, progress=False)  # fmt: skip
            scores.append(training.predict(model, texts(), precision=mode) == texts().labels)
        accuracy[mode] = np.mean(scores)
    assert accuracy["float32"] > 0.95
    assert abs(accuracy["float32"] - accuracy["bf16"]) < 0.04


def test_a_crf_computes_in_float32_in_both():
    torch.manual_seed(0)
    model = BiLSTMTagger(torch.randn(40, 8), 3, hidden=8, crf=CRF(3))
    history = {}
    for mode in ("float32", "bf16"):
        torch.manual_seed(0)
        model = BiLSTMTagger(torch.randn(40, 8), 3, hidden=8, crf=CRF(3))
        fitted = training.fit(model, texts(tags=True), epochs=1, loss=crf_loss(model), lr=1e-9,
                              precision=mode, progress=False)  # fmt: skip
        history[mode] = fitted.history["train_loss"][0]
    assert history["bf16"] == pytest.approx(history["float32"], rel=0.01)


def test_the_large_softmax_in_bf16_is_that_in_float32_but_for_its_products():
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(50, 16), torch.randn(300, 16) / 4, torch.randn(300) / 4
    inputs = [t.requires_grad_() for t in (hidden, weight, bias)]
    targets = torch.randint(1, 300, (50,))
    exact = softmax_cross_entropy(*inputs, targets)
    found = in_bf16(lambda: softmax_cross_entropy(*inputs, targets))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=0.01, rtol=0.01)
    gradients = zip(torch.autograd.grad(found, inputs), torch.autograd.grad(exact, inputs),
                    strict=True)  # fmt: skip
    for got, wanted in gradients:
        assert got.dtype == torch.float32
        assert (got - wanted).norm() < 0.02 * wanted.norm()


@BOTH
def test_a_language_model_is_the_same_to_the_bit_and_says_its_precision(mode):
    ids = np.tile(np.arange(2, 38), 40)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        model = LanguageModel(AWDLSTMConfig(40, 16, 24, multiplier=0.2))
        options = {"steps": 120, "batch_size": 8, "length": 12, "lr": 0.03, "progress": False}
        done = fit_language_model(model, ids, precision=mode, **options)
        assert done.precision == mode
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*found)
    exact, low = (perplexity(model, ids, precision=name) for name in ("float32", "bf16"))
    assert exact < 20  # of 40 words
    assert low == pytest.approx(exact, rel=0.03)


@BOTH
def test_a_record_says_what_was_computed_in(mode, tmp_path):
    model, file = TextCNN(torch.randn(40, 8), 2), tmp_path / "one.jsonl"
    fitted = training.fit(model, texts(), epochs=1, precision=mode, progress=False)
    written = records.Recorder("one", file=file)
    written.add(method="TextCNN", value=1.0, metric="accuracy", precision=fitted.precision)
    assert records.read(file)["precision"].tolist() == [mode]

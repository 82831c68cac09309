"""Windows miss no word and take none twice; the loop resumes to the bit; perplexity by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from helpers.models.awd_lstm import AWDLSTMConfig, LanguageModel
from helpers.models.elmo import BidirectionalLM, ElmoConfig
from helpers.text import PAD, UNKNOWN
from helpers.training import language_models, transfer
from helpers.training.language_models import fit_language_model, perplexity, spans, streams, windows

N_WORDS = 20


def forward_model(seed=0, multiplier=0.3):
    torch.manual_seed(seed)
    return LanguageModel(AWDLSTMConfig(N_WORDS, embedding=8, hidden=12, multiplier=multiplier))


def both_ways(seed=0):
    torch.manual_seed(seed)
    config = ElmoConfig(12, 8, 2, 4, ((1, 4), (2, 4)), max_characters=6)
    return BidirectionalLM(config, [PAD, UNKNOWN, *map(str, range(2, N_WORDS))], N_WORDS)


def text(n=800, seed=0):
    """Every second word follows from the one before."""
    ids = np.random.default_rng(seed).integers(2, N_WORDS, n)
    ids[1::2] = (5 * ids[: n // 2 * 2 : 2]) % (N_WORDS - 2) + 2
    return ids


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


SMALL = {"batch_size": 4, "length": 10, "progress": False}
models = pytest.mark.parametrize("make", [forward_model, both_ways])


# --- windows --------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 7), st.integers(1, 40), st.sampled_from([1, 2]),
    st.none() | st.integers(0, 99),
)  # fmt: skip
def test_each_word_is_a_target_once_but_for_a_small_rest(n, rows, length, context, seed):
    ids = np.arange(n)
    if n < rows + context:
        with pytest.raises(ValueError, match=f"words are too few for {rows} streams"):
            streams(ids, rows, context)
        return
    found = list(windows(ids, rows, length, context, seed))
    targets = [w[:, 1 : w.size(1) + 1 - context] for w in found]
    in_order = torch.cat(targets, dim=1).flatten()  # stream after stream
    kept = len(in_order)
    assert in_order.tolist() == list(range(1, kept + 1))
    assert 0 <= n - context - kept < rows
    for before, after in pairwise(found):
        assert torch.equal(before[:, -context:], after[:, :context])
    for window in found:  # what surrounds a target in the text surrounds it in the window
        assert (window.diff(dim=1) == 1).all()
        assert (window.dtype, len(window)) == (torch.int64, rows)
    if seed is None:
        assert all(t.size(1) == length for t in targets[:-1])


def test_random_lengths_are_mostly_near_the_length_and_sometimes_near_half():
    sizes = np.array([end - begin for begin, end in spans(400_000, 70, seed=0)[:-1]])
    halves = sizes < 52
    assert abs(halves.mean() - 0.05) < 0.01
    assert abs(sizes[~halves].mean() - 69.5) < 0.5  # rounded down
    assert abs(sizes[~halves].std() - 5) < 0.3
    assert abs(sizes[halves].mean() - 34.5) < 1
    first, again, other = (spans(1000, 70, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert first == again != other


def test_ids_of_any_integer_type_are_read_and_left_alone():
    ids = text().astype(np.uint16)
    before = ids.copy()
    first = next(windows(ids, 4, 10, 1))
    assert torch.equal(first[0], torch.from_numpy(before[:11].astype(np.int64)))
    assert (ids == before).all()
    assert np.shares_memory(streams(ids, 4, 1), ids)


# --- perplexity -----------------------------------------------------------------------------------


def test_perplexity_is_that_of_the_whole_stream_in_one_piece():
    model, ids = forward_model(), text(101)
    found = perplexity(model, ids, batch_size=1, length=7)
    assert model.training
    scores, _ = model.eval()(torch.from_numpy(ids[None, :-1]))
    nats = F.cross_entropy(scores[0], torch.from_numpy(ids[1:]))
    assert found == pytest.approx(math.exp(nats.item()), rel=1e-5)


def test_a_model_that_knows_nothing_wavers_between_all_words():
    model = forward_model()
    with torch.no_grad():
        model.decoder.weight.zero_()
    assert perplexity(model, text(50)) == pytest.approx(N_WORDS)  # a text too short for 64 streams


# --- the loop -------------------------------------------------------------------------------------


@models
def test_it_learns_what_follows(make):
    model, ids = make(), text()
    result = fit_language_model(model, ids, text(200, seed=1), epochs=12, lr=0.03, batch_size=8,
                                length=10, progress=False)  # fmt: skip
    history = result.history
    assert list(history.columns) == ["step", "words", "train_loss", "validation_perplexity",
                                     "words_per_second", "seconds"]  # fmt: skip
    assert len(history) == 12
    assert history["validation_perplexity"].iloc[-1] < 0.8 * N_WORDS
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] - 0.3
    assert result.finished
    assert not model.training
    assert result.seconds == history["seconds"].iloc[-1] > 0
    assert history["words"].iloc[-1] == 12 * ((len(ids) - model.context) // 8 * 8)


def test_same_seed_same_bits_another_seed_others_and_the_callers_randomness_is_left_alone():
    found = []
    for seed in (3, 3, 4):
        model = forward_model()
        torch.rand(seed)
        before = torch.get_rng_state()
        fit_language_model(model, text(), text(), steps=7, seed=seed, **SMALL)
        assert torch.equal(before, torch.get_rng_state())
        found.append(weights(model))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def watched(model, seen=None, power_cut=None):
    """A model that notes the state before each step, and stops at one."""
    loss, seen = model.loss, [] if seen is None else seen

    def watched_loss(tokens, state=None):
        if model.training:
            seen.append(state)
            if len(seen) - 1 == power_cut:
                raise KeyboardInterrupt
        return loss(tokens, state)

    model.loss = watched_loss
    return model


@models
@pytest.mark.parametrize("stopped_at", [3, 13])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(make, stopped_at, tmp_path):
    """Stopped in the first epoch and in the second; what is lost is what follows the last row."""
    ids, validation = text(400), text(200, seed=1)
    options = {**SMALL, "steps": 18, "schedule": lambda step, total: 1 - step / total, "seed": 1,
               "report_every": 3}  # fmt: skip
    whole = make()
    expected = fit_language_model(whole, ids, validation, **options)
    options["checkpoint"] = tmp_path / "made" / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        fit_language_model(watched(make(), power_cut=stopped_at), ids, validation, **options)
    resumed, seen = make(), []
    watched(resumed, seen)
    found = fit_language_model(resumed, ids, validation, **options)
    assert len(seen) == 18 - stopped_at // 3 * 3
    assert torch.equal(weights(whole), weights(resumed))
    columns = ["step", "words", "train_loss", "validation_perplexity"]
    assert found.history[columns].equals(expected.history[columns])
    assert not list((tmp_path / "made").glob("*.part"))


def test_a_run_can_be_made_in_pieces(tmp_path, monkeypatch):
    whole, pieces = forward_model(), forward_model()
    options = {**SMALL, "epochs": 2, "random_lengths": False}
    expected = fit_language_model(whole, text(), **options)

    def clock():
        clock.now += 0.001
        return clock.now

    def tick(tokens, state, loss=pieces.loss):
        clock.now += 1
        return loss(tokens, state)

    pieces.loss, clock.now = tick, 0.0
    monkeypatch.setattr(language_models.time, "perf_counter", clock)
    options |= {"checkpoint": tmp_path / "run.pt", "max_seconds": 14.5}
    finished = []
    while not finished or not finished[-1]:
        result = fit_language_model(pieces, text(), **options)
        finished.append(result.finished)
    assert finished == [False, False, True]  # 40 steps, 15 at a time
    assert torch.equal(weights(whole), weights(pieces))
    assert expected.history["train_loss"].equals(result.history["train_loss"])
    started = forward_model()
    stopped = fit_language_model(started, text(), **SMALL, epochs=2, max_seconds=0)
    assert not stopped.finished
    assert torch.equal(weights(started), weights(forward_model())), "no second, no step"
    again = fit_language_model(pieces, text(), **options)  # nothing is left to do
    assert again.finished
    assert torch.equal(weights(whole), weights(pieces))


CHANGES = {
    "seed 0 there, 1 here": {"seed": 1},
    "windows .* there, .* here": {"steps": 4},
    r"lr \[0.001\] there, \[0.1\] here": {"lr": 0.1},
    "clip 0.25 there, 1.0 here": {"clip": 1.0},
    r"weight_decay \[0.01\] there, \[0.1\] here": {"weight_decay": 0.1},
    "precision 'float32' there, 'bf16' here": {"precision": "bf16"},
    "other training text": {"text": 9},
    "validation text": {"validation_ids": text(100)},
    r"schedule \[0.9, 1.0, 1.1\] there, \[0.45, 0.5, 0.55\]": {"schedule": lambda *_: 0.5},
    "other model": {"multiplier": 0.1},  # of all dropouts
    "other starting weights": {"start": 1},
}


@pytest.mark.parametrize("told", CHANGES)
def test_a_checkpoint_of_other_settings_or_another_text_is_refused(told, tmp_path):
    options = {**SMALL, "steps": 3, "checkpoint": tmp_path / "run.pt", "precision": "float32"}
    fit_language_model(forward_model(), text(), **options)
    before, change = (tmp_path / "run.pt").read_bytes(), dict(CHANGES[told])
    of_model = {"multiplier": change.pop("multiplier", 0.3), "seed": change.pop("start", 0)}
    ids = text(seed=change.pop("text", 0))
    with pytest.raises(ValueError, match=f"run.pt is from a run with other settings.*{told}"):
        fit_language_model(forward_model(**of_model), ids, **(options | change))
    assert (tmp_path / "run.pt").read_bytes() == before


@pytest.mark.parametrize("random_lengths", [True, False])
def test_windows_without_a_word_are_refused(random_lengths):
    with pytest.raises(ValueError, match="length 0 hold no word"):
        fit_language_model(forward_model(), text(), **(SMALL | {"steps": 1, "length": 0}),
                           random_lengths=random_lengths)  # fmt: skip


def test_one_step_by_hand():
    """AdamW at the rate's share for a shorter window, on the clipped gradient of the loss."""
    ours, reference = forward_model(multiplier=0.0), forward_model(multiplier=0.0)
    ids = text(4 * 6 + 1)
    fit_language_model(ours, ids, steps=1, lr=0.01, clip=0.1, weight_decay=0.1,
                       schedule=lambda step, total: 0.5, **SMALL)  # fmt: skip
    tokens = torch.from_numpy(np.stack([ids[6 * row : 6 * row + 7] for row in range(4)]))
    reference.loss(tokens)[0].backward()
    assert torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.1) > 0.1
    torch.optim.AdamW(reference.parameters(), 0.01 * 0.5 * 0.6, (0.8, 0.99), weight_decay=0.1,
                      fused=False).step()  # fmt: skip
    torch.testing.assert_close(weights(ours), weights(reference), atol=1e-6, rtol=0)


def test_the_state_is_carried_on_and_starts_afresh_with_an_epoch():
    seen = []
    model = watched(forward_model(), seen)
    fit_language_model(model, text(4 * 25 + 1), epochs=2, random_lengths=False, **SMALL)
    assert [state is None for state in seen] == [True, False, False] * 2


def test_each_epoch_cuts_the_text_elsewhere_unless_told_not_to(monkeypatch):
    for random_lengths in (True, False):
        model, seen = forward_model(), []
        monkeypatch.setattr(model, "encoder", Watched(model.encoder, seen))
        fit_language_model(model, text(200), epochs=2, random_lengths=random_lengths, **SMALL)
        first = seen[: 1 + int(np.argmax(np.cumsum(seen) == 49))]
        assert sum(first) == sum(seen[len(first) :]) == 49
        assert (seen == first * 2) != random_lengths


class Watched(torch.nn.Module):
    """Notes the widths of the windows that a module reads."""

    def __init__(self, module, seen):
        super().__init__()
        self.module, self.seen = module, seen

    def forward(self, ids, state):
        self.seen.append(ids.size(1))
        return self.module(ids, state)


def test_groups_have_rates_of_their_own_and_what_is_frozen_stays():
    model = forward_model()
    transfer.freeze_below(model, "LSTM 3")
    groups = transfer.parameter_groups(model, lr=0.01, factor=2.6)
    before = {n: [p.clone() for p in g] for n, g in transfer.layer_groups(model).items()}
    fit_language_model(model, text(), steps=4, groups=groups, **SMALL)
    moved = {
        name: any(not torch.equal(p, q) for p, q in zip(group, before[name], strict=True))
        for name, group in transfer.layer_groups(model).items()
    }
    assert moved == {"embeddings": False, "LSTM 1": False, "LSTM 2": False, "LSTM 3": True,
                     "head": True}  # fmt: skip


def test_rows_come_as_often_as_wanted_and_their_losses_are_means_of_the_steps_between(monkeypatch):
    model, seen = forward_model(), []
    loss = model.loss

    def watched(tokens, state):
        found = loss(tokens, state)
        seen.append((found[1].item(), tokens[:, 1:].numel()))
        return found

    monkeypatch.setattr(model, "loss", watched)
    history = fit_language_model(model, text(), steps=7, report_every=3, **SMALL).history
    assert list(history["step"]) == [3, 6, 7]
    for row, part in zip(history.itertuples(), (seen[:3], seen[3:6], seen[6:]), strict=True):
        mean = sum(nats * n for nats, n in part) / sum(n for _, n in part)
        assert row.train_loss == pytest.approx(mean, rel=1e-6)
    assert history["words"].iloc[-1] == sum(n for _, n in seen)


def test_bad_calls_are_refused_in_one_sentence():
    for wrong in ({}, {"epochs": 1, "steps": 1}):
        with pytest.raises(ValueError, match="one of the two"):
            fit_language_model(forward_model(), text(), **wrong, **SMALL)
    with pytest.raises(ValueError, match="3 words are too few for 4 streams: give 5"):
        fit_language_model(forward_model(), text(3), epochs=1, **SMALL)
    with pytest.raises(ValueError, match="not finite at step 2: take a lower learning rate"):
        fit_language_model(forward_model(), text(), steps=2, lr=1e38, clip=0, **SMALL)
    groups = [{"params": forward_model().parameters(), "lr": 0.1}]
    with pytest.raises(ValueError, match=r"lr=0\.2 changes nothing"):
        fit_language_model(forward_model(), text(), steps=1, lr=0.2, groups=groups, **SMALL)


def test_nothing_asks_a_device_for_float64(monkeypatch):
    """Some devices have none (MPS): sums are Python's."""

    def no_double(*args, **kwargs):
        raise TypeError("this device has no float64")

    monkeypatch.setattr(torch.Tensor, "double", no_double)
    result = fit_language_model(forward_model(), text(), text(100), steps=3, **SMALL)
    assert result.history["validation_perplexity"].iloc[-1] > 1

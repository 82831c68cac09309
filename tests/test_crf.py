"""The CRF against the enumeration of all tag sequences, in value, path and gradient, to 1e-5."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.models.crf import CRF, bio_constraints, crf_loss, decode, probabilities
from helpers.text import IGNORED

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
NAMES = ["O", "B-LOC", "I-LOC", "I-PER", "B-PER"]


def make_crf(n_tags=4, seed=0, forbidden=None):
    crf = CRF(n_tags, forbidden)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return crf


def sample(lengths, n_tags=4, seed=0):
    """Emissions, tags and mask of sentences of such lengths, padded with noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = len(lengths), max(lengths)
    tags = torch.randint(n_tags, shape, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return 2 * torch.randn(*shape, n_tags, generator=generator), tags, mask


def enumerate_paths(crf, emissions):
    """All tag sequences of one sentence `(T, K)` and their scores, by the definition."""
    rules = crf.penalty[-1] + crf.start, crf.penalty[:-1] + crf.transitions
    paths = list(product(range(crf.n_tags), repeat=len(emissions)))
    scores = []
    for path in paths:
        score = rules[0][path[0]] + crf.end[path[-1]]
        score = score + sum(emissions[t, tag] for t, tag in enumerate(path))
        scores.append(score + sum(rules[1][a, b] for a, b in pairwise(path)))
    return paths, torch.stack(scores)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 4), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 99))
def test_likelihood_and_best_path_are_those_of_all_sequences(n_tags, lengths, seed):
    crf, (emissions, tags, mask) = make_crf(n_tags, seed), sample(lengths, n_tags, seed)
    found, best = crf.nll(emissions, tags, mask), crf.decode(emissions, mask)
    for row, length in enumerate(lengths):
        paths, scores = enumerate_paths(crf, emissions[row, :length])
        right = scores[paths.index(tuple(tags[row, :length].tolist()))]
        torch.testing.assert_close(found[row], scores.logsumexp(0) - right, **CLOSE)
        assert tuple(best[row]) == paths[scores.argmax()]


def test_marginals_are_the_sums_over_all_sequences_and_the_gradient_of_the_partition():
    crf, (emissions, _, mask) = make_crf(3), sample([4, 2], 3)
    found = crf.marginals(emissions, mask)
    for row, length in enumerate([4, 2]):
        paths, scores = enumerate_paths(crf, emissions[row, :length])
        expected = torch.zeros(4, 3)
        for path, share in zip(paths, scores.softmax(0), strict=True):
            for t, tag in enumerate(path):
                expected[t, tag] += share.detach()
        torch.testing.assert_close(found[row], expected, **CLOSE)
    assert not found[1, 2:].any()
    with torch.inference_mode():  # as in predictions
        torch.testing.assert_close(crf.marginals(emissions + 0, mask), found)


def test_gradients_of_all_scores_are_those_of_the_enumeration():
    crf, (emissions, tags, mask) = make_crf(3), sample([3], 3)
    paths, scores = enumerate_paths(crf, emissions[0])
    expected = scores.logsumexp(0) - scores[paths.index(tuple(tags[0].tolist()))]
    wanted = torch.autograd.grad(expected, list(crf.parameters()))
    found = torch.autograd.grad(crf.nll(emissions, tags, mask).sum(), list(crf.parameters()))
    torch.testing.assert_close(found, wanted, **CLOSE)


def test_padding_and_neighbours_change_nothing():
    crf, (emissions, tags, mask) = make_crf(), sample([7, 1, 4])
    wide = nn.functional.pad(emissions, (0, 0, 0, 5), value=50.0)
    found = crf.nll(wide, nn.functional.pad(tags, (0, 5), value=IGNORED),
                    nn.functional.pad(mask, (0, 5)))  # fmt: skip
    torch.testing.assert_close(found, crf.nll(emissions, tags, mask), **CLOSE)
    for row, length in enumerate([7, 1, 4]):
        alone = emissions[row : row + 1, :length], torch.ones(1, length)
        torch.testing.assert_close(found[row : row + 1],
                                   crf.nll(alone[0], tags[row : row + 1, :length], alone[1]),
                                   **CLOSE)  # fmt: skip
        assert np.array_equal(crf.decode(wide, nn.functional.pad(mask, (0, 5)))[row],
                              crf.decode(*alone)[0])  # fmt: skip


def test_masked_positions_are_left_out_of_the_chain():
    crf, (emissions, tags, _) = make_crf(), sample([6, 6])
    mask = torch.tensor([[0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]])
    kept = mask[0].bool()
    closed = emissions[:1, kept], tags[:1, kept], torch.ones(1, 3)
    torch.testing.assert_close(crf.nll(emissions, tags, mask)[:1], crf.nll(*closed), **CLOSE)
    assert crf.nll(emissions, tags, mask)[1] == 0  # nothing to say, nothing to pay
    first, none = crf.decode(emissions, mask)
    assert np.array_equal(first, crf.decode(closed[0], closed[2])[0])
    assert len(none) == 0


def test_long_sentences_stay_finite():
    crf, (emissions, tags, mask) = make_crf(), sample([3000])
    emissions = (100 * emissions).requires_grad_()
    loss = crf.nll(emissions, tags, mask).sum()
    loss.backward()
    assert loss.isfinite()
    assert emissions.grad.isfinite().all()


def test_bio_forbids_exactly_an_inside_without_its_beginning():
    found = bio_constraints(NAMES)
    for i, before in enumerate([*NAMES, ""]):
        for j, name in enumerate(NAMES):
            legal = name[0] != "I" or (before[2:] == name[2:] and before[:1] in ("B", "I"))
            assert found[i, j] != legal, (before, name)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_constrained_paths_are_the_best_legal_ones(length, seed):
    rules = bio_constraints(NAMES)
    crf, (emissions, _, mask) = make_crf(5, seed, rules), sample([length], 5, seed)
    path = crf.decode(emissions, mask)[0]
    steps = zip([5, *path[:-1]], path, strict=True)
    assert not any(rules[step] for step in steps)
    if length < 5:
        paths, scores = enumerate_paths(crf, emissions[0])
        assert tuple(path) == paths[scores.argmax()]
        legal = scores > -5000
        expected = scores[legal].logsumexp(0) - scores[legal].max()
        found = crf.nll(emissions, torch.as_tensor(path)[None], mask)[0]
        torch.testing.assert_close(found, expected, **CLOSE)


class Owner(nn.Module):
    def __init__(self, crf=None):
        super().__init__()
        self.crf = crf


def test_the_loss_is_the_mean_over_the_labelled_positions():
    crf, (emissions, tags, mask) = make_crf(), sample([5, 2])
    batch = {"labels": tags.masked_fill(~mask, IGNORED)}
    found = crf_loss(Owner(crf))(emissions, batch)
    torch.testing.assert_close(found, crf.nll(emissions, tags, mask).sum() / 7)
    nothing = {"labels": torch.full((2, 5), IGNORED)}
    assert crf_loss(Owner(crf))(emissions, nothing) == 0
    with pytest.raises(ValueError, match="no CRF"):
        crf_loss(Owner())


def test_decoding_a_list_is_decoding_each_in_its_place():
    crf, rng = make_crf(), np.random.default_rng(0)
    lengths = [*rng.integers(1, 9, 300), 0, 3]
    scores = [rng.normal(size=(length, 4)).astype(np.float32) for length in lengths]
    found = decode(Owner(crf), scores)
    assert [len(row) for row in found] == lengths
    for row, one in zip(found, scores, strict=True):
        if len(one):
            alone = crf.decode(torch.as_tensor(one)[None], torch.ones(1, len(one)))[0]
            assert np.array_equal(row, alone)
    plain = decode(Owner(), scores)
    assert all(np.array_equal(r, s.argmax(1)) for r, s in zip(plain, scores, strict=True))
    assert decode(Owner(crf), []) == []


def test_probabilities_of_a_list_are_marginals_each_in_its_place():
    crf, rng = make_crf(), np.random.default_rng(0)
    lengths = [*rng.integers(1, 9, 300), 0, 3]
    scores = [rng.normal(size=(length, 4)).astype(np.float32) for length in lengths]
    found, plain = probabilities(Owner(crf), scores), probabilities(Owner(), scores)
    for own, soft, one in zip(found, plain, scores, strict=True):
        assert own.shape == soft.shape == one.shape
        np.testing.assert_allclose(soft, torch.as_tensor(one).softmax(1), atol=1e-6)
        if len(one):
            alone = crf.marginals(torch.as_tensor(one)[None], torch.ones(1, len(one)))[0]
            np.testing.assert_allclose(own, alone, atol=1e-5)
    assert probabilities(Owner(crf), []) == []

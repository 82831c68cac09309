"""GloVe, held to its definition: counts by brute force, gradients by autograd."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.text import glove

documents = st.lists(st.lists(st.integers(-1, 5), max_size=12), max_size=6)


def by_brute_force(documents, n_words, window):
    counts = np.zeros((n_words, n_words))
    for document in documents:
        known = [i for i in document if 0 <= i < n_words]
        for p, i in enumerate(known):
            for q, j in enumerate(known):
                if p != q and abs(p - q) <= window:
                    counts[i, j] += 1 / abs(p - q)
    return counts


@settings(deadline=None)
@given(documents, st.integers(1, 4), st.integers(1, 9))
def test_counts_are_those_of_the_definition(documents, window, chunk):
    arrays = [np.array(document, dtype=np.int64) for document in documents]
    counts = glove.cooccurrence(iter(arrays), 5, window, chunk, progress=False)
    expected = by_brute_force(documents, 5, window)
    np.testing.assert_allclose(counts.toarray(), expected, rtol=1e-6)
    assert counts.nnz == (expected > 0).sum()


def test_a_long_document_is_cut_as_gensim_cuts_it():
    ids = np.zeros(glove.LONGEST + 1, dtype=np.int64)
    ids[-2:] = 1, 2
    counts = glove.cooccurrence([ids], 3, 1, progress=False)
    assert counts[0, 1] == 1
    assert counts[1, 2] == 0


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    dense = rng.integers(0, 4, size=(9, 9)) * rng.uniform(0.3, 60, size=(9, 9))
    return sp.csr_matrix((dense + dense.T).astype(np.float32))


def test_batches_hold_every_pair_once_with_its_mirror(counts):
    batches = list(glove.make_batches(counts, 4, np.random.default_rng(1), 100, 0.75))
    assert len(batches) == 4
    seen = np.zeros(counts.shape)
    for batch in batches:
        rows = np.repeat(np.arange(9), np.diff(batch.starts))
        others, mirror = batch.others.numpy(), batch.mirror.numpy()
        seen[rows, others] += np.exp(batch.log_count.numpy())
        np.testing.assert_array_equal(rows[mirror], others)
        np.testing.assert_array_equal(others[mirror], rows)
    np.testing.assert_allclose(seen, counts.toarray(), rtol=1e-5)


def test_loss_and_gradients_are_those_of_autograd(counts):
    """The formula of the paper, written densely, against the sparse batch; duplicates included."""
    x_max, alpha, d = 20.0, 0.75, 4
    generator = torch.Generator().manual_seed(2)
    sizes = ((9, d), (9, d), (9, 1), (9, 1))
    w, c, b, b_context = (torch.randn(s, generator=generator).requires_grad_() for s in sizes)
    x = torch.from_numpy(counts.toarray())
    error = w @ c.T + b + b_context.T - torch.where(x > 0, x, 1).log()
    weight = torch.where(x > 0, (x / x_max).clamp(max=1) ** alpha, 0)
    loss = (weight * error**2).sum()
    loss.backward()

    ones = torch.ones(9, 1)
    words = torch.cat([w, b, ones], dim=1).detach()
    contexts = torch.cat([c, ones, b_context], dim=1).detach()
    (batch,) = glove.make_batches(counts, 1, np.random.default_rng(0), x_max, alpha)
    value, to_words, to_contexts = glove.gradients(words, contexts, batch)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(torch.tensor(value), loss.detach(), **close)
    zero = torch.zeros(9, 1)
    expected = torch.cat([w.grad, b.grad, zero], dim=1) / 2
    torch.testing.assert_close(to_words, expected, **close)
    expected = torch.cat([c.grad, zero, b_context.grad], dim=1) / 2
    torch.testing.assert_close(to_contexts, expected, **close)


def test_fit_is_adagrad_on_the_sum_of_both_vectors(counts):
    """One epoch in one batch is one AdaGrad step: each number moves by the learning rate."""
    once = {"dimension": 3, "n_batches": 1, "seed": 5, "progress": False}
    start, (first,) = glove.fit(counts, epochs=1, lr=0, **once)
    moved, _ = glove.fit(counts, epochs=1, lr=0.01, **once)
    steps = np.abs(moved - start)  # of w + c: both move, the same way or opposite ways
    np.testing.assert_allclose(np.minimum(steps, np.abs(steps - 0.02)), 0, atol=1e-5)
    assert steps.max() > 0.01
    _, losses = glove.fit(counts, epochs=200, lr=0.05, **{**once, "dimension": 9})
    assert losses[0] == pytest.approx(first, rel=0.2)
    assert losses[-1] < first / 50


def test_fit_repeats_with_its_seed_and_does_not_touch_the_counts(counts):
    before = counts.copy()
    runs = [glove.fit(counts, 5, epochs=3, seed=s, progress=False)[0] for s in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 0.01
    assert (before != counts).nnz == 0


def test_shared_neighbours_make_similar_vectors():
    """Two groups of words that never meet: vectors must tell them apart."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(10, size=20) + 10 * (i % 2) for i in range(400)]
    counts = glove.cooccurrence(texts, 20, 5, progress=False)
    matrix, _ = glove.fit(counts, 10, epochs=30, n_batches=8, progress=False)
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosines = unit @ unit.T
    group = np.arange(20) // 10
    same = (group[:, None] == group) & ~np.eye(20, dtype=bool)
    assert cosines[same].mean() > cosines[group[:, None] != group].mean() + 0.1

"""GloVe (Pennington, Socher & Manning 2014, aclanthology.org/D14-1162): log X_ij ≈ w_i · c_j + b_i
+ d_j, fitted by weighted least squares over batches of the pairs seen. A word that is frequent in a
batch gets one step from its whole gradient."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

LONGEST = 10_000  # tokens: longer documents are cut into parts, as gensim does


def cooccurrence(documents: Iterable[np.ndarray], n_words: int, window: int = 15,
                 chunk: int = 500_000, progress: bool = True) -> sp.csr_matrix:  # fmt: skip
    """Symmetric co-occurrence counts X, a float32 CSR matrix (n_words, n_words): each pair at a
    distance k ≤ window in one document adds 1/k to X_ij and X_ji. `documents` are int arrays of
    word ids; ids outside 0 … n_words - 1 are removed first, as in GloVe's own code. Memory: X, and
    12 bytes times the window for each of `chunk` tokens."""
    total, parts, size = sp.csr_matrix((n_words, n_words), dtype=np.float32), [], 0
    for ids in tqdm(documents, "co-occurrence", leave=False, disable=not progress, unit="doc"):
        ids = ids[(ids >= 0) & (ids < n_words)]
        parts += [ids[start : start + LONGEST] for start in range(0, len(ids), LONGEST)]
        size += len(ids)
        if size >= chunk:
            total, parts, size = total + _count(parts, n_words, window), [], 0
    if parts:
        total = total + _count(parts, n_words, window)
    return (total + total.T).tocsr()


def _count(parts: list[np.ndarray], n_words: int, window: int) -> sp.csr_matrix:
    """Counts of (left word, right word), weighted by 1/distance."""
    ids = np.concatenate(parts).astype(np.int32)
    part = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    found = [(ids[:0], ids[:0], np.zeros(0, dtype=np.float32))]
    for k in range(1, min(window, len(ids) - 1) + 1):
        at = np.flatnonzero(part[:-k] == part[k:])
        found.append((ids[at], ids[at + k], np.full(len(at), 1 / k, dtype=np.float32)))
    left, right, weight = map(np.concatenate, zip(*found, strict=True))
    return sp.coo_matrix((weight, (left, right)), shape=(n_words, n_words)).tocsr()


@dataclass
class Batch:
    """Some of the pairs (i, j), sorted by i, each together with its mirror image (j, i)."""

    starts: torch.Tensor  # (n_words + 1,): the pairs of word i are starts[i] … starts[i + 1] - 1
    others: torch.Tensor  # (n_pairs,): j
    log_count: torch.Tensor  # (n_pairs,): log X_ij
    weight: torch.Tensor  # (n_pairs,): f(X_ij) = min(1, (X_ij / x_max) ** alpha)
    mirror: torch.Tensor  # (n_pairs,): where (j, i) stands


def make_batches(counts: sp.csr_matrix, n_batches: int, rng: np.random.Generator,
                 x_max: float = 100.0, alpha: float = 0.75) -> Iterator[Batch]:  # fmt: skip
    """Split the pairs of the symmetric matrix `counts` at random into `n_batches`."""
    upper = sp.triu(counts).tocoo()
    lot = rng.integers(n_batches, size=upper.nnz, dtype=np.uint16)
    for number in range(n_batches):
        part = lot == number
        i, j, x = upper.row[part], upper.col[part], upper.data[part]
        off = i != j
        both = np.concatenate([i, j[off]]), np.concatenate([j, i[off]])
        x = sp.csr_matrix((np.concatenate([x, x[off]]), both), shape=counts.shape)
        x.sort_indices()
        places = sp.csr_matrix((np.arange(x.nnz, dtype=np.int32), x.indices, x.indptr), x.shape)
        weight = np.minimum(1, (x.data / x_max) ** alpha)
        arrays = x.indptr, x.indices, np.log(x.data), weight, places.T.tocsr().data
        yield Batch(*map(torch.from_numpy, arrays))


def gradients(words: torch.Tensor, contexts: torch.Tensor,
              batch: Batch) -> tuple[float, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Loss of a batch, sum f(X_ij) (w_i · c_j + b_i + d_j - log X_ij)², and half its gradients.

    `words` holds rows (w_i, b_i, 1) and `contexts` rows (c_j, 1, d_j), both (n_words, d + 2), so
    that one inner product gives w_i · c_j + b_i + d_j. The constant ones get the gradient zero.
    """
    shape = (len(words), len(words))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "beta state"; a test holds it to autograd
        target = torch.sparse_csr_tensor(batch.starts, batch.others, -batch.log_count, shape)
        error = torch.sparse.sampled_addmm(target, words, contexts.T).values()
    step = batch.weight * error
    sums = {"offsets": batch.starts[:-1], "mode": "sum"}
    to_words = F.embedding_bag(batch.others, contexts, per_sample_weights=step, **sums)
    step = step[batch.mirror.long()]
    to_contexts = F.embedding_bag(batch.others, words, per_sample_weights=step, **sums)
    to_words[:, -1] = 0
    to_contexts[:, -2] = 0
    return float((batch.weight * error).dot(error)), to_words, to_contexts


def fit(counts: sp.csr_matrix, dimension: int = 100, epochs: int = 25, lr: float = 0.05,
        x_max: float = 100.0, alpha: float = 0.75, n_batches: int = 40, seed: int = 0,
        progress: bool = True) -> tuple[np.ndarray, list[float]]:  # fmt: skip
    """Fit GloVe to symmetric `counts` by AdaGrad: vectors w + c (n_words, d), and each epoch's mean
    weighted squared error of the pairs. Memory: 16 bytes a pair beside `counts`."""
    rng, n, threads = np.random.default_rng(seed), counts.shape[0], torch.get_num_threads()
    start = rng.uniform(-0.5, 0.5, size=(2, n, dimension + 2)).astype(np.float32) / dimension
    words, contexts = torch.from_numpy(start)
    words[:, -1] = contexts[:, -2] = 1
    squares = torch.full_like(words, 1e-8), torch.full_like(contexts, 1e-8)
    batches, losses = list(make_batches(counts, n_batches, rng, x_max, alpha)), []
    try:
        torch.set_num_threads(1)  # the steps are short: threads would wait more than they work
        for _ in tqdm(range(epochs), "GloVe", leave=False, disable=not progress, unit="epoch"):
            losses.append(0.0)
            for i in rng.permutation(n_batches):
                loss, *steps = gradients(words, contexts, batches[i])
                losses[-1] += loss
                for values, square, step in zip((words, contexts), squares, steps, strict=True):
                    square.addcmul_(step, step)
                    values.addcdiv_(step, square.sqrt(), value=-lr)
            losses[-1] /= counts.nnz
    finally:
        torch.set_num_threads(threads)
    return (words + contexts)[:, :dimension].numpy(), losses

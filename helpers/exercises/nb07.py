"""Checks of notebook 07: a mask for a window, min-p sampling, perplexity per word."""

import numpy as np
import torch

from helpers.exercises import exercise


@exercise
def window_mask(window_mask) -> str:
    """`window_mask(length, window)`: boolean (length, length), true where row i may look at j."""
    for length, window in ((6, 3), (5, 1), (4, 9)):
        found = window_mask(length, window)
        assert isinstance(found, torch.Tensor), "`window_mask` should return a tensor"
        assert found.shape == (length, length), f"its shape should be ({length}, {length})"
        assert found.dtype == torch.bool, "true and false are wanted, not numbers"
        right = torch.tensor([[i - window < j <= i for j in range(length)] for i in range(length)])
        assert found.diagonal().all(), "each position should see itself"
        assert not (found & ~torch.ones_like(found).tril()).any(), "a position sees the future"
        assert not (found & ~right).any(), f"with a window of {window} it looks too far back"
        assert torch.equal(found, right), f"with a window of {window} it looks not far enough back"
    return "a kernel that skips the rest pays at each token for the window alone."


@exercise
def min_p(min_p) -> str:
    """`min_p(logits, share)`: (V,) -> probabilities (V,) of the tokens with at least `share` of
    the probability of the likeliest."""
    for seed, share in ((0, 0.1), (1, 0.5), (2, 1.0)):
        logits = torch.randn(40, generator=torch.Generator().manual_seed(seed)) * 2 - 3
        before, p = logits.clone(), logits.softmax(0)
        found = min_p(logits, share)
        assert isinstance(found, torch.Tensor), "`min_p` should return a tensor"
        found = found.float()
        assert found.shape == (40,), "one probability a token is wanted"
        assert torch.equal(logits, before), "`min_p` changes the logits that it is given: copy them"
        assert found.isfinite().all(), "no token is left: the likeliest should always stay"
        kept = p >= share * p.max()
        assert not found[~kept].any(), "a token that is too unlikely can still be drawn"
        assert (found[kept] > 0).all(), "a token that is likely enough was dropped"
        assert torch.isclose(found.sum(), torch.ones(())), "the probabilities do not sum to one"
        right = (p * kept) / (p * kept).sum()
        assert torch.allclose(found, right, atol=1e-6), "the proportions should stay"
    return "a sure model is cut to a few tokens, an unsure one keeps many."


@exercise
def per_word(per_word) -> str:
    """`per_word(per_token, n_tokens, n_words)`: the perplexity per word of the same text."""
    for per_token, n_tokens, n_words in ((60.0, 1300, 1000), (8.0, 500, 500), (3.0, 4000, 800)):
        found = per_word(per_token, n_tokens, n_words)
        assert np.ndim(found) == 0, "`per_word` should return one number"
        right = np.exp(n_tokens * np.log(per_token) / n_words)
        said = f"{per_token:g} a token, {n_tokens} tokens for {n_words} words: "
        assert float(found) >= per_token * 0.999, said + "a word is no easier than its tokens"
        assert np.isclose(float(found), right, rtol=1e-3), said + f"not {float(found):.4g} a word"
    return "nats add up, perplexities do not."

"""Checks of notebook 03: pooling, learning rates by depth, the threshold of a decision."""

import numpy as np
import torch
from sklearn.metrics import f1_score

from helpers.exercises import exercise


@exercise
def largest_values(largest) -> str:
    """`largest(hidden, attention_mask)`: (batch, tokens, width), (batch, tokens) -> (batch, width),
    the largest value of each column over the real tokens."""
    short = [[-1e5, -4.0], [-3e5, 2.0], [9.0, 7.0]]  # its third token is padding
    hidden = torch.tensor([short, [[5.0, -2.0], [-1.0, -9.0], [3.0, -1.0]]])
    mask, before = torch.tensor([[1, 1, 0], [1, 1, 1]]), hidden.clone()
    pooled = largest(hidden, mask)
    assert isinstance(pooled, torch.Tensor), "`largest` should return a tensor"
    assert pooled.shape == (2, 2), f"two texts of width 2 should give (2, 2), not {[*pooled.shape]}"
    assert torch.equal(hidden, before), "`largest` changes the vectors that it is given: copy them"
    right = torch.tensor([[-1e5, 2.0], [5.0, -1.0]])
    assert torch.equal(pooled[1], right[1]), "the text without padding is not pooled right"
    assert 9 not in pooled[0], "padding has the largest value and is counted"
    assert 0 not in pooled[0], "padding counts as zero, and zero beats every negative value"
    assert torch.equal(pooled, right), "the text with padding is not pooled right"
    return "padding may never win, so it must be smaller than every real value."


@exercise
def rates_by_depth(learning_rates) -> str:
    """`learning_rates(layers, top, factor)`: names from the bottom up -> name: learning rate."""
    rates = learning_rates(["embeddings", "layer 0", "layer 1", "head"], 0.027, 3.0)
    assert isinstance(rates, dict), "`learning_rates` should return a dictionary"
    expected = {"head": 0.027, "layer 1": 0.009, "layer 0": 0.003, "embeddings": 0.001}
    assert rates.keys() == expected.keys(), "each layer should have one learning rate"
    assert rates["embeddings"] <= rates["head"], "the bottom layer learns fastest: turn it round"
    assert np.isclose(rates["head"], 0.027), "the top layer should learn with `top` itself"
    wrong = [name for name in expected if not np.isclose(rates[name], expected[name])]
    assert not wrong, f"each layer should learn `factor` times slower than the next: see {wrong}"
    single = learning_rates(["head"], 0.1, 2.6)
    assert np.isclose(single["head"], 0.1), "with one layer there is nothing to divide"
    return "the learning rate of a layer falls with its distance from the top."


@exercise
def threshold(choose) -> str:
    """`choose(probabilities, y_true)`: of the rare class 1 -> the threshold of the best F1."""
    rng = np.random.default_rng(0)
    for share in (0.1, 0.3):
        y_true = (rng.random(400) < share).astype(int)
        probabilities = np.clip(0.05 + 0.3 * share + 0.2 * y_true + rng.normal(0, 0.08, 400), 0, 1)
        chosen = choose(probabilities.copy(), y_true.copy())
        assert np.ndim(chosen) == 0, "`choose` should return one number"
        assert 0 <= float(chosen) <= 1, f"a threshold lies between 0 and 1, not at {chosen:.3g}"
        tried = [f1_score(y_true, probabilities >= t) for t in np.unique(probabilities)]
        ours = f1_score(y_true, probabilities >= chosen, zero_division=0)
        said = f"F1 is {ours:.3f} with your threshold of {chosen:.3f} and could be {max(tried):.3f}"
        assert ours >= max(tried) - 1e-9, said
    return "the model stays as it is; only the decision moves."

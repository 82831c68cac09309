"""Ranks of right answers among all, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from helpers.text.batching import IGNORED
from helpers.text.masking import MaskedTexts
from helpers.training import predict_logits


@torch.inference_mode()
def target_ranks(model, texts: MaskedTexts, batch_size: int = 64) -> np.ndarray:
    """Rank of the true piece among all pieces at each gap (1 = first), `(N,)`, as `masked_contexts` has them.

    `model` has `scores` (hidden states to scores of all pieces), as `masked_head.MaskedLM` does.
    """
    hidden = predict_logits(model, texts, batch_size=batch_size)  # of each text (T, H)
    labels = [texts[i]["labels"] for i in range(len(texts))]
    device = next(model.parameters()).device
    at_gaps = np.concatenate([h[y != IGNORED] for h, y in zip(hidden, labels, strict=True)])
    truth = np.concatenate([y[y != IGNORED] for y in labels])
    found = []
    for begin in range(0, len(truth), 512):
        part = slice(begin, begin + 512)  # x 30,522 scores: 62 MB
        scores = model.scores(torch.from_numpy(at_gaps[part]).to(device))
        right = scores.gather(1, torch.from_numpy(truth[part, None]).to(device))
        found.append(1 + (scores > right).sum(1))
    return torch.cat(found).cpu().numpy()


def retrieval_scores(ranks: Sequence[int], at: Sequence[int] = (1, 10)) -> dict[str, float]:
    """Mean reciprocal rank and recall at `at`, from the rank (1 = first) of each right answer."""
    ranks = np.asarray(ranks)
    if not len(ranks) or ranks.min() < 1:
        raise ValueError("ranks count from 1, and there must be at least one")
    found = {f"recall@{k}": float((ranks <= k).mean()) for k in at}
    return {"mrr": float((1 / ranks).mean()), **found}

"""Ranks of right answers among all."""

from __future__ import annotations

import numpy as np
import torch

from helpers.text.batching import IGNORED
from helpers.text.masking import MaskedTexts
from helpers.training import predict_logits


@torch.inference_mode()
def target_ranks(model: torch.nn.Module, texts: MaskedTexts, batch_size: int = 64) -> np.ndarray:
    """Rank of the true token among all tokens (1 = first) at each masked position, `(N,)`, in the
    order of `masked_contexts`. `model` has `logits`, hidden states to the logits of all tokens, as
    `masked_head.MaskedLM` does."""
    hidden = predict_logits(model, texts, batch_size=batch_size)  # of each text (T, H)
    labels = [texts[i]["labels"] for i in range(len(texts))]
    device = next(model.parameters()).device
    masked = np.concatenate([h[y != IGNORED] for h, y in zip(hidden, labels, strict=True)])
    truth = np.concatenate([y[y != IGNORED] for y in labels])
    found = []
    for begin in range(0, len(truth), 512):
        part = slice(begin, begin + 512)  # x 30,522 logits: 62 MB
        logits = model.logits(torch.from_numpy(masked[part]).to(device))
        right = logits.gather(1, torch.from_numpy(truth[part, None]).to(device))
        found.append(1 + (logits > right).sum(1))
    return torch.cat(found).cpu().numpy()

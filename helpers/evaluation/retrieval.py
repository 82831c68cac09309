"""Ranks of right answers among all."""

import numpy as np
import torch

from helpers.text.batching import IGNORED
from helpers.text.masking import MaskedTexts
from helpers.training import predict_logits


@torch.inference_mode()
def target_ranks(model: torch.nn.Module, texts: MaskedTexts, batch_size: int = 64) -> np.ndarray:
    """Rank of the true token among all (1 = first) at each masked position, `(N,)`, in the order of
    `masked_contexts`. `model.logits` maps hidden states to the logits of all tokens."""
    labels = np.concatenate([texts[i]["labels"] for i in range(len(texts))])
    hidden = np.concatenate(predict_logits(model, texts, batch_size=batch_size))  # (tokens, H)
    masked, truth = hidden[labels != IGNORED], labels[labels != IGNORED, None]
    device, found = next(model.parameters()).device, []
    for begin in range(0, len(truth), 512):  # x 30,522 logits: 62 MB
        part, right = (torch.from_numpy(a[begin : begin + 512]).to(device) for a in (masked, truth))
        logits = model.logits(part)
        found.append((~(logits < logits.gather(1, right))).sum(1))  # ties and NaN come before it
    return torch.cat(found).cpu().numpy()

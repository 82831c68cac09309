"""A linear-chain conditional random field (Lafferty et al. 2001) as a tagger's last layer (Lample
et al. 2016, aclanthology.org/N16-1030): it scores how tags follow one another, and finds the best
sequence. Shapes: B sentences, T words, K tags. Emissions `(B, T, K)` are the tagger's logits. What
a mask `(B, T)` hides is left out of the chain, like all but a word's first token."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from helpers.text import IGNORED, LengthBatches

FORBIDDEN = -1e4  # as a score; finite, so that no gradient is lost where nothing else is allowed


def bio_constraints(names: Sequence[str]) -> np.ndarray:
    """What BIO forbids, bool `(K + 1, K)`: row i says which tags cannot follow tag i, the last row
    which cannot begin a sentence (I-X needs B-X or I-X before it)."""
    allowed = [{name, f"B-{name[2:]}"} if name.startswith("I-") else None for name in names]
    return np.array([[a is not None and last not in a for a in allowed] for last in [*names, ""]])


class CRF(nn.Module):
    """A tag sequence scores the sum of its emissions, transitions, start and end; its probability
    is the softmax over all K^T. What is `forbidden` `(K + 1, K)` (`bio_constraints`) costs 1e4."""

    def __init__(self, n_tags: int, forbidden: np.ndarray | None = None):
        super().__init__()
        self.n_tags = n_tags
        rule = torch.zeros(n_tags + 1, n_tags) if forbidden is None else torch.tensor(forbidden)
        self.register_buffer("penalty", rule.float() * FORBIDDEN)
        self.transitions = nn.Parameter(torch.zeros(n_tags, n_tags))  # from row to column
        self.start, self.end = (nn.Parameter(torch.zeros(n_tags)) for _ in range(2))

    def _scores(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.start + self.penalty[-1], self.transitions + self.penalty[:-1], self.end

    def nll(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood `(B,)` of tags `(B, T)`, given emissions `(B, T, K)`."""
        mask, emissions, tags = _compact(mask, emissions, tags)
        start, transitions, end = self._scores()
        tags = tags.masked_fill(~mask, 0)
        emitted = (emissions.gather(2, tags[..., None])[..., 0] * mask).sum(1)
        moved = (transitions[tags[:, :-1], tags[:, 1:]] * mask[:, 1:]).sum(1)
        last = tags.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0))[:, 0]
        score = start[tags[:, 0]] + emitted + moved + end[last]
        return (self._log_partition(emissions, mask) - score) * mask[:, 0]

    def _log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log of the sum over all tag sequences `(B,)`: the forward algorithm."""
        start, transitions, end = self._scores()
        first, *rest = emissions.unbind(1)
        alpha = start + first  # (B, K): of all beginnings that end in a tag
        for emitted, real in zip(rest, mask[:, 1:, None].unbind(1), strict=True):
            longer = (alpha[:, :, None] + transitions).logsumexp(dim=1) + emitted
            alpha = torch.where(real, longer, alpha)
        return (alpha + end).logsumexp(dim=1)

    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Probability of each tag at each position, `(B, T, K)`, zeros where the mask hides it:
        the gradient of the log-partition, so no backward algorithm needs to be written."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = emissions.detach().clone().requires_grad_()
            closed, moved = _compact(mask.clone(), leaf)
            total = (self._log_partition(moved, closed) * closed[:, 0]).sum()
            return torch.autograd.grad(total, leaf)[0]

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> list[np.ndarray]:
        """The most probable tags of each sentence, one for each position of the mask (Viterbi)."""
        mask, emissions = _compact(mask, emissions)
        start, transitions, end = self._scores()
        first, *rest = emissions.unbind(1)
        best, back, stay = start + first, [], torch.arange(self.n_tags, device=emissions.device)
        for emitted, real in zip(rest, mask[:, 1:, None].unbind(1), strict=True):
            longer, pointer = (best[:, :, None] + transitions).max(dim=1)
            best = torch.where(real, longer + emitted, best)
            back.append(torch.where(real, pointer, stay))
        path = [(best + end).argmax(dim=1, keepdim=True)]
        for pointer in reversed(back):
            path.append(pointer.gather(1, path[-1]))
        paths, lengths = torch.cat(path[::-1], dim=1).cpu().numpy(), mask.sum(1).tolist()
        return [row[:length] for row, length in zip(paths, lengths, strict=True)]


def _compact(mask: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Mask `(B, T)` and tensors `(B, T, …)` with what the mask hides moved to the end and cut."""
    mask = mask.bool()
    order = (~mask).long().argsort(dim=1, stable=True)[:, : max(1, int(mask.sum(1).max()))]
    moved = (t.take_along_dim(order if t.dim() == 2 else order[..., None], 1) for t in tensors)
    return mask.gather(1, order), *moved


def crf_loss(model: nn.Module) -> Callable[[Tensor, dict], Tensor]:
    """The loss for `training.fit` of a model with a `crf`: nats a tag; -100 is left out of it."""
    if getattr(model, "crf", None) is None:
        raise ValueError("this model has no CRF: give it one, crf=CRF(…), or leave the loss out")

    def loss(emissions, batch: dict) -> Tensor:
        kept = batch["labels"] != IGNORED
        return model.crf.nll(emissions, batch["labels"], kept).sum() / kept.sum().clamp(min=1)

    return loss


def decode(model: nn.Module, emissions: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Tags (ints) for logits, a list of `(T, K)`: by the model's CRF, else the highest of each."""
    best, crf = [np.asarray(logits).argmax(1) for logits in emissions], getattr(model, "crf", None)
    return best if crf is None else _each(crf, crf.decode, emissions, best)


def probabilities(model: nn.Module, emissions: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Probability of each tag, a list of `(T, K)`: the marginals of the CRF, else the softmax."""
    if (crf := getattr(model, "crf", None)) is None:
        return [torch.as_tensor(logits).softmax(-1).numpy() for logits in emissions]
    return _each(crf, lambda *x: crf.marginals(*x).cpu().numpy(), emissions, emissions)


def _each(crf: CRF, call: Callable, emissions: Sequence[np.ndarray], rows) -> list[np.ndarray]:
    """`rows`, but what `call` makes of the logits where there are words; 256 sentences at once."""
    rows, device = list(map(np.asarray, rows)), crf.start.device
    filled = np.flatnonzero([len(logits) for logits in emissions])
    for part in LengthBatches([len(emissions[i]) for i in filled], 256):
        logits = [torch.as_tensor(emissions[i], device=device) for i in filled[part]]
        mask = pad_sequence([one.new_ones(len(one)) for one in logits], batch_first=True)
        for i, row in zip(filled[part], call(pad_sequence(logits, True), mask), strict=True):
            rows[i] = row[: len(emissions[i])]
    return rows

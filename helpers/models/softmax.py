"""The softmax over a large vocabulary in little memory: N positions, E numbers at each, V words."""

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SCORES = 1 << 23  # held at once, 32 MiB: less costs more sums, more does not fit into the cache


def softmax_cross_entropy(hidden, weight, bias, targets, pad_id: int = 0) -> torch.Tensor:
    """Mean of -log softmax(hidden weight^T + bias)[target] over the targets that are not `pad_id`,
    0 if there are none: `hidden` (N, E), `weight` (V, E), `bias` (V,), `targets` (N,). Value and
    first gradients are those of `F.cross_entropy`, but only `SCORES` of N x V exist at a time."""
    real, kind = targets != pad_id, weight.device.type
    if not real.all():
        hidden, targets = hidden[real], targets[real]
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    with torch.autocast(kind, enabled=False):
        backward = torch.is_grad_enabled()
        return _SoftmaxCrossEntropy.apply(hidden, weight, bias, targets, half, backward)


class _SoftmaxCrossEntropy(torch.autograd.Function):
    """The scores' gradient, softmax less one at the target, is used up in the forward pass."""

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, half, backward):
        wanted = [backward and need for need in ctx.needs_input_grad[:3]]
        total, n = weight.new_zeros(()), max(1, len(targets))
        low, offset, step = weight.to(half), bias.to(half), max(1, SCORES // len(weight))
        to_hidden = torch.empty_like(hidden) if wanted[0] else None
        to_weight = weight.new_zeros(weight.t().shape) if wanted[1] else None  # faster to fill
        to_bias = torch.zeros_like(bias) if wanted[2] else None
        for begin in range(0, len(targets), step):
            part = slice(begin, begin + step)
            x, y = hidden[part].to(half), targets[part, None]
            scores = F.log_softmax(F.linear(x, low, offset), dim=1, dtype=weight.dtype)
            total -= scores.gather(1, y).sum()
            if any(wanted):
                whole = scores.exp_().scatter_add_(1, y, torch.full_like(y, -1, dtype=scores.dtype))
                error = whole.to(half)
            if wanted[0]:
                to_hidden[part] = F.linear(error, low.t()).div_(n)
            if wanted[1]:
                to_weight += F.linear(x.t() / n, error.t())
            if wanted[2]:
                to_bias += whole.sum(0).div_(n)
        ctx.save_for_backward(to_hidden, None if to_weight is None else to_weight.t(), to_bias)
        return total / n

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        found = (None if g is None else g * gradient for g in ctx.saved_tensors)
        return *found, None, None, None

"""Faster arithmetic for a CPU. Products are the same up to rounding, in full float32.

PyTorch multiplies float32 matrices with Intel's MKL, which gives other makers' processors its
AVX2 code, and draws dropout masks one number at a time there. On an AMD processor with AVX-512 the
oneDNN that PyTorch also carries multiplies twice as fast. Products and masks together are nine
tenths of a transformer's training step.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

ATTENTION = {"attn_mask", "dropout_p", "scale", "is_causal"}  # what `_attention` takes
SMALL = 1 << 14  # numbers in the input below which the detour through Python costs what it saves


@contextmanager
def fast_cpu() -> Iterator[None]:
    """Inside, linear maps, dropout and attention with dropout take the faster way where there is
    one, and numbers below 1e-38 count as zero: a CPU computes with them many times slower, and the
    optimizer's averages of rarely seen embedding rows decay to just those."""
    before = float(torch.tensor([1e-30]) * torch.tensor([1e-10])) == 0
    torch.set_flush_denormal(True)
    try:
        with _Faster() if has_faster() else nullcontext():
            yield
    finally:
        torch.set_flush_denormal(before)


@cache
def has_faster() -> bool:
    """Decided by the processor and not by a stopwatch, so that equal seeds give equal bits."""
    cpuinfo = Path("/proc/cpuinfo")
    maker = cpuinfo.read_text() if cpuinfo.exists() else platform.processor()
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    wide = "AVX512" in torch.backends.cpu.get_cpu_capability()
    return there and wide and "AuthenticAMD" in maker


class _Faster(TorchFunctionMode):
    """Redirects `F.linear`, `F.dropout` and attention with dropout, on float32 tensors of some size
    on the CPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.linear and not kwargs and _suitable(*args[:2]):
            return _Linear.apply(args[0], args[1], args[2] if len(args) > 2 else None)
        if function is F.dropout and len(args) == 1 and _suitable(args[0]):
            return _dropout(args[0], **kwargs)
        kwargs = kwargs or {}
        drops = kwargs.get("dropout_p") and kwargs.keys() <= ATTENTION and len(args) == 3
        if function is F.scaled_dot_product_attention and drops and _suitable(*args):
            return _attention(*args, **kwargs)
        return function(*args, **kwargs)


def _suitable(x: torch.Tensor, *weights: torch.Tensor) -> bool:
    plain = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, *weights))
    large = x.dim() > 1 and x.numel() >= SMALL
    return plain and large and not torch.is_autocast_enabled("cpu")


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None):
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """`F.linear` (…, in) -> (…, out), the three products of its two passes by oneDNN."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        wanted, rows = ctx.needs_input_grad, gradient.flatten(0, -2)
        return (
            _product(gradient, weight.t()) if wanted[0] else None,
            _product(rows.t(), x.flatten(0, -2).t()) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
        )


def _dropout(x: torch.Tensor, p: float, training: bool = True, inplace: bool = False):
    """`F.dropout`, `p` rounded to 16 bits: one draw of 64 bits serves four numbers."""
    dropped, n = round(p * 2**16), x.numel()
    if inplace or not training or not 0 < dropped < 2**16:
        return F.dropout(x, p, training, inplace)
    bits = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[:n].view(x.shape) >= dropped - 2**15
    return x * (kept * (2**16 / (2**16 - dropped)))


def _attention(q, k, v, dropout_p, attn_mask=None, is_causal=False, scale=None):
    """`F.scaled_dot_product_attention` in the training of an encoder, with the faster dropout."""
    scores = q @ (k * (scale or q.size(-1) ** -0.5)).transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return _dropout(scores.softmax(-1), dropout_p) @ v

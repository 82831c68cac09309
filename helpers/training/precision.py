"""The arithmetic to train and predict in: bfloat16 where it is native and faster, else float32."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.benchmark import Timer

MARGIN = 1.25  # how many times as fast bfloat16 must be: far from where noise could decide
VARIABLE = {"no": "float32", "fp32": "float32", "bf16": "bf16"}  # what Accelerate's may say


def choose(precision: str, device: torch.device | str) -> str:
    """`"bf16"` or `"float32"`. `"auto"` follows the variable `ACCELERATE_MIXED_PRECISION`, else
    takes bf16 where the device has it, measured once to be `MARGIN` times as fast."""
    if precision not in ("auto", "bf16", "float32"):
        raise ValueError(f"unknown precision {precision!r}: one of auto, bf16, float32")
    if precision != "auto":
        return precision
    if asked := os.environ.get("ACCELERATE_MIXED_PRECISION"):
        if asked not in VARIABLE:
            raise ValueError(f"ACCELERATE_MIXED_PRECISION is {asked!r}: set it to no or bf16")
        return VARIABLE[asked]
    device = torch.device(device)
    return "bf16" if has_bf16(device) and speedup(device) >= MARGIN else "float32"


@contextmanager
def autocast(precision: str, device: torch.device | str) -> Iterator[None]:
    """Where a model is called in what `choose` gave: PyTorch's autocast, on a CPU with `_OnCPU`."""
    kind, low = torch.device(device).type, precision == "bf16"
    tuned = _OnCPU() if low and kind == "cpu" else nullcontext()
    with torch.autocast(kind, torch.bfloat16, enabled=low), tuned:
        yield


class _OnCPU(TorchFunctionMode):
    """Layer norms give bfloat16, so no layer casts it again, and dropout masks cost a quarter."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.layer_norm:
            return function(*args, **(kwargs or {})).to(torch.bfloat16)
        ours = {F.dropout: _dropout, F.scaled_dot_product_attention: _attention}
        return ours.get(function, function)(*args, **(kwargs or {}))


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **options):
    """`F.scaled_dot_product_attention`, with `_dropout` where it drops weights."""
    if not dropout_p or is_causal or options.get("enable_gqa"):
        own = F.scaled_dot_product_attention
        return own(query, key, value, attn_mask, dropout_p, is_causal, **options)
    scores = query * (options.get("scale") or query.shape[-1] ** -0.5) @ key.mT
    if attn_mask is not None:  # what it adds, or False where nothing may be read
        added = attn_mask.dtype != torch.bool
        scores = scores + attn_mask if added else scores.masked_fill(~attn_mask, -1e4)
    return _dropout(scores.softmax(-1), dropout_p) @ value


def _dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False):
    """`F.dropout`, `p` rounded to 16 bits: one draw of 64 bits serves four numbers."""
    dropped = round(p * 2**16)
    if not training or inplace or not 0 < dropped < 2**16:
        return F.dropout(x, p, training, inplace)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15
    return x * kept.to(x.dtype).mul_(1 / (1 - p))


def has_bf16(device: torch.device) -> bool:
    """Whether a CPU (AMX, AVX-512, Arm) or CUDA device multiplies bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(there for name, there in flags.items() if name.endswith("bf16"))


@cache
def speedup(device: torch.device) -> float:
    """How many times as fast an encoder's feed-forward layer is in bfloat16, casts included."""
    tensors = {"x": torch.ones(512, 384, device=device), "w": torch.ones(1536, 384, device=device)}
    clock = {"timer": time.thread_time} if device.type == "cpu" else {}  # its own, undisturbed time
    timer, seconds = Timer("torch.nn.functional.linear(x, w)", globals=tensors, **clock), {}
    for name in ("float32", "bf16"):
        with autocast(name, device):
            seconds[name] = timer.blocked_autorange(min_run_time=0.05).median
    return seconds["float32"] / seconds["bf16"]


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Numbers below 1e-38, as averages of rare embedding rows, are zero: they slow a CPU down."""
    before = float(torch.tensor([1e-30]) * torch.tensor([1e-10])) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)

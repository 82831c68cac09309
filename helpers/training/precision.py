"""The arithmetic to train and predict in: bfloat16 where it is native and faster, else float32."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import torch
from accelerate import Accelerator
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

PRECISIONS = ("auto", "bf16", "float32")
MARGIN = 1.25  # how many times as fast bfloat16 must be: far from where noise could decide
PAIRS = 10  # timings of each side
ASKED = {"no": "float32", "fp32": "float32", "bf16": "bf16"}  # what Accelerate's variable may say


def choose(precision: str, device: torch.device | str) -> str:
    """`"bf16"` or `"float32"` for one of `PRECISIONS`, or a `ValueError`. `"auto"` follows the
    variable `ACCELERATE_MIXED_PRECISION` where it is set, else takes bf16 where the device has it
    and one measurement in a process says that it is `MARGIN` times as fast."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if asked := os.environ.get("ACCELERATE_MIXED_PRECISION"):
        if asked not in ASKED:
            raise ValueError(f"ACCELERATE_MIXED_PRECISION is {asked!r}: set it to no or bf16")
        return ASKED[asked]
    device = torch.device(device)
    return "bf16" if has_bf16(device) and speedup(device) >= MARGIN else "float32"


def plain_accelerator() -> Accelerator:
    """An `Accelerator` without its own autocast, whatever environment or earlier ones say."""
    found = Accelerator()
    found.native_amp = False
    return found


@contextmanager
def autocast(precision: str, device: torch.device | str) -> Iterator[None]:
    """Where a model is called in what `choose` gave: PyTorch's autocast, on a CPU with `_OnCPU`."""
    if precision == "float32":
        yield
        return
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16), _OnCPU() if kind == "cpu" else nullcontext():
        yield


class _OnCPU(TorchFunctionMode):
    """Saves a fifth of a step: normalised layers stay in bfloat16 (else each linear layer casts the
    residual stream again), so does attention with dropout, and dropout masks cost a quarter."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.layer_norm:
            return function(*args, **kwargs).to(torch.bfloat16)
        if function is F.dropout and len(args) == 1 and _drops(**kwargs):
            return _dropout(args[0], kwargs.get("p", 0.5))
        if function is F.scaled_dot_product_attention and len(args) == 3:
            given = {k: v for k, v in kwargs.items() if v is not None and v is not False}
            if given.get("dropout_p") and given.keys() <= {"dropout_p", "attn_mask", "scale"}:
                return _attention(*args, **given)
        return function(*args, **kwargs)


def _drops(p: float = 0.5, training: bool = True, inplace: bool = False) -> bool:
    return training and not inplace and 0 < round(p * 2**16) < 2**16


def _dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """`F.dropout`, `p` rounded to 16 bits: one draw of 64 bits serves four numbers."""
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= round(p * 2**16) - 2**15
    return x * kept.to(x.dtype).mul_(1 / (1 - p))


def _attention(q, k, v, dropout_p, attn_mask=None, scale=None) -> torch.Tensor:
    """`F.scaled_dot_product_attention`, with scores in the type of `q` and a softmax in float32."""
    scores = (q * (scale or q.size(-1) ** -0.5)) @ k.transpose(-2, -1)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.where(attn_mask, 0.0, -torch.inf)
        scores = scores + attn_mask.to(q.dtype).clamp(min=torch.finfo(q.dtype).min)  # no row is NaN
    return _dropout(scores.softmax(-1, dtype=torch.float32).to(q.dtype), dropout_p) @ v


def has_bf16(device: torch.device) -> bool:
    """Whether a CPU (AMX, AVX-512, Arm) or CUDA device multiplies bfloat16 natively."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return any(there for name, there in flags.items() if name.endswith("bf16"))


@cache
def speedup(device: torch.device) -> float:
    """How many times as fast an encoder's feed-forward layer is in bfloat16 as in float32, casts
    included: the fastest of `PAIRS` calls of each, in turn, on one thread by that thread's time,
    which other processes hardly disturb. Takes some hundredths of a second."""
    best, threads = dict.fromkeys(ASKED.values(), float("inf")), torch.get_num_threads()
    x, weight = torch.ones(512, 384, device=device), torch.ones(1536, 384, device=device)
    torch.set_num_threads(1)
    try:
        for _ in range(PAIRS):
            for name in best:
                with autocast(name, device):
                    spent = _seconds(lambda: F.linear(x, weight), device)
                best[name] = min(best[name], spent)
    finally:
        torch.set_num_threads(threads)
    return best["float32"] / best["bf16"]


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda device: None
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    wait(device)
    began = clock()
    work()
    wait(device)
    return clock() - began


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Numbers below 1e-38 count as zero: a CPU is many times slower with them, and the optimizer's
    averages of rarely seen embedding rows decay to just those."""
    before = float(torch.tensor([1e-30]) * torch.tensor([1e-10])) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)

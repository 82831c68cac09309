"""The arithmetic to train and predict in: bfloat16 where it is native and faster, else float32."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch
from torch.nn import functional as F

PRECISIONS = ("auto", "bf16", "float32")
MARGIN = 1.25  # how many times as fast bfloat16 must be: far from where noise could decide
ROWS, WIDTH, PAIRS = 512, 384, 10  # tokens and hidden size of a small encoder, timings of each side
ASKED = {"no": "float32", "fp32": "float32", "bf16": "bf16"}  # what Accelerate's variable may say


def choose(precision: str, device: torch.device | str) -> str:
    """`"bf16"` or `"float32"` for one of `PRECISIONS` on a device.

    `"auto"` follows the environment variable `ACCELERATE_MIXED_PRECISION` where it is set, else
    takes bf16 where the device has it and a short measurement, one in a process, says that it is
    `MARGIN` times as fast. Raises `ValueError` for another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if asked:
        if asked not in ASKED:
            raise ValueError(f"ACCELERATE_MIXED_PRECISION is {asked!r}: set it to no or bf16")
        return ASKED[asked]
    device = torch.device(device)
    return "bf16" if has_bf16(device) and speedup(device) >= MARGIN else "float32"


def autocast(precision: str, device: torch.device | str) -> AbstractContextManager:
    """The context in which a model of that precision (as `choose` gives it) is called."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


def has_bf16(device: torch.device) -> bool:
    """Whether the processor (AMX, AVX-512 or Arm) or the CUDA device multiplies bfloat16 natively.
    Other devices count as without."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return any(there for name, there in flags.items() if name.endswith("bf16"))


@cache
def speedup(device: torch.device) -> float:
    """How many times as fast an encoder's feed-forward layer is in bfloat16 as in float32, casts
    included: the fastest of `PAIRS` calls of each, which take turns.

    A CPU is measured on one thread and by that thread's own time, which other processes hardly
    disturb: so a busy machine answers as an idle one does. Takes some hundredths of a second.
    """
    best, threads = dict.fromkeys(ASKED.values(), float("inf")), torch.get_num_threads()
    x = torch.ones(ROWS, WIDTH, device=device)
    weight = torch.ones(4 * WIDTH, WIDTH, device=device)
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
    """Inside, numbers below 1e-38 count as zero. A CPU computes with them many times slower, and
    the optimizer's averages of rarely seen embedding rows decay to just those."""
    before = float(torch.tensor([1e-30]) * torch.tensor([1e-10])) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)

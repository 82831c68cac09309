"""Which arithmetic to train and predict in: bfloat16 where it is native and faster, else float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

PRECISIONS = ("auto", "bf16", "float32")


def choose(precision: str, device: torch.device) -> str:
    """`"bf16"` or `"float32"` for one of `PRECISIONS` on a device."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: one of {', '.join(PRECISIONS)}")
    return "float32" if precision == "auto" else precision


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The context in which a model of that precision (as `choose` gives it) is called."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)

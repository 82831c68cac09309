"""Timing in pairs, and what a figure of the report consists of.

The two sides of a comparison take turns, and which of them goes first changes from pair to pair: a
machine that is busy for a while then slows both. A figure is the median of the pairs' ratios.
"""

import gc
import time
from collections.abc import Callable
from statistics import median


def seconds(work: Callable[[], object]) -> float:
    """The wall-clock time of one call, garbage of earlier ones collected before."""
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(sides: dict[str, Callable[[], float]], pairs: int) -> dict[str, list[float]]:
    """`pairs` measurements of each side in turns. A side is a function that returns its time."""
    times = {name: [] for name in sides}
    for pair in range(pairs):
        for name in list(sides) if pair % 2 == 0 else reversed(sides):
            times[name].append(sides[name]())
    return times


def figure(
    name: str,
    what: str,
    bar: str,
    ratios: list[float],
    times: dict[str, list[float]] | None = None,
    unit: str = "s",
    note: str = "",
) -> dict:
    """One line of the report: the median of `ratios` against `bar`, such as ">= 1.4".

    `times` are the measurements of each side that the ratios come from, in `unit`.
    """
    value = median(ratios)
    sign, limit = bar.split()
    return {
        "name": name,
        "what": what,
        "bar": bar,
        "value": value,
        "low": min(ratios),
        "high": max(ratios),
        "met": value >= float(limit) if sign == ">=" else value <= float(limit),
        "pairs": len(ratios),
        "ratios": ratios,
        "medians": {side: median(measured) for side, measured in (times or {}).items()},
        "times": times or {},
        "unit": unit,
        "note": note,
    }


def ratios(above: list[float], below: list[float]) -> list[float]:
    """The ratio within each pair."""
    return [a / b for a, b in zip(above, below, strict=True)]

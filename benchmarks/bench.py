"""How fast this is next to what one would use instead.

    python benchmarks/bench.py            all, 20 minutes: build/bench.json, a table in README.md
    python benchmarks/bench.py --quick    small sizes, under a minute: does every part run?

Every figure is the median ratio of interleaved pairs, the number of threads fixed. The README
keeps a table for each processor that was measured. A bar that is missed is reported (`met` is
false) and is no error: the exit status tells whether all ran.
"""

import argparse
import json
import os
import re
import sys
import time
from functools import partial
from pathlib import Path

LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- bench -->", "<!-- /bench -->"
BLOCK = re.compile(r"<!-- processor: (.*?) -->\n.*?</details>\n", re.DOTALL)
FLAGS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "neon", "bf16", "sve_bf16")  # that matter


def parts(quick: bool) -> dict:
    """Name -> a function that measures and returns figures."""
    import encoders
    import generation
    import language_models
    import multilingual
    import taggers
    import texts

    pairs = 3
    if quick:
        tuning = partial(encoders.fine_tuning, 1, n_train=16, n_test=16)
        encoding = partial(encoders.frozen_encoding, 1, n_texts=64)
        opening = partial(texts.opening, 1, limit=20_000)
        flat = partial(texts.flat, 1, small=200, large=2000)
        language = partial(language_models.throughput, 1, 1, 500, 16, 24)
        softmax = partial(language_models.softmax_memory, 2000, 6000, 64)
        tagging = partial(taggers.tagging, 1, 50)
        many = partial(multilingual.encoding, 1, n_texts=16)
        writing = partial(generation.generation, 1, n_tokens=8)
    else:
        tuning = partial(encoders.fine_tuning, pairs, n_train=800, n_test=2000)
        encoding = partial(encoders.frozen_encoding, pairs, n_texts=1000)
        opening = partial(texts.opening, pairs, limit=None)
        flat = partial(texts.flat, pairs, small=1000, large=100_000)
        language = partial(language_models.throughput, pairs)
        softmax = language_models.softmax_memory
        tagging = partial(taggers.tagging, pairs, 1000)
        many = partial(multilingual.encoding, pairs, n_texts=500)
        writing = partial(generation.generation, pairs)
    return {"opening": opening, "flat": flat, "frozen": encoding, "tuning": tuning,
            "language": language, "softmax": softmax, "tagging": tagging, "e5": many,
            "generation": writing}  # fmt: skip


def processor() -> str:
    """The processor's name and flags, as ratios of numeric code depend on them."""
    import platform

    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    there = torch.cpu.get_capabilities()
    flags = ", ".join(flag for flag in FLAGS if there.get(flag))
    return f"{name} ({flags})" if flags else name


def peaks() -> dict[str, float]:
    """GFLOP/s of a product of two matrices of 2048 x 2048, the fastest of 10."""
    import torch
    from timing import seconds

    found = {}
    for name, kind in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        x = torch.ones(2048, 2048, dtype=kind)
        found[name] = 2 * 2048**3 / 1e9 / min(seconds(lambda x=x: x @ x) for _ in range(10))
    return found


def measure(quick: bool, only: list[str], threads: int) -> dict:
    """Run the parts and return the report. Libraries are imported here, not above, since they read
    the number of threads from the environment when they are."""
    os.environ |= dict.fromkeys(LIMITS, str(threads)) | {"TOKENIZERS_PARALLELISM": "true"}
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as make and the runner have it
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "1"}
    from helpers.evaluation import records

    began, figures, machine = time.perf_counter(), [], records.machine()
    machine |= {"processor": processor(), "peaks": peaks()}
    print(f"{machine['processor']}; {_peaks(machine)}", flush=True)
    for name, part in parts(quick).items():
        if only and name not in only:
            continue
        start = time.perf_counter()
        found = part()
        figures += found
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        for line in found:
            print("  " + row(line).strip("| ").replace(" | ", "  ·  "), flush=True)
    return {
        "command": "make bench" if not (quick or only) else " ".join(["bench.py", *sys.argv[1:]]),
        "machine": machine,
        "threads": threads,
        "quick": quick,
        "seconds": round(time.perf_counter() - began, 1),
        "figures": figures,
    }


def row(found: dict) -> str:
    """A figure as a line of the README's table."""
    value, low, high = (_number(found[key]) for key in ("value", "low", "high"))
    spread = f" ({low} to {high})" if low != high else ""
    sides = "; ".join(f"{name} {_number(m)}" for name, m in found["medians"].items())
    sides += f" {found['unit']}" if sides else ""
    met = "yes" if found["met"] else "no"
    bar = found["bar"].replace(">=", "≥").replace("<=", "≤").replace("-", "−")
    return f"| {found['what']} | {bar} | {value}{spread} | {met} | {sides} |"


def _number(value: float) -> str:
    text = f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:,.3g}"
    return (f"{value:,.0f}" if abs(value) >= 1000 else text).replace("-", "−")


def _peaks(machine: dict) -> str:
    told = (f"{_number(value)} GFLOP/s in {name}" for name, value in machine["peaks"].items())
    return f"matrix products of 2048 x 2048 at {' and '.join(told)}"


def shares(report: dict) -> str:
    """What share of the measured peak training reaches, the work on padding not counted."""
    reached = {}
    for found in report["figures"]:
        reached |= found.get("gflops", {})
    told = []
    for side, gflops in reached.items():
        kind = "float32" if side.endswith("float32") else "bf16"
        told.append(f"{side} {gflops / report['machine']['peaks'][kind]:.0%}")
    return f"; of that peak reach in training: {'; '.join(told)}" if told else ""


def table(report: dict) -> str:
    """The report as Markdown that unfolds."""
    machine = report["machine"]
    lines = [f"<!-- processor: {machine['processor']} -->", "<details open>",
             f"<summary>{machine['processor']}</summary>", "",
             "| what | bar | median (range) | met | medians of the sides |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    lines += map(row, report["figures"])
    pairs = max(found["pairs"] for found in report["figures"])
    lines += ["", f"*`{report['command']}`: {pairs} pairs, {report['threads']} threads, torch "
              f"{machine['torch']}, transformers {machine['transformers']}; "
              f"{report['seconds'] / 60:.0f} minutes; {_peaks(machine)}{shares(report)}. What each "
              "line compares, its settings and every time are in `build/bench.json`.*",
              "", "</details>", ""]  # fmt: skip
    return "\n".join(lines)


def update(readme: Path, report: dict) -> bool:
    """Put the table between the markers of `readme`, before the folded ones of other processors;
    whether it has the markers."""
    text = readme.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    inner, end, after = rest.partition(END)
    if start and end:
        own = report["machine"]["processor"]
        others = [found[0].replace("<details open>", "<details>")
                  for found in BLOCK.finditer(inner) if found[1] != own]  # fmt: skip
        blocks = "\n".join([table(report), *others])
        readme.write_text(f"{before}{START}\n{blocks}{END}{after}", encoding="utf-8")
    return bool(start and end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, one pair, no README")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        help="a part; may be repeated",
        choices=[
            "opening",
            "flat",
            "frozen",
            "tuning",
            "language",
            "softmax",
            "tagging",
            "e5",
            "generation",
        ],
    )
    parser.add_argument("--threads", type=int, default=2, help="for each process (2)")
    parser.add_argument("--output", type=Path, help="the report (build/bench.json)")
    given = parser.parse_args()
    name = "bench.json" if not (given.quick or given.only) else "bench-part.json"
    output = given.output or ROOT / "build" / name
    report = measure(given.quick, given.only, given.threads)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not (given.quick or given.only or given.output) and not update(ROOT / "README.md", report):
        print(f"README.md has no {START} and {END}: its table was not written", file=sys.stderr)
    print(f"{report['seconds']:.0f} s; {output}")


if __name__ == "__main__":
    main()

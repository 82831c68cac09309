"""How fast this is next to what one would use instead.

    python benchmarks/bench.py            all, some minutes: build/bench.json and README.md's table
    python benchmarks/bench.py --quick    small sizes, under a minute: does every part run?

Every figure is the median ratio of interleaved pairs, the number of threads fixed. A bar that is
missed is reported (`met` is false) and is no error: the exit status tells whether all ran.
"""

import argparse
import json
import os
import sys
import time
from functools import partial
from pathlib import Path

LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- bench -->", "<!-- /bench -->"


def parts(quick: bool) -> dict:
    """Name -> a function that measures and returns figures."""
    import encoders
    import language_models
    import taggers
    import texts

    pairs = 3
    if quick:
        tuning = partial(encoders.fine_tuning, 1, n_train=48, n_test=64)
        encoding = partial(encoders.frozen_encoding, 1, n_texts=64)
        opening = partial(texts.opening, 1, limit=20_000)
        flat = partial(texts.flat, 1, small=200, large=2000)
        language = partial(language_models.throughput, 1, 1, 500, 16, 24)
        softmax = partial(language_models.softmax_memory, 2000, 6000, 64)
        tagging = partial(taggers.tagging, 1, 50)
    else:
        tuning = partial(encoders.fine_tuning, pairs, n_train=1000, n_test=2000)
        encoding = partial(encoders.frozen_encoding, pairs, n_texts=1000)
        opening = partial(texts.opening, pairs, limit=None)
        flat = partial(texts.flat, pairs, small=1000, large=100_000)
        language = partial(language_models.throughput, pairs)
        softmax = language_models.softmax_memory
        tagging = partial(taggers.tagging, pairs, 1000)
    return {"opening": opening, "flat": flat, "frozen": encoding, "tuning": tuning,
            "language": language, "softmax": softmax, "tagging": tagging}  # fmt: skip


def processor() -> str:
    """The processor's name, as ratios of numeric code depend on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


def measure(quick: bool, only: list[str], threads: int) -> dict:
    """Run the parts and return the report. Libraries are imported here, not above, since they read
    the number of threads from the environment when they are."""
    os.environ |= dict.fromkeys(LIMITS, str(threads)) | {"TOKENIZERS_PARALLELISM": "true"}
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as make and the runner have it
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "1"}
    from helpers.evaluation import records as results

    began, figures = time.perf_counter(), []
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
        "machine": results.machine() | {"processor": processor()},
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


def table(report: dict) -> str:
    """The report as Markdown."""
    machine = report["machine"]
    lines = ["| what | bar | median (range) | met | medians of the sides |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    lines += map(row, report["figures"])
    pairs = max(found["pairs"] for found in report["figures"])
    lines += ["", f"*`{report['command']}`: {pairs} pairs, {report['threads']} threads on "
              f"{machine['processor']}, torch {machine['torch']}, transformers "
              f"{machine['transformers']}; {report['seconds'] / 60:.0f} minutes. What each line "
              "compares, its settings and every time are in `build/bench.json`.*"]  # fmt: skip
    return "\n".join(lines)


def update(readme: Path, report: dict) -> bool:
    """Put the table between the markers of `readme`; whether it has them."""
    text = readme.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if start and end:
        text = f"{before}{START}\n{table(report)}\n{END}{after}"
        readme.write_text(text, encoding="utf-8")
    return bool(start and end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, one pair, no README")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        help="a part; may be repeated",
        choices=["opening", "flat", "frozen", "tuning", "language", "softmax", "tagging"],
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

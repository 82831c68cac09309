"""The benchmarks run and report: every figure with its bar, pairs, medians and range.

How fast anything is, is not asserted here: that is for `make bench` on a quiet machine.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value

from helpers import data
from helpers.training.precision import choose, has_bf16

ROOT = Path(__file__).resolve().parents[1]
NATIVE = has_bf16(torch.device("cpu"))
ALSO = ["auto", "auto_bf16"] if NATIVE else []  # only where the processor has bfloat16
FIGURES = [
    "vectors_opened",
    "vectors_private_memory",
    *("flat_reading", "flat_encoding", "flat_batching"),
    *("frozen_encoding", "frozen_encoding_agreement"),
    *(["frozen_encoding_bf16", "frozen_encoding_bf16_agreement"] if NATIVE else []),
    *(f"{what}_{how}" for how in ("like_for_like", "recipe", *ALSO)
      for what in ("fine_tuning", "accuracy")),
    "awd_lstm_training",
    *(["awd_lstm_training_bf16"] if choose("auto", "cpu") == "bf16" else []),
    "softmax_in_chunks",
    *("tagging_bilstm_cnn_crf", "tagging_minilm"),
    *(["e5_encoding", "e5_agreement"] if shutil.which("cc") else []),
    *("generation_cache_one_text_one_thread", "generation_cache_one_text"),
    *("generation_cache_eight_texts", "generation_generate", "generation_larger"),
]  # fmt: skip


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import bench
    import official_split
    import timing

    sys.path.remove(str(ROOT / "benchmarks"))
    return SimpleNamespace(bench=bench, official_split=official_split, timing=timing)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    threads = str(min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2))
    command = [sys.executable, str(ROOT / "benchmarks" / "bench.py"), "--quick"]
    command += ["--threads", threads, "--output", str(file)]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(file.read_text(encoding="utf-8"))


def test_every_figure_is_there_with_bar_pairs_medians_and_range(report):
    assert [found["name"] for found in report["figures"]] == FIGURES
    assert report["threads"] in (1, 2)
    assert report["quick"]
    assert {"processor", "peaks", "cores", "torch", "transformers"} <= report["machine"].keys()
    assert min(report["machine"]["peaks"].values()) > 0
    for found in report["figures"]:
        assert found["low"] <= found["value"] <= found["high"], found["name"]
        assert found["pairs"] == len(found["ratios"]) >= 1
        assert found["bar"].split()[0] in (">=", "<=")
        assert isinstance(found["met"], bool)
        for side, times in found["times"].items():
            assert min(times) <= found["medians"][side] <= max(times)


def test_ratios_are_positive_and_follow_from_the_times(report):
    compared = [
        f for f in report["figures"] if len(f["times"]) == 2 and "accuracy" not in f["name"]
    ]
    single = [name for name in FIGURES if "accuracy" in name or "agreement" in name]
    assert len(compared) == len(FIGURES) - len(single) - 3  # of taggers and SmolLM2: one side
    for found in compared:
        first, second = found["times"].values()
        assert all(value > 0 for value in (*first, *second))
        if "memory" in found["name"]:
            pairs = [a - b for a, b in zip(first, second, strict=True)]
        elif found["name"] == "vectors_opened":  # times, not rates: the other's over ours
            pairs = [b / a for a, b in zip(first, second, strict=True)]
        else:
            pairs = [a / b for a, b in zip(first, second, strict=True)]
        assert found["ratios"] == pytest.approx(pairs)


def test_frozen_encoding_gives_the_vectors_of_sentence_transformers(report):
    apart = {f["name"]: f["value"] for f in report["figures"] if "agreement" in f["name"]}
    assert apart["frozen_encoding_agreement"] < 1e-4
    assert apart.get("frozen_encoding_bf16_agreement", 0) < 0.02  # where there is bf16
    assert apart.get("e5_agreement", 1) >= 0.999  # where there is a compiler


def test_the_share_of_the_peak_is_the_work_over_it(modules):
    bench = modules.bench
    report = {"machine": {"peaks": {"float32": 300.0, "bf16": 1000.0}}, "figures": [
        {"gflops": {"recipe, auto": 250.0, "Trainer, float32": 120.0}}, {}]}  # fmt: skip
    assert bench.shares(report).endswith("training: recipe, auto 25%; Trainer, float32 40%")
    assert bench.shares({**report, "figures": [{}]}) == ""


def test_sides_take_turns_and_each_pair_has_its_ratio(modules):
    timing = modules.timing
    order = []
    sides = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    times = timing.interleaved(sides, 3)
    assert "".join(order) == "abbaab"
    assert times == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert timing.ratios(times["b"], times["a"]) == [2, 3 / 4, 6 / 5]


def test_a_figure_is_the_median_against_its_bar(modules):
    timing = modules.timing
    found = timing.figure("name", "what", ">= 1.4", [1.0, 1.5, 9.0])
    assert (found["value"], found["low"], found["high"], found["met"]) == (1.5, 1.0, 9.0, True)
    assert not timing.figure("name", "what", "<= 1.2", [1.0, 1.5, 9.0])["met"]
    assert timing.figure("name", "what", ">= -1", [-0.5])["met"]


def test_the_readmes_table_is_replaced_and_the_rest_stays(modules, report, tmp_path):
    bench = modules.bench
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{bench.START}\nold | table\n{bench.END}\n\nafter\n")
    assert bench.update(readme, report)
    once = readme.read_text(encoding="utf-8")
    assert once.startswith("before\n\n<!-- bench -->\n<!-- processor: ")
    assert once.endswith("\n</details>\n<!-- /bench -->\n\nafter\n")
    assert "old | table" not in once
    assert all(found["what"] in once for found in report["figures"])
    assert bench.update(readme, report)
    assert readme.read_text(encoding="utf-8") == once
    readme.write_text("no markers\n")
    assert not bench.update(readme, report)
    assert readme.read_text(encoding="utf-8") == "no markers\n"


def test_each_processor_keeps_its_table_and_the_last_one_is_open(modules, report, tmp_path):
    bench = modules.bench
    readme = tmp_path / "README.md"
    readme.write_text(f"{bench.START}\n{bench.END}\n")
    for name in ("one", "another", "one"):
        bench.update(readme, {**report, "machine": {**report["machine"], "processor": name}})
    found = readme.read_text(encoding="utf-8")
    assert bench.BLOCK.findall(found) == ["one", "another"]
    assert found.count("<details open>\n<summary>one<") == found.count("<details open>") == 1
    assert "<details>\n<summary>another<" in found
    assert found.count("| what | bar |") == found.count("</details>") == 2


def test_readme_has_a_place_for_the_table(modules):
    bench = modules.bench
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index(bench.START) < text.index(bench.END)


def test_a_split_in_files_keeps_its_texts_and_two_plain_epochs_learn(modules, tmp_path):
    split, pairs = modules.official_split, range(120)
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    texts = {part: [f'{kind} "{part}" {n}' for n in pairs for kind in ("fine,", "dull")]
             for part in ("train", "test")}  # fmt: skip
    rows = {part: Dataset.from_dict({"text": of, "label": [1, 0] * len(pairs)}, features)
            for part, of in texts.items()}  # fmt: skip
    for part, of in rows.items():
        split.write(tmp_path / f"{part}.tsv", of)
    read = data.load(tmp_path / "train.tsv", test_file=tmp_path / "test.tsv", quiet=True)["test"]
    assert (read["text"][:], read["label"][:]) == (texts["test"], [1, 0] * len(pairs))
    assert split.plain_epochs(rows, 0, tmp_path) > 0.9

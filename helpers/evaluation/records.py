"""Results as data: one JSON line per measurement, and league tables made from them.

Prose, figures and the README take their numbers from here, never from a keyboard. The first line of
a file may hold the facts of its run, `{"facts": {…}}`.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

FIELDS = {  # name -> what it is; the order is the order of the columns
    "notebook": "which notebook measured it",
    "method": "what was measured",
    "dataset": "on which data set",
    "n_train": "labelled training examples",
    "n_validation": "validation examples",
    "n_test": "test examples",
    "seed": "the seed, or how many seeds the value is the mean of, as 'mean of 3'",
    "metric": "name of the metric",
    "value": "its value",
    "low": "lower end of its 95 % interval",
    "high": "upper end of its 95 % interval",
    "seconds": "training time in seconds, of one run",
    "trainable": "parameters that were trained",
    "parameters": "parameters in all",
    "size": "size of the run: quick, default or full",
    "main": "whether this is the notebook's main result",
    "precision": "arithmetic of training and prediction: float32 or bf16",
    "note": "anything that a reader of the table must know",
}
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "peft", "gensim",
            "scikit-learn")  # fmt: skip


def records_file(notebook: str) -> Path:
    """Where a notebook's records go: `$NLP_TRANSFER_RECORDS` when the runner has set it, else
    `build/results/<notebook>.jsonl` under the current folder."""
    given = os.environ.get("NLP_TRANSFER_RECORDS")
    return Path(given) if given else Path("build/results") / f"{notebook}.jsonl"


def machine() -> dict[str, str | int | None]:
    """What ran: system, processor and its cores, device (`mps` is the GPU of Apple silicon) and the
    versions that matter; no names of users, hosts or folders."""
    import torch

    device = "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else device
    found = {"system": f"{platform.system()} {platform.machine()}", "processor": processor()}
    found |= {"cores": os.cpu_count(), "device": device, "python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # of an extra that is not installed
            found[name] = version(name)
    return found


def processor() -> str:
    """The processor's name, as speed depends on it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class Recorder:
    """Collects the measurements of one run of one notebook; starts its file anew.

        records = Recorder("02_pretrained_vectors", size="quick")
        records.always(dataset="tweets", metric="accuracy")
        records.add(method="TF-IDF", value=0.8, n_train=200)

    `add` takes the names in `FIELDS`; an `evaluation.Interval` as `value` fills `low` and `high`.
    `always` sets what the following calls of `add` have in common, unless they say otherwise.
    """

    def __init__(self, notebook: str, size: str = "default", file: str | Path | None = None):
        self.common = {"notebook": notebook, "size": size, "machine": machine()}
        self.file = Path(file) if file else records_file(notebook)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("", encoding="utf-8")
        self.records: list[dict] = []

    def always(self, **fields) -> None:
        """Set fields of all the records to come."""
        self.common |= self._known(fields)

    def add(self, *, method: str, value: object, **fields) -> dict:
        """Write one record and return it. Raises `TypeError` for a field that is not known."""
        given = self.common | {"method": method, "value": value} | self._known(fields)
        if hasattr(value, "low"):
            given |= value._asdict()
        if "metric" not in given:
            raise TypeError("a record needs a metric")
        entry = {name: _plain(given[name]) for name in (*FIELDS, "machine") if name in given}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self.records.append(entry)
        return entry

    @staticmethod
    def _known(fields: dict) -> dict:
        unknown = set(fields) - set(FIELDS)
        if unknown:
            names = ", ".join(sorted(unknown))
            raise TypeError(f"unknown field {names}: see FIELDS in helpers.evaluation.records")
        return fields

    def table(self) -> pd.DataFrame:
        """The records of this run, columns in the order of `FIELDS`."""
        return _frame(self.records)


def read(*places: str | Path) -> pd.DataFrame:
    """The records in JSON-lines files, and in the folders' `*.jsonl` files, as one data frame.
    Raises `ValueError` with file and line where one is damaged."""
    files: list[Path] = []
    for place in map(Path, places):
        files += sorted(place.glob("**/*.jsonl")) if place.is_dir() else [place]
    return _frame(entry for file in files for entry in _entries(file) if "facts" not in entry)


def facts(file: str | Path) -> dict:
    """What made the records of a file: the facts in its first line, `{}` if it has none."""
    return next(_entries(Path(file)), {}).get("facts", {})


def _entries(file: Path) -> Iterator[dict]:
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            if line.strip() and not isinstance(entry := json.loads(line), dict):
                raise ValueError("no object")
        except (ValueError, RecursionError):
            fault = f"{file}, line {number}, is damaged: delete the line, or run its notebook again"
            raise ValueError(fault) from None
        if line.strip():
            yield entry


def league(records: pd.DataFrame) -> pd.DataFrame:
    """League table: one row per data set, metric, number of labels and method, the best first.

    `value` is the mean over the records of the row (one a seed, usually), `runs` says how many;
    `low` and `high` are the recorded interval where there is one record, else the range of values.
    """
    key = ["dataset", "metric", "n_train", "method"]
    groups = records.reindex(columns=[*FIELDS]).groupby(key, dropna=False, sort=False)
    table = groups.agg(
        value=("value", "mean"), low=("low", "min"), high=("high", "max"),
        least=("value", "min"), most=("value", "max"), runs=("value", "size"),
        seconds=("seconds", "mean"), parameters=("parameters", "max"),
    ).reset_index()  # fmt: skip
    several = table["runs"] > 1
    table["low"] = table["low"].where(~several, table["least"])
    table["high"] = table["high"].where(~several, table["most"])
    order = ["dataset", "metric", "n_train", "value"]
    table = table.sort_values(order, ascending=[True, True, True, False], ignore_index=True)
    return table.drop(columns=["least", "most"])


def _frame(records: Iterable[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(list(records))
    return frame.reindex(columns=[name for name in (*FIELDS, "machine") if name in frame])


def _plain(value):
    """Numpy and torch scalars as Python numbers, so that JSON takes them."""
    return value.item() if hasattr(value, "item") else value

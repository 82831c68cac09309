"""Results as data: one JSON line per measurement; the first may hold the facts of its run."""

import json
import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from operator import methodcaller
from pathlib import Path

import pandas as pd

# What a record may hold, in the order of the columns: `seed` is one, or 'mean of 3'; `low` and
# `high` end the 95 % interval; `seconds` trained one run; `main` marks a notebook's main result.
FIELDS = ("notebook", "method", "dataset", "n_train", "n_validation", "n_test", "seed", "metric",
          "value", "low", "high", "seconds", "trainable", "parameters", "size", "main", "precision",
          "note", "machine")  # fmt: skip
PACKAGE = Path(__file__).resolve().parents[1]
KEPT = PACKAGE.parent / "data" / "records"
SAME = ("method", "dataset", "n_train", "n_validation", "n_test", "seed", "metric")
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "peft", "gensim",
            "scikit-learn")  # fmt: skip


def machine() -> dict[str, str | int | None]:
    """What ran: system, processor, device (`mps`: Apple's GPU) and versions; no user, no host."""
    import torch

    cpu = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: *(.*\S)", cpu.read_text("utf-8")) if cpu.exists() else []
    name = names[0] if names else platform.processor() or platform.machine()
    device = "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else device
    found = {"system": f"{platform.system()} {platform.machine()}", "processor": name}
    found |= {"cores": os.cpu_count(), "device": device, "python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # of an extra that is not installed
            found[name] = version(name)
    return found


class Recorder:
    """Collects the measurements of one run of one notebook; starts its file anew."""

    def __init__(self, notebook: str, size: str = "default", file: str | Path | None = None):
        place = os.environ.get("NLP_TRANSFER_RECORDS") or f"build/results/{notebook}.jsonl"
        self.file, self.records = Path(file or place), []
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("", encoding="utf-8")
        self.common = {"notebook": notebook, "size": size, "machine": machine()}

    def always(self, **fields) -> None:
        """Set fields of all the records to come, unless `add` says otherwise."""
        self.common |= fields

    def add(self, *, method: str, value: object, **fields) -> dict:
        """Write one record and return it; an `Interval` as `value` fills `low` and `high`, too."""
        value = value._asdict() if hasattr(value, "low") else {"value": value}
        given = self.common | {"method": method, **fields, **value}
        if unknown := ", ".join(sorted({*given} - {*FIELDS})):
            raise TypeError(f"unknown field {unknown}: see FIELDS in helpers.evaluation.records")
        if "metric" not in given:
            raise TypeError("a record needs a metric")
        entry = {name: given[name] for name in FIELDS if name in given}
        line = json.dumps(entry, ensure_ascii=False, default=methodcaller("item"))
        with self.file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.records.append(json.loads(line))
        return self.records[-1]

    def table(self) -> pd.DataFrame:
        """The records of this run, columns in the order of `FIELDS`; what was measured twice, as
        where a cell ran again, once, as it was last."""
        last = {tuple(record.get(name) for name in SAME): record for record in self.records}
        return pd.DataFrame(list(last.values())).filter(FIELDS)

    def recorded(self) -> pd.DataFrame:
        """The committed records, if any, of the notebook's full run; in full size, this run's."""
        if self.common["size"] == "full":
            return self.table()
        file = KEPT / f"{self.common['notebook']}.full.jsonl"
        return read(file) if file.exists() else pd.DataFrame(columns=FIELDS)


def read(*places: str | Path) -> pd.DataFrame:
    """Records of JSON-lines files and folders of them; a damaged line is a `ValueError`."""
    files: list[Path] = []
    for place in map(Path, places):
        files += sorted(place.glob("**/*.jsonl")) if place.is_dir() else [place]
    entries = [entry for file in files for entry in _entries(file) if "facts" not in entry]
    return pd.DataFrame(entries).filter(FIELDS)


def facts(file: str | Path) -> dict:
    """What made the records of a file: the facts in its first line, `{}` if it has none."""
    return next(_entries(Path(file)), {}).get("facts", {})


def _entries(file: Path) -> Iterator[dict]:
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            entry = json.loads(line.strip() or b"{}")
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            mend = "delete the line, or run its notebook again"
            raise ValueError(f"{file}, line {number}, is damaged: {mend}")
        if entry:
            yield entry


def league(records: pd.DataFrame) -> pd.DataFrame:
    """One row per data set, metric, labels and method: the mean of its `runs`, highest first."""
    key = ["dataset", "metric", "n_train", "method"]
    table = records.reindex(columns=FIELDS).groupby(key, dropna=False, as_index=False).agg(
        value=("value", "mean"), low=("low", "min"), high=("high", "max"), runs=("value", "size"),
        seconds=("seconds", "mean"), parameters=("parameters", "max"),
    )  # fmt: skip
    order = [True, True, True, False]
    return table.sort_values([*key[:3], "value"], ascending=order, ignore_index=True)

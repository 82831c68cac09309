"""Numbers in prose, kept to the records by an invisible reference behind each.

    87.2 %<!--= 03 full: all layers @7050 -->

names a notebook, the size of its run (none: default), a method and, where these leave more than one
record, `@` a number of labels and, after bars, the metric or data set; `.low` takes another field
than the value. The number keeps its written form: 0.872, 87.2 %, +4.8 points, 1,500, 4.3 minutes.
"""

import re
from pathlib import Path

import nbformat
import pandas as pd

from helpers.evaluation import records
from helpers.series.execution import write
from helpers.series.parameters import ParameterError
from helpers.series.provenance import ROOT

UNITS = {"%": 100, "points": 100, "minutes": 1 / 60, "hours": 1 / 3600}
NUMBER = re.compile(
    r"(?P<sign>[-+−]?)(?P<number>\d[\d,]*(?:\.(?P<decimals>\d+))?)(?P<gap>[  ]?)"
    rf"(?P<unit>{'|'.join(UNITS)})?<!--=(?P<reference>.*?)-->"
)
REFERENCE = re.compile(
    r"\s*(?P<notebook>\d\d)(?: (?P<size>\w+))?: (?P<method>.+?)(?: @(?P<n>[\d,]+))?"
    r"(?: \.(?P<field>\w+))?(?P<more>(?: \| [^|]+?)*)\s*"
)


def value(reference: str, root: Path = ROOT) -> float:
    """The number of a reference. Raises `ParameterError` unless exactly one record has it."""
    if not (found := REFERENCE.fullmatch(reference)):
        raise ParameterError(f"{reference!r} is no reference: write 03 full: method @n .field.")
    ending = "" if found["size"] in (None, "default") else f".{found['size']}"
    files = (root / "data" / "records").glob(f"{found['notebook']}_*.jsonl")
    files = [file for file in files if file.stem.partition(".")[1:] == ending.partition(".")[1:]]
    frame = records.read(*files) if files else pd.DataFrame({"method": []})
    frame = frame[frame["method"] == found["method"]]
    if found["n"]:
        frame = frame[frame["n_train"] == int(found["n"].replace(",", ""))]
    for text in found["more"].split(" | ")[1:]:
        frame = frame[(frame["metric"] == text) | (frame["dataset"] == text)]
    number = frame.get(found["field"] or "value", pd.Series()).dropna()
    if len(number) != 1:
        raise ParameterError(f"{reference.strip()!r} names {len(number)} records and not one.")
    return float(number.iloc[0])


def rewritten(text: str, root: Path = ROOT) -> str:
    """The text with each number as its record has it. Raises `ParameterError`."""

    def number(match: re.Match) -> str:
        exact = value(match["reference"], root) * UNITS.get(match["unit"], 1)
        shown = f"{abs(exact):{',' * (',' in match['number'])}.{len(match['decimals'] or '')}f}"
        sign = "+" * bool(match["sign"]) if exact >= 0 else "-" if match["sign"] == "-" else "−"
        return sign + shown + match[0][match.end("number") - match.start() :]

    text, count = NUMBER.subn(number, text)
    if count != text.count("<!--="):
        raise ParameterError("a reference stands behind no number.")
    return text


def update(root: Path = ROOT) -> list[str]:
    """Rewrite the numbers in README.md and the notebooks' prose; names of the changed files."""
    changed = []
    for file in [root / "README.md", *sorted((root / "notebooks").glob("*.ipynb"))]:
        before = file.read_text(encoding="utf-8") if file.is_file() else ""
        if "<!--=" not in before:
            continue
        node = nbformat.reads(before, 4) if file.suffix == ".ipynb" else None
        try:
            for cell in node.cells if node else ():
                if cell.cell_type == "markdown":
                    cell.source = rewritten(cell.source, root)
            after = nbformat.writes(node) + "\n" if node else rewritten(before, root)
        except ParameterError as error:
            raise ParameterError(f"{file.name}: {error}") from None
        if after != before:
            write(file, after)
            changed.append(file.name)
    return changed

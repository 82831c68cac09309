"""Numbers in prose, kept to the records by an invisible reference behind each.

    87.2 %<!--= 03 full: all layers @7050 -->

names a notebook, the size of its run (none: default), a method and, where these leave more than one
record, `@` a number of labels and, after bars, the metric or data set; `.low` takes another field
than the value. The number keeps its written form: 0.872, 87.2 %, +4.8 points, 1,500, 4.3 minutes.
"""

import re
from pathlib import Path

from helpers.evaluation import records
from helpers.series.parameters import ParameterError
from helpers.series.provenance import ROOT, write

UNITS = {"%": 100, "points": 100, "minutes": 1 / 60, "hours": 1 / 3600}
NUMBER = re.compile(
    r"(?P<sign>[-+−]?)(?P<number>\d[\d,]*(?:\.(?P<decimals>\d+))?)[  ]?"
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
    rows = records.read(*(root / "data" / "records").glob(f"{found['notebook']}_*.jsonl"))
    rows = rows.reindex(columns=records.FIELDS)
    rows = rows[rows["method"].eq(found["method"]) & rows["size"].eq(found["size"] or "default")]
    if found["n"]:
        rows = rows[rows["n_train"] == int(found["n"].replace(",", ""))]
    for text in found["more"].split(" | ")[1:]:
        rows = rows[(rows["metric"] == text) | (rows["dataset"] == text)]
    number = rows.reindex(columns=[found["field"] or "value"]).squeeze("columns").dropna()
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


def update(root: Path = ROOT) -> None:
    """Rewrite the numbers in README.md and the notebooks. Raises `ParameterError`."""
    for file in [root / "README.md", *sorted((root / "notebooks").glob("*.ipynb"))]:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        try:
            if (new := rewritten(text, root)) != text:
                write(file, new)
        except ParameterError as error:
            raise ParameterError(f"{file.name}: {error}") from None

"""The README's results, a table for each notebook and one figure, made from committed records."""

import re
from pathlib import Path

import nbformat
import pandas as pd

from helpers.evaluation import records
from helpers.series.execution import write
from helpers.series.parameters import ParameterError
from helpers.series.provenance import ROOT

ROWS, CONTROLS = 8, re.compile(r"^(TF-IDF|.*random start|.*from scratch|most frequent.*)$|class")
START, END = "<!-- results -->", "<!-- /results -->"
PANELS = {  # notebook -> what its panel is called, and the control and the transfer that it shows
    "02_pretrained_vectors": ("TextCNN", "random start", "GloVe tuned"),
    "03_feature_extraction_vs_fine_tuning": ("MiniLM", "random start", "all layers"),
}


def update(root: Path = ROOT) -> None:
    """Write the tables between the markers of README.md, and the figure `docs/result.png`. Raises
    `ParameterError`, and writes nothing, unless each marker stands there once."""
    if found := parts(root):
        write(root / "README.md", f"{found[0]}{START}\n{tables(root)}\n{END}{found[2]}")
        draw(root / "data" / "records", root / "docs" / "result.png")


def parts(root: Path) -> list[str]:
    """What stands before, between and after the markers of README.md; [] if there is no README."""
    readme = root / "README.md"
    if not readme.exists():
        return []
    found = re.split(f"{START}|{END}", text := readme.read_text(encoding="utf-8"))
    if len(found) != 3 or text.find(START) > text.find(END) or START not in text:
        raise ParameterError(f"{readme} must have {START} and, below it, {END}, once each.")
    return found


def tables(root: Path = ROOT) -> str:
    """One table in Markdown for each notebook with records, in the order of the series."""
    found = chosen(root / "data" / "records")
    return "\n\n".join(table(root, name, file) for name, file in found.items())


def chosen(folder: Path) -> dict[str, Path]:
    """Notebook -> the file of its records, those of the full size where there are any."""
    files = {}
    for ending in (".jsonl", ".full.jsonl"):  # the later goes before the earlier
        found = {file.name.removesuffix(ending): file for file in folder.glob(f"*{ending}")}
        files |= {name: file for name, file in found.items() if "." not in name}
    return dict(sorted(files.items()))


def table(root: Path, name: str, file: Path) -> str:
    """The methods of a notebook on the data and the metric of its main result, at most `ROWS`."""
    main, rows = compared(records.read(file))
    counts = sorted(rows["n_train"].dropna().unique())
    counts = sorted({counts[0], counts[len(counts) // 2], counts[-1]}) if counts else [None]
    heads = [f"{n:,.0f} labels" if n or counts[1:] else main["metric"] for n in counts]
    shown = {}  # the line of a method -> how much it matters
    for method, part in rows.groupby("method", sort=False):
        at = [part if n is None else part[part["n_train"] == n] for n in counts]
        cells = [_score(rows.iloc[-1]) if len(rows) else "" for rows in at]
        seconds = [f"{took:.0f}" for took in part["seconds"].dropna()][-1:] or [""]
        rank = part["main"].eq(True).any(), bool(CONTROLS.search(method)), sum(map(len, cells))
        if any(cells):  # else it was tried between the numbers of labels that are shown
            shown[f"| {method} | {' | '.join(cells + seconds)} |"] = *rank, part["value"].max()
    kept = sorted(shown, key=shown.get, reverse=True)[:ROWS]
    lines = [f"| | {' | '.join(heads)} | seconds |", "| --- " * (len(heads) + 2) + "|"]
    lines += [line for line in shown if line in kept]
    title = nbformat.read(root / "notebooks" / f"{name}.ipynb", 4).cells[0].source
    title = title.splitlines()[0].lstrip("# ")
    made, more = records.facts(file), len(shown) - len(kept)
    told = f"{main['metric']}, {main['dataset']}, {main['n_test']:,.0f} for test"
    told += f"; size {main['size']}" + f"; {more} more methods in the notebook" * (more > 0)
    told += f"; measured at {made['date'][:10]}, {made['commit'][:7]}" if made else ""
    return "\n".join([f"**[{title}](notebooks/{name}.ipynb)** ({told})", "", *lines])


def compared(frame: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """A notebook's main record, and the records of all methods on the same data and metric, without
    a main record that repeats a method's under another name."""
    frame = frame.reindex(columns=records.FIELDS)
    main = frame[frame["main"].eq(True)].iloc[-1]
    rows = frame[(frame["metric"] == main["metric"]) & (frame["dataset"] == main["dataset"])]
    repeated = rows.duplicated(["n_train", "value", "low", "high"])
    return main, rows[~(repeated & rows["main"].eq(True))]


def draw(folder: Path, file: Path) -> None:
    """Learning curves with and without transfer, a panel for each notebook in `PANELS`."""
    from matplotlib import pyplot as plt

    from helpers.evaluation import plots

    frames = {n: records.read(file) for n, file in chosen(folder).items() if n in PANELS}
    if not frames:
        return
    plots.style()
    fig, axes = plt.subplots(1, len(frames), figsize=(10, 4), sharey=True, squeeze=False)
    for ax, (name, frame) in zip(axes[0], frames.items(), strict=True):
        title, *methods = PANELS[name]
        rows = compared(frame)[1].set_index("method").loc[methods].reset_index()
        plots.learning_curves(rows, ax=ax, title=title)
    file.parent.mkdir(exist_ok=True)
    fig.savefig(file, dpi=100, metadata={"Software": None})
    plt.close(fig)


def _score(row: pd.Series) -> str:
    interval = f" [{row['low']:.3f}, {row['high']:.3f}]" if pd.notna(row.get("low")) else ""
    return f"{row['value']:.3f}{interval}"

"""The README's results, a table for each notebook and one figure, made from committed records."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas as pd

from helpers.evaluation import records as results
from helpers.series.provenance import ROOT

START, END = "<!-- results -->", "<!-- /results -->"
PANELS = {  # notebook -> what its panel is called, and the control and the transfer that it shows
    "02_pretrained_vectors": ("TextCNN", "random start", "GloVe tuned"),
    "03_feature_extraction_vs_fine_tuning": ("MiniLM", "random start", "all layers"),
}


def update(root: Path = ROOT) -> None:
    """Write the tables between the markers of README.md, and the figure `docs/result.png`."""
    readme = root / "README.md"
    if not readme.exists():
        return
    before, _, rest = readme.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{START}\n{tables(root)}\n{END}{after}", encoding="utf-8")
    draw(root / "data" / "records", root / "docs" / "result.png")


def tables(root: Path = ROOT) -> str:
    """One table in Markdown for each notebook with records, in the order of the series."""
    found = chosen(root / "data" / "records")
    return "\n\n".join(table(root, name, frame) for name, frame in found.items())


def chosen(folder: Path) -> dict[str, pd.DataFrame]:
    """Notebook -> its records, those of the full size where there are any."""
    files = {}
    for ending in (".jsonl", ".full.jsonl"):  # the later goes before the earlier
        for file in folder.glob(f"*{ending}"):
            if "." not in (name := file.name.removesuffix(ending)):
                files[name] = file
    return {name: results.read(file) for name, file in sorted(files.items())}


def table(root: Path, name: str, frame: pd.DataFrame) -> str:
    """The methods of a notebook on the data and the metric of its main result."""
    main, rows = compared(frame)
    counts = sorted(rows["n_train"].dropna().unique()) if "n_train" in rows else []
    counts = sorted({counts[0], counts[len(counts) // 2], counts[-1]}) if counts else [None]
    heads = [f"{n:,.0f} labels" if n or counts[1:] else main["metric"] for n in counts]
    heads.append("seconds")
    lines = [f"| | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
    for method, part in rows.groupby("method", sort=False):
        at = {n: part if n is None else part[part["n_train"] == n] for n in counts}
        cells = [_score(at[n].iloc[-1]) if len(at[n]) else "" for n in counts]
        seconds = part["seconds"].dropna() if "seconds" in part else []
        if any(cells):  # else it was tried between the numbers of labels that are shown
            lines.append(f"| {method} | {' | '.join(cells)} | {_number(seconds)} |")
    title = nbformat.read(root / "notebooks" / f"{name}.ipynb", 4).cells[0].source
    title = title.splitlines()[0].lstrip("# ")
    told = f"{main['metric']}, {main['dataset']}, {main['n_test']:,.0f} for test"
    head = f"**[{title}](notebooks/{name}.ipynb)** ({told}; size {main['size']})"
    return "\n".join([head, "", *lines])


def compared(frame: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """A notebook's main record, and the records of all methods on the same data and metric. A main
    record that repeats a method's under another name is left out of them."""
    marked = frame["main"].eq(True)
    main = frame[marked].iloc[-1]
    rows = frame[(frame["metric"] == main["metric"]) & (frame["dataset"] == main["dataset"])]
    key = [name for name in ("n_train", "value", "low", "high") if name in rows]
    return main, rows[~(rows.duplicated(key) & rows["main"].eq(True))]


def draw(folder: Path, file: Path) -> None:
    """Learning curves with and without transfer, a panel for each notebook in `PANELS`."""
    from matplotlib import pyplot as plt

    from helpers.evaluation import plots

    frames = {name: frame for name, frame in chosen(folder).items() if name in PANELS}
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


def _number(seconds) -> str:
    return f"{seconds.iloc[-1]:.0f}" if len(seconds) else ""

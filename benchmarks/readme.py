"""The README's results, a table for each notebook and one figure, made from committed records.

`make numbers` runs it.
"""

import hashlib
import re
from pathlib import Path

import nbformat
import pandas as pd
from matplotlib import pyplot as plt

from helpers.evaluation import plots, records
from helpers.series.parameters import ROOT
from helpers.series.provenance import write

ROWS, CONTROLS = 8, re.compile(r"^(TF-IDF|.*random start|.*from scratch|most frequent.*)$|class")
START, END = "<!-- results -->", "<!-- /results -->"
PANELS = {  # notebook -> what its panel is called, and the control and the transfer that it shows
    "02_pretrained_vectors": ("TextCNN", "random start", "GloVe tuned"),
    "03_feature_extraction_vs_fine_tuning": ("MiniLM", "from scratch", "all layers"),
}


def update(root: Path = ROOT) -> None:
    """Write the tables between the marks of README.md. Raises `ValueError`, and writes nothing,
    unless each mark stands there once."""
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    if re.findall(f"{START}|{END}", text) != [START, END]:
        raise ValueError(f"{readme} must have {START} and, below it, {END}, once each.")
    before, after = re.split(f"{START}.*{END}", text, flags=re.DOTALL)
    write(readme, f"{before}{START}\n{tables(root)}\n{END}{after}")


def tables(root: Path = ROOT) -> str:
    """One table in Markdown for each notebook with records, in the order of the series."""
    return "\n\n".join(table(root, name, file) for name, file in files(root).items())


def files(root: Path = ROOT) -> dict[str, Path]:
    """Notebook -> the file of its records, those of the full size where there are any."""
    found = {}
    for ending in (".jsonl", ".full.jsonl"):  # the later goes before the earlier
        for file in (root / "data" / "records").glob(f"*{ending}"):
            found[file.name.removesuffix(ending)] = file
    return {name: found[name] for name in sorted(found) if "." not in name}


def table(root: Path, name: str, file: Path) -> str:
    """The methods of a notebook on the data and the metric of its main result, at most `ROWS`."""
    main, rows = compared(file)
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
            told = {n for n in part["n_test"].dropna() if n != main["n_test"]}
            name_of = method + "".join(f" ({n:,.0f} for test)" for n in sorted(told))
            shown[f"| {name_of} | {' | '.join(cells + seconds)} |"] = *rank, part["value"].max()
    kept = sorted(shown, key=shown.get, reverse=True)[:ROWS]
    lines = [f"| | {' | '.join(heads)} | seconds |", "| --- " * (len(heads) + 2) + "|"]
    lines += [line for line in shown if line in kept]
    title = nbformat.read(root / "notebooks" / f"{name}.ipynb", 4).cells[0].source
    title = title.splitlines()[0].lstrip("# ")
    made, more = records.facts(file), len(shown) - len(kept)
    told = f"{main['metric']}, {main['dataset']}, {main['n_test']:,.0f} for test"
    told += f"; size {main['size']}" + f"; {more} more methods in the notebook" * (more > 0)
    told += f"; measured on {made['date'][:10]}, {made['commit'][:7]}" if made else ""
    return "\n".join([f"**[{title}](notebooks/{name}.ipynb)** ({told})", "", *lines])


def compared(file: Path) -> tuple[pd.Series, pd.DataFrame]:
    """A notebook's main record, and the records of all methods on the same data and metric, without
    a main record that repeats a method's under another name."""
    frame = records.read(file).reindex(columns=records.FIELDS)
    main = frame[frame["main"].eq(True)].iloc[-1]
    rows = frame[(frame["metric"] == main["metric"]) & (frame["dataset"] == main["dataset"])]
    repeated = rows.duplicated(["n_train", "value", "low", "high"])
    return main, rows[~(repeated & rows["main"].eq(True))]


def _score(row: pd.Series) -> str:
    interval = f" [{row['low']:.3f}, {row['high']:.3f}]" if pd.notna(row["low"]) else ""
    return f"{row['value']:.3f}{interval}"


def draw(file: Path, root: Path = ROOT) -> None:
    """Learning curves with and without transfer, a panel for each notebook in `PANELS`; the file
    describes itself by a hash of what is drawn."""
    plots.style()
    drawn = hashlib.sha256()
    fig, axes = plt.subplots(1, len(PANELS), figsize=(10, 4), sharey=True)
    for ax, (name, (title, *methods)) in zip(axes, PANELS.items(), strict=True):
        rows = compared(files(root)[name])[1].set_index("method").loc[methods].reset_index()
        drawn.update(rows.to_json().encode())
        plots.learning_curves(rows, ax=ax, title=title)
        ax.tick_params(axis="x", labelsize="x-small")  # 500, 1,000 and 2,000 stand close
    fig.savefig(file, dpi=100, metadata={"Software": None, "Description": drawn.hexdigest()})
    plt.close(fig)


if __name__ == "__main__":
    update()
    draw(ROOT / "docs" / "result.png")

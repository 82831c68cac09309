"""Figures of the series, and tables: a figure takes a data frame or arrays, draws into `ax` or new
axes and returns them; further keywords (`title`, `xlabel`, `ylim` …) go to `ax.set`. All texts are
shown as they stand: a `$` begins no formula, a `<` no tag."""

import re
from collections.abc import Iterable, Sequence
from html import escape as _html
from itertools import cycle, pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from pandas.io.formats.style import Styler
from scipy.optimize import isotonic_regression
from sklearn.metrics import confusion_matrix

COLOURS = {  # method, or end of its name -> number in seaborn's colour-blind-safe palette
    "random start": 3, "from scratch": 3, "random ELMo": 3, "TF-IDF": 7, "frequent tag": 7,
    "all layers": 2, "GloVe tuned": 2, "INIT tuned": 2, "ULMFiT": 2, "GloVe + ELMo": 2,
    "CNN-CRF": 2, "plain": 2, "MULT+INIT": 4, "MiniLM": 4, "layer 0": 4, "SetFit": 4,
    "frozen + linear": 0, "frozen": 0, "GloVe": 0, "GloVe BiLSTM": 0, "last two layers": 1,
    "mean of vectors": 1, "MULT": 1, "GloVe start": 1, "ELMo": 1, "spelling + CRF": 1,
}  # fmt: skip
PLACES = [(x, y) for far in (3, 12) for y in (far, -far) for x in (far, -far)]


def style() -> None:
    """The look of the series' figures; call once in a notebook."""
    look = {"figure.figsize": (7, 4), "figure.dpi": 80, "savefig.bbox": "tight"}
    look |= {"axes.titlesize": "medium", "axes.titlelocation": "left"}
    sns.set_theme(style="whitegrid", context="notebook", palette="colorblind", rc=look)


def colours(methods: Iterable[str]) -> dict[str, tuple[float, float, float]]:
    """A colour for each method: its own in the series (`COLOURS`) if free, else the next free."""
    palette, taken = sns.color_palette("colorblind"), {}
    for name in (methods := list(methods)):
        ends = max((end for end in COLOURS if name.endswith(end)), key=len, default=None)
        if ends and COLOURS[ends] not in taken.values():
            taken[name] = COLOURS[ends]
    free = cycle([n for n in range(len(palette)) if n not in taken.values()] or [7])
    return {name: palette[taken[name] if name in taken else next(free)] for name in methods}


def learning_curves(frame: pd.DataFrame, *, x: str = "n_train", ax: Axes | None = None,
                    **labels) -> Axes:  # fmt: skip
    """One line a method over `x` labels (logarithmic); `low` and `high`, if there, give a band."""
    ax = ax or plt.subplots()[1]
    _curves(ax, frame, x, colours(frame["method"].unique()), marker="o")
    ax.legend(**_outside(ax))
    return _over_counts(ax, frame[x], labels)


def recorded_curves(live: pd.DataFrame, recorded: pd.DataFrame, ax: Axes | None = None,
                    **labels) -> Axes:  # fmt: skip
    """The records of this run, `live`, as points over the curves of the full run, `recorded`, all
    with their intervals. Of the full run count the methods, data sets and metrics that `live` has:
    on other data, or with nothing recorded, there are the points alone."""
    ax, same = ax or plt.subplots()[1], ["method", "dataset", "metric"]
    full = recorded.reindex(columns=live.columns).merge(live[same].drop_duplicates())
    full = full.drop_duplicates([*same, "n_train"]).sort_values("n_train", kind="stable")
    colour = colours(live["method"].unique())
    _curves(ax, full, "n_train", colour, marker=".")
    aside = live["method"].map(list(colour).index) - len(colour) / 2 + 0.5  # no bar over another
    points = live.assign(n_train=live["n_train"] * 1.03**aside).sort_values("n_train")
    for name, part in points.groupby("method"):
        around = part[["low", "high"]].sub(part["value"], axis=0).abs().T
        look = {"color": colour[name], "markeredgecolor": "white", "capsize": 2, "zorder": 3}
        ax.errorbar(part["n_train"], part["value"], around, fmt="o", **look)
    told = "\nlines, bands: the full run, recorded; points: this run" if len(full) else ""
    _over_counts(ax, pd.concat([full["n_train"], live["n_train"]]), labels, told)
    ends = pd.concat([points, full]).drop_duplicates("method", keep="last").set_index("method")
    ends = ends[["n_train", "value"]].astype(float)  # objects where nothing is recorded
    ends = ends.sort_values("value")
    ax.figure.draw_without_rendering()  # so that the limits of the axes stand
    heights = (ax.transScale + ax.transLimits).transform(ends)[:, 1]
    steps = np.arange(len(ends)) * 14 * ax.figure.dpi / 72 / ax.bbox.height  # of 14 points
    places = isotonic_regression(heights - steps).x + steps  # as near to the lines as fits
    for (name, end), place in zip(ends.iterrows(), places, strict=True):
        line = {"arrowstyle": "-", "color": colour[name], "linewidth": 0.6, "shrinkB": 4}
        look = {"va": "center", "fontsize": 11, "parse_math": False, "arrowprops": line}
        look |= {"color": [0.75 * part for part in colour[name]]}  # darker: legible on white
        ax.annotate(name, end, (1.04, place), textcoords="axes fraction", **look)
    return ax


def intervals(frame: pd.DataFrame, *, y: str = "method", reference: float | None = None,
              value: str = "value", ax: Axes | None = None, **labels) -> Axes:  # fmt: skip
    """One row a method: its value as a point, `low` to `high` as a bar; a line at `reference`."""
    ax = ax or plt.subplots(figsize=(7, 0.5 + 0.42 * len(frame)))[1]
    rows = np.arange(len(frame))[::-1]
    around = np.abs(frame[["low", "high"]].to_numpy().T - frame[value].to_numpy())
    ax.errorbar(frame[value], rows, xerr=around, fmt="o", capsize=3)
    ax.set_yticks(rows, frame[y])
    ax.set_ylim(-0.5, len(frame) - 0.5)
    if reference is not None:
        ax.axvline(reference, color="0.4", linestyle="--", linewidth=1)
    return _labelled(ax, labels, xlabel=value)


def confusion(y_true: ArrayLike, y_pred: ArrayLike, names: Sequence[str], ax: Axes | None = None,
              **labels) -> Axes:  # fmt: skip
    """Confusion matrix of class ids: rows are true classes, numbers are shares of the row."""
    shares = confusion_matrix(y_true, y_pred, labels=range(len(names)), normalize="true")
    labels = {"xlabel": "predicted class", "ylabel": "true class"} | labels
    return heatmap(pd.DataFrame(shares, names, names), label="share of the row", ax=ax, **labels)


def heatmap(frame: pd.DataFrame, *, label: str, center: float | None = None, fmt: str = ".2f",
            ax: Axes | None = None, **labels) -> Axes:  # fmt: skip
    """A table of numbers as colours; `label` names the quantity, `center` the neutral value."""
    size = 1.5 + 0.8 * frame.shape[1], 1 + 0.5 * frame.shape[0]
    ax = ax or plt.subplots(figsize=size)[1]  # a notebook's first figure sets rcParams: they stay
    look = {"annot": frame.size <= 150, "fmt": fmt, "center": center, "cbar_kws": {"label": label}}
    with mpl.rc_context({"text.parse_math": False}):  # seaborn draws at once
        sns.heatmap(frame, ax=ax, cmap="viridis" if center is None else "vlag", **look)
        return _labelled(ax, labels)


def word_map(points: ArrayLike, words: Sequence[str], groups: Sequence[str] | None = None,
             ax: Axes | None = None, **labels) -> Axes:  # fmt: skip
    """Points `(n, 2)`, coloured by group, each word where it overlaps the others least."""
    points, boxes = np.asarray(points), []
    ax = ax or plt.subplots(figsize=(8, 6))[1]
    sns.scatterplot(x=points[:, 0], y=points[:, 1], hue=groups, ax=ax, s=30)
    if groups is not None:
        sns.move_legend(ax, **_outside(ax))
    ax.figure.draw_without_rendering()  # so that the limits of the axes stand
    for point, word in zip(points, words, strict=True):
        look = {"textcoords": "offset points", "fontsize": 9, "parse_math": False}
        note = ax.annotate(word, point, PLACES[0], **look)

        def overlaps(place: tuple[int, int], note=note) -> int:
            sides = "left" if place[0] > 0 else "right", "bottom" if place[1] > 0 else "top"
            note.set(position=place, ha=sides[0], va=sides[1])
            return note.get_window_extent().count_overlaps(boxes)

        overlaps(min(PLACES, key=overlaps))
        boxes.append(note.get_window_extent())
    return _labelled(ax, labels, xlabel="first component", ylabel="second component")


def styled(frame: pd.DataFrame, formats=None, *, index: bool = True, left: bool = False,
           **options) -> Styler:  # fmt: skip
    """`frame` with all texts escaped; `left` aligns its cells. `formats` and `options` are those of
    `Styler.format`: to call it again undoes the escaping."""
    shown = frame.map(lambda value: value if pd.api.types.is_scalar(value) else str(value)).style
    shown.format(formats, escape="html", **options)
    shown.set_table_attributes('class="tex2jax_ignore mathjax_ignore"')
    for axis in (0, 1):
        shown.format_index(lambda label: _html(str(label)), axis=axis)
        shown.format_index_names(lambda name: _html(str(name)), axis=axis)
    if not index:
        shown.hide(axis="index")
    return shown.set_properties(**{"text-align": "left"}) if left else shown


def escape(text: object) -> str:
    """`text` for a sentence in Markdown, its white space as single spaces and every mark of
    punctuation as an HTML entity: no markup, link or formula. Inside backticks use `<code>`."""
    marks = re.sub(r"[!-/:-@\[-`{-~]", lambda m: f"&#{ord(m[0])};", " ".join(str(text).split()))
    return marks.replace("&#36;", "<span>&#36;</span>")  # MathJax joins no dollars across elements


def _curves(ax: Axes, frame: pd.DataFrame, x: str, colour: dict, **look) -> None:
    for name, part in frame.groupby("method", sort=False):
        part = part.sort_values(x)
        ax.plot(part[x], part["value"], label=name, color=colour[name], **look)
        if {"low", "high"} <= set(part):
            ax.fill_between(part[x], part["low"], part["high"], color=colour[name], alpha=0.15)


def _over_counts(ax: Axes, counts: pd.Series, labels: dict, told: str = "") -> Axes:
    spaced = [n for n, near in pairwise([*sorted(counts.unique()), np.inf]) if near >= 1.6 * n]
    ax.set_xscale("log")
    ax.set_xticks(spaced, [f"{n:,.0f}" for n in spaced])
    ax.minorticks_off()
    axis = "labelled training examples (logarithmic)" + told
    return _labelled(ax, labels, xlabel=axis, ylabel="test accuracy")


def _outside(ax: Axes) -> dict:
    """Where a legend hides no data: beside the axes, or below those of a figure with several."""
    if len(ax.figure.axes) > 1:
        return {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18), "fontsize": "small"}
    return {"loc": "upper left", "bbox_to_anchor": (1, 1), "fontsize": "small"}


def _labelled(ax: Axes, labels: dict, **usual) -> Axes:
    ax.set(**usual | labels)
    for text in ax.findobj(mpl.text.Text):
        text.set_parse_math(False)
    return ax

"""Figures of the series: each takes a data frame or arrays and returns the matplotlib axes.

`ax` draws into given axes; further keywords (`title`, `xlabel`, `ylim` …) go to `ax.set`.
"""

from __future__ import annotations

from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns


def style() -> None:
    """The look of the series' figures; call once in a notebook."""
    sns.set_theme(style="whitegrid", context="notebook", palette="colorblind")
    mpl.rcParams |= {"figure.figsize": (7, 4), "figure.dpi": 80, "savefig.bbox": "tight"}
    mpl.rcParams |= {"axes.titlesize": "medium", "axes.titlelocation": "left"}


def learning_curves(
    frame: pd.DataFrame, *, x="n_train", y="value", hue="method", ax=None, **labels
):
    """One line a method over the number of labels (logarithmic), its interval as a band.

    `frame` has the columns x, y, hue, and `low` and `high` for the band.
    """
    ax = ax or plt.subplots()[1]
    for name, part in frame.groupby(hue, sort=False):
        part = part.sort_values(x)
        (line,) = ax.plot(part[x], part[y], marker="o", label=name)
        if {"low", "high"} <= set(part):
            ax.fill_between(part[x], part["low"], part["high"], color=line.get_color(), alpha=0.15)
    ax.set_xscale("log")
    ticks = sorted(frame[x].unique())
    crowded = [near < 1.6 * tick for tick, near in pairwise(ticks)] + [False]
    names = ["" if c else f"{tick:,}" for tick, c in zip(ticks, crowded, strict=True)]
    ax.set_xticks(ticks, names)
    ax.minorticks_off()
    labels = {"xlabel": "labelled training examples (logarithmic)", **labels}
    ax.set(**{"ylabel": "test accuracy", **labels})
    ax.legend(fontsize="small")
    return ax


def intervals(frame: pd.DataFrame, *, y="method", value="value", reference=None, ax=None, **labels):
    """One row a method: its value as a point and its interval (`low` to `high`) as a bar.

    `reference` draws a vertical line, at zero for differences, say.
    """
    ax = ax or plt.subplots(figsize=(7, 0.5 + 0.42 * len(frame)))[1]
    rows = np.arange(len(frame))[::-1]
    around = np.abs(frame[["low", "high"]].to_numpy().T - frame[value].to_numpy())
    ax.errorbar(frame[value], rows, xerr=around, fmt="o", capsize=3)
    ax.set_yticks(rows, frame[y])
    ax.set_ylim(-0.5, len(frame) - 0.5)
    if reference is not None:
        ax.axvline(reference, color="0.4", linestyle="--", linewidth=1)
    ax.set(**{"xlabel": value, **labels})
    return ax


def confusion(truth, predictions, names, ax=None, **labels):
    """Confusion matrix: rows are true classes and sum to 1, numbers are shares of the row."""
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (np.asarray(truth), np.asarray(predictions)), 1)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    ax = ax or plt.subplots(figsize=(1.5 + 0.7 * len(names), 1 + 0.6 * len(names)))[1]
    look = {"annot": len(names) <= 12, "fmt": ".2f", "cmap": "Blues", "vmin": 0, "vmax": 1}
    sns.heatmap(pd.DataFrame(shares, names, names), ax=ax, **look)
    ax.set(**{"xlabel": "predicted class", "ylabel": "true class", **labels})
    return ax


def heatmap(frame: pd.DataFrame, *, label: str, center=None, fmt=".2f", ax=None, **labels):
    """A table of numbers as colours; `label` names the quantity, `center` the neutral value."""
    ax = ax or plt.subplots(figsize=(1.5 + 0.8 * frame.shape[1], 1 + 0.5 * frame.shape[0]))[1]
    colours = "viridis" if center is None else "vlag"
    look = {"annot": True, "fmt": fmt, "cmap": colours, "center": center}
    sns.heatmap(frame, ax=ax, cbar_kws={"label": label}, **look)
    ax.set(**labels)
    return ax


def word_map(points, words, groups=None, ax=None, **labels):
    """Points `(n, 2)` with their words beside them, coloured by group."""
    points = np.asarray(points)
    ax = ax or plt.subplots(figsize=(8, 6))[1]
    sns.scatterplot(x=points[:, 0], y=points[:, 1], hue=groups, ax=ax, s=30)
    for (x, y), word in zip(points, words, strict=True):
        ax.annotate(word, (x, y), xytext=(3, 3), textcoords="offset points", fontsize=9)
    ax.set(**{"xlabel": "first component", "ylabel": "second component", **labels})
    return ax

"""Figures: what they draw, the colours of methods, legends and labels that hide nothing."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from drawings import contrast

from helpers.evaluation import plots, records

mpl.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    """Figures are closed after each test."""
    yield
    mpl.pyplot.close("all")


def test_the_figures_show_the_numbers_and_label_their_axes():
    frame = pd.DataFrame({"n_train": [50, 200, 50, 200], "method": ["a", "a", "b", "b"],
                          "value": [0.5, 0.6, 0.7, 0.8]})  # fmt: skip
    frame["low"], frame["high"] = frame["value"] - 0.05, frame["value"] + 0.05
    ax = plots.learning_curves(frame)
    assert [list(line.get_ydata()) for line in ax.lines] == [[0.5, 0.6], [0.7, 0.8]]
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["50", "200"]
    bars = plots.intervals(frame[:2], reference=0)
    assert [tick.get_text() for tick in bars.get_yticklabels()] == ["a", "a"]
    matrix = plots.confusion([0, 0, 1], [0, 1, 1], ["no", "yes"])
    assert [text.get_text() for text in matrix.texts] == ["0.50", "0.50", "0.00", "1.00"]
    words = plots.word_map([[0, 1], [2, 3]], ["cat", "dog"])
    assert [text.get_text() for text in words.texts] == ["cat", "dog"]
    warm = plots.heatmap(frame[["value"]], label="accuracy", center=0)
    for axes in (ax, matrix, words):
        assert axes.get_xlabel()
        assert axes.get_ylabel()
    assert len(warm.texts) == 4


def test_a_method_has_its_colour_in_every_figure_and_no_two_share_one():
    first = plots.colours(["TF-IDF", "random start", "all layers", "something else"])
    second = plots.colours(["another", "random start", "frozen + linear", "TF-IDF", "MiniLM"])
    for name in ("TF-IDF", "random start"):
        assert first[name] == second[name]
    for found in (first, second, plots.colours(map(str, range(10)))):
        assert len(set(found.values())) == len(found)
    assert plots.colours(["INIT tuned"])["INIT tuned"] == first["all layers"]
    several = ["A, random start", "B, random start", "A"]  # one of them takes a free colour
    assert len(set(plots.colours(several).values())) == 3


def points_under(legend):
    """Points of its axes that lie under a legend."""
    axes, box = legend.axes, legend.get_window_extent()
    places = np.concatenate([axes.transData.transform(line.get_xydata()) for line in axes.lines])
    return [place for place in places if box.contains(*place)]


def test_legends_hide_no_data():
    frame = pd.DataFrame({"n_train": [10, 100, 1000] * 9, "value": 0.5})
    frame["method"], frame["value"] = np.repeat(list("abcdefghi"), 3), np.linspace(0.1, 0.9, 27)
    fig, (left, _) = mpl.pyplot.subplots(1, 2, sharey=True, figsize=(10, 4))
    for ax in (plots.learning_curves(frame), plots.learning_curves(frame, ax=left)):
        ax.figure.draw_without_rendering()
        legend = ax.get_legend()
        assert not points_under(legend)
        assert not legend.get_window_extent().overlaps(ax.get_window_extent().shrunk(0.99, 0.99))
    for other in fig.axes:  # below, not over the neighbour
        assert not left.get_legend().get_window_extent().overlaps(other.get_window_extent())


def test_words_of_a_map_do_not_collide():
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(range(4), range(4)), -1).reshape(-1, 2)
    points = np.concatenate([centres, centres + rng.normal(0, 0.02, (16, 2))])
    ax = plots.word_map(points, [f"some_word{i}" for i in range(32)], ["a", "b"] * 16)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(box.count_overlaps(boxes) > 1 for box in boxes)  # itself


def test_a_dollar_begins_no_formula():
    names = ["$a", r"b$ \foo $", "<c>"]
    frame = pd.DataFrame({"method": names, "value": 0.5, "low": 0.4, "high": 0.6, "n_train": 10})
    figures = [
        plots.learning_curves(frame, title=names[1]),
        plots.intervals(frame),
        plots.confusion([0, 1, 2], [0, 1, 1], names),
        plots.word_map(np.eye(3)[:, :2], names),
        plots.heatmap(pd.DataFrame(np.eye(3), names, names), label="x", title=names[1]),
    ]
    for ax in figures:
        ax.figure.draw_without_rendering()  # raises where \foo is taken for a formula


def test_a_first_figure_leaves_a_notebook_interactive(monkeypatch):
    """The first figure of a notebook makes matplotlib interactive; a heat map must not undo it."""
    subplots = plots.plt.subplots

    def first_figure(*args, **options):
        plots.mpl.interactive(True)
        return subplots(*args, **options)

    monkeypatch.setitem(plots.mpl.rcParams, "interactive", False)
    monkeypatch.setattr(plots.plt, "subplots", first_figure)
    plots.heatmap(pd.DataFrame([[0.1, 0.9]]), label="share")
    assert plots.mpl.is_interactive()


# --- points of this run over the recorded curves --------------------------------------------------

METHODS = {"TF-IDF": 0.70, "frozen + linear": 0.71, "all layers": 0.72, "from scratch": 0.5}


def measured(counts, more=0.0, dataset="films", metric="accuracy") -> pd.DataFrame:
    """Records of `METHODS`."""
    rows = [
        {"method": name, "dataset": dataset, "metric": metric, "n_train": n,
         "value": value + more, "low": value + more - 0.02, "high": value + more + 0.03}
        for name, value in METHODS.items() for n in counts
    ]  # fmt: skip
    return pd.DataFrame(rows)


def curves(ax) -> dict[str, list]:
    """Lines with a method's name: their points."""
    return {
        line.get_label(): line.get_xydata().tolist()
        for line in ax.lines
        if line.get_label() in METHODS and len(line.get_xdata()) > 1
    }


def points(ax) -> list[tuple]:
    """Value, low and high of each live point."""
    found = []
    for container in ax.containers:
        data, _, (bars,) = container
        ends = [segment[:, 1] for segment in bars.get_segments()]
        found += [(y, *end) for y, end in zip(data.get_ydata(), ends, strict=True)]
    return found


def test_points_of_this_run_lie_over_the_recorded_curves():
    full = pd.concat([
        measured([25, 100, 1000, 7000][::-1], 0.1), measured([100], 0.2, "news"),
        measured([100], 0.3, metric="gain"), measured([100], 0.1).assign(method="something else"),
        measured([100], 0.1),  # a main record repeats another
    ])  # fmt: skip
    ax = plots.recorded_curves(measured([100, 400]), full, title="films")
    drawn = curves(ax)
    assert list(drawn) == list(METHODS)
    for name, value in METHODS.items():
        assert [x for x, _ in drawn[name]] == [25, 100, 1000, 7000]
        assert [y for _, y in drawn[name]] == pytest.approx([value + 0.1] * 4)
    assert len(ax.collections) == 2 * len(METHODS)  # a band and the bars of each
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.78, 0.83))
    expected = [(v, v - 0.02, v + 0.03) for v in METHODS.values() for _ in (100, 400)]
    np.testing.assert_allclose(sorted(points(ax)), sorted(expected))
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        "25",
        "100",
        "400",
        "1,000",
        "7,000",
    ]
    assert "points: this run" in ax.get_xlabel()
    assert "films" in (ax.get_title(), ax.get_title("left"))  # wherever the style puts it


@pytest.mark.parametrize("recorded", [pd.DataFrame(), measured([25, 100], dataset="others")])
def test_on_other_data_there_are_the_points_alone(recorded):
    ax = plots.recorded_curves(measured([100, 400]), recorded)
    assert curves(ax) == {}
    assert len(points(ax)) == 8
    assert "recorded" not in ax.get_xlabel()
    assert {text.get_text() for text in ax.texts} == set(METHODS)


def test_a_notebook_without_a_full_run_draws_its_points():
    live = pd.DataFrame({"method": ["a", "a"], "n_train": [16, 32], "value": [0.5, 0.6]})
    live = live.assign(dataset="d", metric="m", low=live["value"] - 0.1, high=live["value"] + 0.1)
    ax = plots.recorded_curves(live, pd.DataFrame(columns=records.FIELDS))
    assert [note.get_text() for note in ax.texts] == ["a"]


def test_a_record_without_an_interval_is_a_point_and_one_recorded_alone_is_seen():
    live = measured([100]).assign(low=None, high=None)
    ax = plots.recorded_curves(live, measured([100], 0.1))
    ax.figure.draw_without_rendering()
    marked = [line for line in ax.lines if line.get_label() in METHODS]
    assert [line.get_marker() for line in marked] == ["."] * 4


def test_names_stand_at_the_ends_of_the_lines_and_hide_nothing():
    recorded = measured([25, 7000], 0.1)
    recorded = recorded[~((recorded["method"] == "from scratch") & (recorded["n_train"] > 25))]
    ax = plots.recorded_curves(measured([100]), recorded)
    ax.figure.draw_without_rendering()
    boxes = {text.get_text(): mpl.text.Text.get_window_extent(text) for text in ax.texts}
    assert boxes.keys() == METHODS.keys()
    assert not any(box.count_overlaps(boxes.values()) > 1 for box in boxes.values())  # itself
    assert all(box.x0 > ax.get_window_extent().x1 for box in boxes.values())
    assert sorted(boxes, key=lambda name: boxes[name].y0) == sorted(METHODS, key=METHODS.get)
    assert {text.get_text(): tuple(text.xy) for text in ax.texts}["from scratch"] == (25, 0.6)


def test_lines_points_and_names_of_a_method_have_one_colour_and_names_are_legible():
    ax = plots.recorded_curves(measured([100]), measured([25, 7000]))
    known = plots.colours(METHODS)
    for line in (line for line in ax.lines if line.get_label() in METHODS):
        assert mpl.colors.to_rgb(line.get_color()) == known[line.get_label()]
    assert {c[0].get_color() for c in ax.containers} == set(known.values())
    for text in plots.recorded_curves(measured([100]), pd.DataFrame()).texts:
        colour = np.array(mpl.colors.to_rgba(text.get_color()))
        assert contrast(colour, np.ones(4)) >= 3


def test_every_listed_method_has_the_colour_of_the_list_wherever_it_stands():
    palette = plots.sns.color_palette("colorblind")
    for name, number in plots.COLOURS.items():
        assert plots.colours([name, "unknown"])[name] == palette[number]
    assert plots.colours(["x + ELMo"])["x + ELMo"] == palette[1]
    assert plots.colours(["x, GloVe + ELMo"])["x, GloVe + ELMo"] == palette[2]


def test_crowded_counts_share_a_tick_and_counts_may_be_floats():
    live = measured([100.0, 120.0, 7050.0])  # as in a table with a record that has no count
    ax = plots.recorded_curves(live, pd.DataFrame())
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["120", "7,050"]

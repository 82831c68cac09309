"""Scores equal scikit-learn's; intervals cover; pairing removes shared noise; safe tables."""

import re
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from helpers import evaluation
from helpers.evaluation import difference, equivalent_labels, interval, scores

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
classes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(classes)
def test_scores_equal_scikit_learns(pairs):
    labels, predictions = np.array(pairs).T
    found = scores(labels, predictions)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predictions))
    expected = f1_score(labels, predictions, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)


def test_several_runs_have_the_mean_of_scikit_learns_scores():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    runs = np.stack([np.where(labels == 2, 0, labels), rng.integers(0, 5, 60), labels])
    found = scores(labels, runs)["macro_f1"]
    theirs = [f1_score(labels, run, average="macro", zero_division=0) for run in runs]
    assert found == pytest.approx(np.mean(theirs))
    absent = [[0, 0, 1, 1], [0, 0, 1, 2]]  # class 2 is in the second run alone
    assert scores([0, 0, 1, 1], absent)["macro_f1"] == pytest.approx((1 + (1 + 2 / 3 + 0) / 3) / 2)


def drawn(n, samples, seed=0):
    """The resamples of `interval`, as ids of examples."""
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=samples)
    return [np.repeat(np.arange(n), row) for row in counts]


def test_macro_f1_of_each_resample_is_scikit_learns():
    rng = np.random.default_rng(1)
    labels = np.array([0] * 30 + [1] * 8 + [2] * 2)  # class 2 is missing in many resamples
    predictions = np.where(rng.random(40) < 0.8, labels, rng.integers(0, 4, 40))
    theirs = [f1_score(labels[ids], predictions[ids], average="macro", zero_division=0)
              for ids in drawn(40, 300)]  # fmt: skip
    found = interval(labels, predictions, "macro_f1", samples=300)
    assert found[1:] == pytest.approx(np.quantile(theirs, [0.025, 0.975]), abs=1e-6)


@pytest.mark.parametrize("metric", evaluation.scores.__globals__["METRICS"])
def test_a_perfect_classifier_is_perfect_in_every_resample(metric):
    labels = [0] * 97 + [1, 2, 3]  # by 1 resample in 3 each rare class is missing
    assert interval(labels, labels, metric) == (1.0, 1.0, 1.0)


def test_draws_are_those_of_one_block_and_memory_is_bounded():
    """Accuracy as it was when all weights were drawn at once, bit by bit."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 5000)
    runs = np.stack([noisy(labels, 0.8, rng) for _ in range(3)])
    weights_rng = np.random.default_rng(0)
    counts = weights_rng.multinomial(5000, np.full(5000, 1 / 5000), size=500).astype(np.float32)
    picks = weights_rng.integers(3, size=(3, 500))
    by_run = (runs == labels) @ counts.T / counts.sum(1)
    expected = np.zeros(500) + np.take_along_axis(by_run, picks, axis=0).mean(0)
    tracemalloc.start()
    found = interval(labels, runs, samples=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(found[1:]) == list(np.quantile(expected, [(1 - 0.95) / 2, (1 + 0.95) / 2]))
    assert peak < 30_000_000  # one block of 5,000 x 400, not the 32 MB of all and their casts
    labels = np.arange(50_000) % 4
    tracemalloc.start()
    interval(labels, labels, "macro_f1", samples=100)
    assert tracemalloc.get_traced_memory()[1] < 60_000_000  # 795 MB for 1,000 samples at once
    tracemalloc.stop()


def noisy(labels, accuracy, rng):
    return np.where(rng.random(len(labels)) < accuracy, labels, 1 - labels)


def test_an_interval_has_about_the_width_of_the_binomial_and_covers_its_value():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    found = interval(labels, noisy(labels, 0.8, rng))
    half = 1.96 * np.sqrt(found.value * (1 - found.value) / 1000)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)
    assert found.low < found.value < found.high


def test_95_percent_intervals_miss_the_truth_about_5_times_in_100():
    rng, missed = np.random.default_rng(1), 0
    for _ in range(200):
        labels = rng.integers(0, 2, 200)
        found = interval(labels, noisy(labels, 0.75, rng), samples=300)
        missed += not found.low <= 0.75 <= found.high
    assert 3 <= missed <= 22


def test_seeds_that_disagree_widen_the_interval():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 2000)
    agreeing = np.stack([noisy(labels, 0.8, rng) for _ in range(3)])
    differing = np.stack([noisy(labels, accuracy, rng) for accuracy in (0.7, 0.8, 0.9)])
    narrow, wide = interval(labels, agreeing), interval(labels, differing)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_pairing_finds_a_small_difference_that_two_intervals_would_hide():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 1000)
    worse = noisy(labels, 0.8, rng)
    better = worse.copy()
    mended = np.flatnonzero(worse != labels)[:20]
    better[mended] = labels[mended]
    found = difference(labels, better, worse)
    assert found.value == pytest.approx(0.02)
    assert found.verdict == "better"
    assert interval(labels, better).low < interval(labels, worse).high


def test_a_method_does_not_differ_from_itself():
    labels = np.array([0, 1, 1, 0, 2])
    assert difference(labels, labels, labels, "macro_f1") == (0.0, 0.0, 0.0)
    rng = np.random.default_rng(4)
    seeds = np.stack([noisy(labels, accuracy, rng) for accuracy in (0.4, 0.6, 0.9)])
    assert difference(labels, seeds, seeds) == (0.0, 0.0, 0.0), "the same seeds are drawn of both"


def test_an_interval_reads_as_a_sentence_needs_it():
    assert evaluation.Interval(0.042, 0.01, 0.0731).points == "+4.2 points [+1.0, +7.3]"
    verdicts = [evaluation.Interval(0.0, *ends).verdict for ends in [(1, 2), (-2, -1), (-1, 1)]]
    assert verdicts == ["better", "worse", "not distinguishable"]
    assert evaluation.Interval(0.1, 0.05, 0.2).said == "+10.0 points [+5.0, +20.0], *better*"


def test_equivalent_labels_interpolates_on_the_logarithm():
    counts, values = [100, 1000, 10_000], [0.6, 0.7, 0.8]
    assert equivalent_labels(counts, values, 0.75) == pytest.approx(10**3.5)
    assert equivalent_labels(counts, values, 0.5) == 100
    assert equivalent_labels(counts, values, 0.9) == float("inf")
    assert equivalent_labels(counts, [0.6, 0.5, 0.8], 0.7) == pytest.approx(10**3.5)


@pytest.mark.parametrize(
    ("labels", "predictions", "error"),
    [
        ([0, 1, 1], [0, 1], r"y_true has the shape \(3,\), y_pred the shape \(1, 2\): give \(n,\)"),
        ([], [], "y_true is empty"),
        ([[0, 1], [1, 0]], [0, 1], r"y_true has the shape \(2, 2\)"),
        ([0, 1], [[[0, 1]]], r"y_pred the shape \(1, 1, 2\)"),
        ([0, 1], [[0, 1], [0]], "inhomogeneous"),
    ],
)
def test_labels_of_another_shape_are_refused(labels, predictions, error):
    for function in (scores, interval):
        with pytest.raises(ValueError, match=error):
            function(labels, predictions)


@pytest.mark.parametrize(
    ("labels", "predictions", "error"),
    [
        ([0.9, 1.7], [0, 1], "y_true has floating values such as .0.9.: labels are whole"),
        ([0, 1], [0.2, 0.8], "y_pred has floating values such as .0.2"),
        ([0, float("nan")], [0, 1], "y_true has integer-na values"),
        ([0, None], [0, 1], "y_true has mixed"),
        ([0, "b"], [0, 1], "y_true has mixed-integer values such as .0."),
        (["a", "b"], [0, 1], "numbers and texts: give labels of one kind"),
        (np.array(["a", 1], object), ["a", "b"], "y_true has mixed-integer values"),
    ],
)
def test_labels_of_another_type_are_refused(labels, predictions, error):
    with pytest.raises(TypeError, match=error):
        scores(labels, predictions)


def test_labels_may_be_texts_or_truth_values():
    texts = np.array(["a", "bc", "a"], object)
    assert scores(texts, ["a", "a", "a"])["accuracy"] == pytest.approx(2 / 3)
    assert scores(pd.Series(["a", "b"]), ["a", "b"])["macro_f1"] == 1
    assert scores(np.array([0, 1], object), [0, 1])["accuracy"] == 1
    assert scores([1, 1, 1, 1], np.array([True, False, True, True]))["accuracy"] == 0.75


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(
        ValueError, match="2 runs cannot be paired with 1: give both the same seeds"
    ):
        difference([0, 1], [[0, 1], [0, 1]], [0, 1])
    for function, more in ((interval, ()), (difference, ([0, 1],))):
        with pytest.raises(
            ValueError, match="unknown metric 'f1': one of accuracy, macro_f1, entity_f1"
        ):
            function([0, 1], [0, 1], *more, "f1")


# --- what is shown --------------------------------------------------------------------------------

HOSTILE = ["<script>alert(1)</script>", "</td>", "[x](javascript:1)", "`a` | b", "$x$ *b* _c_",
           "<img src=x onerror=alert(1)>", "a & b", "&lt;", "http://x.y", "a\n\n# b"]  # fmt: skip


class Page(HTMLParser):
    """The elements of a page, and its texts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = set(), []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_a_table_shows_every_text_and_label_as_it_stands():
    frame = pd.DataFrame(dict.fromkeys(HOSTILE, HOSTILE), index=pd.Index(HOSTILE, name="<b>"))
    frame.columns.name, frame["lists"] = "<i>", [[text] for text in HOSTILE]
    for more in ({}, {"formats": "{}"}, {"formats": {HOSTILE[0]: str.upper}}, {"left": True}):
        page = Page(evaluation.styled(frame, **more).to_html())
        assert page.tags <= {"style", "table", "thead", "tbody", "tr", "th", "td"}
        assert {*HOSTILE, "<b>", "<i>", str([HOSTILE[0]])} <= set(page.texts)
    assert 'class="tex2jax_ignore mathjax_ignore"' in evaluation.styled(frame).to_html()


def test_a_table_looks_as_pandas_would_show_it():
    frame = pd.DataFrame({"a": [1.23456789, None], "b": ["x", None], "n": [1, 2]}, index=["r", "s"])
    for formats, options in ((None, {}), ("{:>4}", {"na_rep": ""}), ({"a": "{:.1f}"}, {}),
                             (None, {"precision": 2})):  # fmt: skip
        theirs = Page(frame.astype({"b": object}).style.format(formats, **options).to_html())
        assert (
            Page(evaluation.styled(frame, formats, **options).to_html()).texts[1:]
            == theirs.texts[1:]
        )
    hidden = Page(evaluation.styled(frame, index=False, left=True).to_html())
    assert "r" not in hidden.texts
    assert "text-align: left" in hidden.texts[0]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_in_markdown_is_a_text(text):
    import mistune

    page = Page(mistune.html(f"The class {evaluation.escape(text)} is *rare*."))
    assert page.tags <= {"p", "em", "span"}
    assert "".join(page.texts).split() == f"The class {text} is rare.".split()
    assert "$" not in evaluation.escape(text)
    assert evaluation.escape("plain words 12 é 好") == "plain words 12 é 好"


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebooks_show_tables_and_html_only_through_what_escapes(file):
    for cell in nbformat.read(file, 4).cells:
        if cell.cell_type == "code":
            assert not re.search(r"\.style\b(?!\(\))|\.to_html\(", cell.source), cell.source
            for argument in re.findall(r"\bHTML\((.*)", cell.source):
                assert re.match(r'"".join\(', argument), cell.source

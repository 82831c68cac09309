"""Entities as seqeval reads them; each in one class of error; intervals; safe HTML."""

import itertools
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, recall_score
from seqeval.scheme import IOB2, Entities

from helpers.evaluation import difference, entities, interval
from helpers.evaluation.entities import Span, entity_html, spans

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "10_named_entities.ipynb"
STRICT = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
entity_interval = partial(interval, metric="entity_f1")
entity_difference = partial(difference, metric="entity_f1")


def taught(word):
    """What the notebook defines in the cell that begins with a word."""
    scope = {"pd": pd, "itertools": itertools, "spans": spans}
    (cell,) = (cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.source.startswith(word))
    exec(cell.source, scope)
    return scope


ERRORS, entity_errors = map(taught("ERRORS = ").get, ("ERRORS", "entity_errors"))

NAMES = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
TAGS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=12)
PAIRS = TAGS.flatmap(
    lambda tags: st.tuples(
        st.just(tags), st.lists(st.sampled_from(NAMES), min_size=len(tags), max_size=len(tags))
    )
)
CORPORA = st.lists(PAIRS, min_size=1, max_size=6).map(
    lambda pairs: [list(side) for side in zip(*pairs, strict=True)]
)


@settings(max_examples=50, deadline=None)
@given(TAGS)
def test_spans_are_those_of_seqevals_strict_mode(tags):
    (theirs,) = Entities([tags], IOB2).entities
    assert spans(tags) == [Span(e.start, e.end, e.tag) for e in theirs]


@settings(max_examples=50, deadline=None)
@given(CORPORA)
def test_every_entity_is_in_exactly_one_row_of_the_errors(corpus):
    tags, predictions = corpus
    table = entity_errors(tags, predictions)
    for column, rows in (("true", tags), ("predicted", predictions)):
        there = table[table[column].notna()]
        found = sorted(zip(there["sentence"], there[column], strict=True))
        assert found == [(i, span) for i, row in enumerate(rows) for span in spans(row)]
    for _, _, error, true, predicted in table.itertuples():
        if true is None or predicted is None:
            assert error == ("missing" if predicted is None else "spurious")
            continue
        assert true.start < predicted.end
        assert predicted.start < true.end
        kinds, ends = true.kind == predicted.kind, true[:2] == predicted[:2]
        expected = {(1, 1): "correct", (1, 0): "boundary", (0, 1): "type"}
        assert error == expected.get((kinds, ends), "boundary and type")
    correct, true = (table["error"] == "correct").sum(), table["true"].notna().sum()
    assert recall_score(tags, predictions, **STRICT) == pytest.approx(correct / max(1, true))


def errors(true, predicted):
    return entity_errors([true.split()], [predicted.split()])["error"].tolist()


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        ("B-PER I-PER O", "B-PER I-PER O", ["correct"]),
        ("B-PER I-PER O", "B-PER O O", ["boundary"]),
        ("B-PER I-PER O", "B-LOC I-LOC O", ["type"]),
        ("B-PER I-PER O", "O B-LOC O", ["boundary and type"]),
        ("B-PER I-PER O", "O O B-PER", ["missing", "spurious"]),
        ("B-PER I-PER I-PER", "B-LOC I-LOC B-PER", ["boundary", "spurious"]),  # the kind decides
        ("B-PER I-PER I-PER", "B-PER B-PER I-PER", ["boundary", "spurious"]),  # then the overlap
    ],
)
def test_errors_by_hand(true, predicted, expected):
    assert errors(true, predicted) == expected
    assert set(expected) <= set(ERRORS)


def test_of_two_predictions_the_one_that_overlaps_more_is_the_pair():
    table = entity_errors([["B-PER", "I-PER", "I-PER"]], [["B-PER", "B-PER", "I-PER"]])
    assert table["predicted"].tolist() == [Span(1, 3, "PER"), Span(0, 1, "PER")]


def test_entity_f1_is_strict():
    tags = [["B-PER", "I-PER", "O", "B-LOC"]]
    assert entity_interval(tags, [tags]).value == 1.0
    half = entity_interval(tags, [[["B-PER", "O", "O", "B-LOC"]]])  # a boundary error is an error
    assert half.value == 0.5
    alone = entity_interval(tags, [[["I-PER", "I-PER", "O", "B-LOC"]]])
    assert alone.value == pytest.approx(2 / 3)  # an I- alone is no entity


@settings(max_examples=50, deadline=None)
@given(CORPORA)
def test_entity_f1_is_seqevals(corpus):
    tags, predictions = corpus
    found = entity_interval(tags, [predictions], samples=2).value
    assert found == pytest.approx(f1_score(tags, predictions, **STRICT))


def corpus(n, accuracy, seed=0):
    """n sentences with two entities each, of which a share is found."""
    rng, true = np.random.default_rng(seed), ["B-PER", "I-PER", "O", "B-LOC"]
    wrong = [["O", "O", "O", "B-LOC"], ["B-PER", "I-PER", "O", "O"]]
    tags = [true] * n
    found = [true if rng.random() < accuracy else wrong[rng.integers(2)] for _ in tags]
    return tags, found


def test_an_interval_holds_seqevals_f1_and_narrows_with_more_sentences():
    widths = []
    for n in (50, 800):
        tags, found = corpus(n, 0.8)
        one = entity_interval(tags, [found])
        assert one.value == pytest.approx(f1_score(tags, found, **STRICT))
        assert one.low < one.value < one.high
        widths.append(one.high - one.low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.3)  # the root of 16


def test_an_interval_is_the_one_of_all_weights_drawn_at_once():
    tags, found = corpus(300, 0.8)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(300, np.full(300, 1 / 300), size=1000)
    right = np.array(
        [[t == p, (t[0] == p[0]) + (t[3] == p[3])] for t, p in zip(tags, found, strict=True)]
    )
    f1 = 2 * (weights @ right[:, 1]) / (2 * (weights @ right[:, 1]) + weights @ (2 - right[:, 1]))
    assert list(entity_interval(tags, [found])[1:]) == list(np.quantile(f1, [0.025, 0.975]))


def test_95_percent_intervals_miss_the_truth_about_5_times_in_100():
    true = 2 * (0.7 * 2 + 0.3) / (0.7 * 4 + 0.3 * 3)  # F1 of endless sentences
    missed = 0
    for seed in range(100):
        tags, found = corpus(100, 0.7, seed)
        one = entity_interval(tags, [found], samples=300)
        missed += not one.low <= true <= one.high
    assert 0 < missed <= 14


def test_pairing_and_runs_that_disagree():
    tags, worse = corpus(400, 0.7)
    better = [tags[i] if i % 20 == 0 else row for i, row in enumerate(worse)]
    gain = entity_difference(tags, [better], [worse])
    assert gain.verdict == "better"
    assert entity_difference(tags, [worse], [worse]) == (0.0, 0.0, 0.0)
    apart = entity_interval(tags, [tags, worse])
    assert apart.value == pytest.approx((1 + f1_score(tags, worse, **STRICT)) / 2)
    narrow = entity_interval(tags, [worse, worse])
    assert apart.high - apart.low > 2 * (narrow.high - narrow.low)
    with pytest.raises(ValueError, match="2 runs cannot be paired with 1"):
        entity_difference(tags, [worse, worse], [worse])
    with pytest.raises(ValueError, match="no examples or no predictions"):
        entity_interval(tags, [])


class Reader(HTMLParser):
    """The text, and which elements with what styles there are."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.styles, self.words = [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert {name for name, _ in attrs} <= {"style", "dir"}
        self.styles += [value for name, value in attrs if name == "style"]

    def handle_data(self, data):
        self.words += data


WORDS = st.text(st.characters(exclude_characters="\r\x00", exclude_categories=["Cs"]), max_size=9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(WORDS, st.sampled_from([*NAMES, "B-<b>"])), max_size=8))
def test_html_shows_every_word_and_holds_nothing_else(pairs):
    words, tags = [word for word, _ in pairs], [tag for _, tag in pairs]
    page = Reader(entity_html(words, tags))
    assert set(page.tags) <= {"div", "mark", "small"}
    assert page.tags.count("mark") == len(spans(tags))
    expected, ends = "", {span.end - 1: span.kind for span in spans(tags)}
    for i, word in enumerate(words):
        expected += f"{word} {ends[i]} " if i in ends else f"{word} "
    assert page.words == expected.removesuffix(" ") if words else page.words == ""


def test_markup_in_words_is_escaped():
    page = entity_html(["<script>", "a&b", '"x"'], ["B-PER", "I-PER", "O"])
    assert "<script>" not in page
    assert "&lt;script&gt; a&amp;b <small>PER</small></mark> &quot;x&quot;" in page


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def test_dark_text_on_every_colour_can_be_read_and_kinds_keep_theirs():
    for colour in (*entities.COLOURS.values(), *entities.OTHERS):
        assert (luminance(colour) + 0.05) / (luminance("#111111") + 0.05) > 7  # WCAG AAA
    first, second = (re.findall(r"background:(#\w+)", entity_html(["a"] * len(tags), tags))
                     for tags in (["B-PER", "B-LOC", "B-GPE"], ["B-GPE", "B-PER"]))  # fmt: skip
    assert first == [second[1], entities.COLOURS["LOC"], second[0]]


def test_tags_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 words came with 1 tags"):
        entity_html(["a", "b"], ["O"])
    for others in ([["O"]], [["O", "O"]] * 2):
        with pytest.raises(ValueError, match="differ in sentences or words"):
            entity_interval([["O", "O"]], [others])
    with pytest.raises(TypeError, match="0 is no tag: give names"):
        entity_interval([["O", "O"]], [[["O", 0]]])

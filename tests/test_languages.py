"""Texts in several languages: topics of the encyclopedia, pairs of the localisation."""

import json
from collections import Counter

import pytest

from helpers import data
from helpers.data import languages

SIZES = {"de": 36_164, "sv": 35_287, "ja": 31_835, "fr": 29_829, "zh-Hans": 26_125, "nl": 14_773,
         "fi": 10_458, "nb": 6_040, "da": 3_902}  # fmt: skip


@pytest.mark.parametrize("language", SIZES)
def test_pairs_of_a_language_differ_and_come_once(language):
    pairs = data.translations(language)
    assert len(pairs) == len(set(pairs)) == SIZES[language]
    assert all(english != text for english, text in pairs)
    assert all(isinstance(text, str) for pair in pairs for text in pair)


def test_pairs_are_translations():
    assert ("Failed to connect", "Verbindung fehlgeschlagen") in data.translations("de")
    assert ("New moon", "新月") in data.translations("zh-Hans")
    lengths = [len(english.split()) for english, _ in data.translations("de")]
    assert 5 <= sum(lengths) / len(lengths) <= 6.5
    with pytest.raises(data.DataError, match=r"into 'xx': take one of bg, ca, .*, zh-Hant\.$"):
        data.translations("xx")
    with pytest.raises(data.DataError, match="into 'en'"):
        data.translations("en")


def test_topics_have_the_same_names_and_numbers_in_each_language():
    parts = {code: data.load("encyclopedia", language=code, quiet=True) for code in ("fr", "es")}
    parts["en"] = data.load("encyclopedia", quiet=True)
    totals = {"en": 9_033, "fr": 9_955, "es": 6_239}
    for code, splits in parts.items():
        assert sum(map(len, splits.values())) == totals[code]
        assert data.label_names(splits) == [*languages.TOPICS]
        counts = Counter(label for part in splits.values() for label in part["label"])
        assert len(counts) == (8 if code == "es" else 11)
    whole = {code: {} for code in parts}
    for code, splits in parts.items():
        for part in splits.values():
            whole[code] |= dict(zip(part["text"], part["label"], strict=True))
    people = data.label_names(parts["en"]).index("People")
    for code, begins in {"en": "Greta Garbo", "fr": "Julie Andrews", "es": "Eric Heiden"}.items():
        assert {y for text, y in whole[code].items() if text.startswith(begins)} == {people}


def test_articles_without_a_topic_are_left_out_and_counted(tmp_path):
    articles = [("a", "Arts"), ("b", "Uncategorized"), ("c", "Science"), ("d", "Personas")]
    tree = {text: {"extract": text, "topic": topic} for text, topic in articles}
    (tmp_path / "summaries_fr-fr.json").write_text(json.dumps(tree))
    notes = Counter()
    rows = list(languages.leads(tmp_path, "fr", notes))
    assert rows == [(1, "a", "Arts"), (3, "c", "Physical sciences"), (4, "d", "People")]
    assert notes == {"left out: articles without a topic": 1}


def test_a_language_that_is_not_there_is_refused_in_a_sentence():
    with pytest.raises(data.DataError, match=r"^encyclopedia has no 'de': take en, fr or es\.$"):
        data.load("encyclopedia", language="de")
    with pytest.raises(data.DataError, match=r"^imdb .* one language: leave out language='fr'\.$"):
        data.load("imdb", language="fr")


def test_a_leaf_keeps_its_place_and_what_is_not_translated_is_left_out(tmp_path, monkeypatch):
    files = {"one/translations/en.json": {"a": {"b": "Yes", "c": "OK"}, "d": "Only here"},
             "one/translations/de.json": {"a": {"b": "Ja", "c": "OK"}, "e": "Nur hier"},
             "two/translations/en.json": {"a": {"b": "Yes"}},
             "two/translations/de.json": {"a": {"b": "Ja"}}}  # fmt: skip
    for name, tree in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(tree))
    monkeypatch.setenv("NLP_TRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(languages.assets, "path", lambda name: tmp_path)
    assert data.translations("de") == [("Yes", "Ja")]

"""The same in several languages: topics of an encyclopedia, and an interface beside its English."""

import inspect
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from helpers import assets
from helpers.data.readers import DataError

TOPICS = {  # English: French, Spanish
    "Arts": ("Arts et culture", "Artes"),
    "Biology and health sciences": ("Santé et médecine",),
    "Everyday life": ("Vie quotidienne", "Antropología, sicología y vida cotidiana"),
    "Geography": ("Géographie", "Geografía"),
    "History": ("Histoire", "Historia"),
    "Mathematics": ("Mathématiques", "Matemáticas"),
    "People": ("Personnalités", "Personas"),
    "Philosophy and religion": ("Philosophie et religion", "Filosofía y religión"),
    "Physical sciences": ("Science",),
    "Society and social sciences": ("Société et sciences sociales",),
    "Technology": ("Technologie", "Tecnología"),
}


def leads(folder: Path, language: str, notes: Counter) -> Iterator:
    """The first paragraph of each article and its topic by the English name; some have none."""
    english = {name: topic for topic, names in TOPICS.items() for name in (topic, *names)}
    (file,) = folder.glob(f"summaries_{language}-*.json")
    for place, article in enumerate(json.loads(file.read_text("utf-8")).values(), 1):
        if article["topic"] in english:
            yield place, article["extract"], english[article["topic"]]
        else:
            notes["left out: articles without a topic"] += 1


def translations(language: str) -> list[tuple[str, str]]:
    """(English, `language`) of an interface's texts, 5 words on average: each pair once, if the two
    differ. There are 35 languages ("de", "zh-Hans", …): `DataError` names them for another."""
    recipe = assets.catalogue()["localisation"].folder.name + inspect.getsource(_write)
    folder = assets.derived("translations", recipe, _write)
    known = sorted(file.stem for file in folder.glob("*.parquet"))
    if language not in known:
        raise DataError(f"No text is translated into {language!r}: take one of {', '.join(known)}.")
    pairs = pd.read_parquet(folder / f"{language}.parquet")
    return list(zip(pairs["english"], pairs["text"], strict=True))


def _write(folder: Path) -> None:
    def leaves(tree: dict | str, key: str) -> Iterator:
        if isinstance(tree, str):
            yield key, tree
        else:
            for name, branch in tree.items():
                yield from leaves(branch, f"{key}/{name}")

    texts = {}
    for file in sorted(assets.path("localisation").glob("*/translations/*.json")):
        found = leaves(json.loads(file.read_text("utf-8")), file.parts[-3])
        texts.setdefault(file.stem, {}).update(found)
    english = texts.pop("en")
    for language, own in texts.items():
        pairs = ((text, own.get(key)) for key, text in english.items())
        pairs = dict.fromkeys(pair for pair in pairs if pair[1] not in (None, pair[0]))
        table = pd.DataFrame(pairs.keys(), columns=["english", "text"])
        table.to_parquet(folder / f"{language}.parquet", index=False)

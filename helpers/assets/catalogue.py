"""The catalogue of assets: what `sources.toml` pins, and the names that it gives."""

import difflib
import hashlib
import os
import tomllib
from pathlib import Path
from types import SimpleNamespace

from helpers.assets.store import AssetError, cache_folder


class Source(SimpleNamespace):
    """One asset as `sources.toml` pins it, with the fields that are explained there."""

    archive, provides = "", ()

    @property
    def folder(self) -> Path:
        """Where it is cached; a hash of pin and members in the name keeps versions apart."""
        key = repr((self.sha256, self.archive, self.root, tuple(self.members))).encode()
        return cache_folder() / f"{self.name}-{hashlib.sha256(key).hexdigest()[:8]}"


def catalogue() -> dict[str, Source]:
    """Name -> `Source`, from $NLP_TRANSFER_SOURCES if set, else from the series' sources.toml."""
    here = Path(__file__).resolve().parents[1]  # the package
    places = (here / "sources.toml", here.parent / "data" / "sources.toml")  # a wheel, a checkout
    file = os.environ.get("NLP_TRANSFER_SOURCES") or next(filter(Path.exists, places))
    tables = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    return {name: Source(name=name, **table) for name, table in tables.items()}


def find(name: str) -> Source:
    """The asset that has or provides this name; `AssetError` with the nearest one if none does."""
    known = {known: each for each in catalogue().values() for known in (each.name, *each.provides)}
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        mend = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}."
        raise AssetError(f"No asset is called {name!r}; {mend}")
    return known[name]

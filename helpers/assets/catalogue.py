"""The catalogue of assets: what `sources.toml` pins, and the names that it gives."""

import difflib
import hashlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from helpers.assets.store import AssetError, cache_folder


@dataclass(frozen=True)
class Source:
    """One asset as `sources.toml` pins it; the fields are explained there. `size` is in bytes."""

    name: str
    kind: str
    package: str
    version: str
    file: str
    sha256: str
    size: int
    root: str
    members: tuple[str, ...]
    language: str
    licence: str
    citation: str
    description: str
    archive: str = ""
    provides: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where it is cached; a hash of pin and members in the name keeps versions apart."""
        key = repr((self.sha256, self.archive, self.root, self.members)).encode()
        return cache_folder() / f"{self.name}-{hashlib.sha256(key).hexdigest()[:8]}"


def catalogue() -> dict[str, Source]:
    """Name -> `Source`, from $NLP_TRANSFER_SOURCES if set, else from the series' sources.toml."""
    here = Path(__file__).resolve().parents[1]  # the package
    places = (here / "sources.toml", here.parent / "data" / "sources.toml")  # a wheel, a checkout
    file = os.environ.get("NLP_TRANSFER_SOURCES") or next(filter(Path.exists, places))
    tables = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    for table in tables.values():
        table |= {key: tuple(value) for key, value in table.items() if isinstance(value, list)}
    return {name: Source(name=name, **table) for name, table in tables.items()}


def names() -> dict[str, Source]:
    """Every name that `path` takes: an asset's own and those of the data sets it provides."""
    return {name: asset for asset in catalogue().values() for name in (asset.name, *asset.provides)}


def find(name: str) -> Source:
    """The asset of that name; `AssetError` with the nearest name if there is none."""
    known = names()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        mend = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}."
        raise AssetError(f"No asset is called {name!r}; {mend}")
    return known[name]

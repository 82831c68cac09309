"""Helpers of the notebook series on transfer learning in NLP, in rooms. A module imports only from
its own room and from those above it in this list:

1. `assets`: data sets, vectors and models, fetched and verified
2. `text`: tokens, vocabularies, batches, subwords, masking, word vectors
3. `data`: labelled text as train, validation and test
4. `models`: one model a file, and their checkpoints
5. `training`: fit and predict, language models, transfer, schemes
6. `evaluation`: scores with intervals, entities, retrieval, plots, records
7. `exercises`: what checks the readers' answers to the notebooks' exercises
8. `series`: what runs the notebooks; nothing else imports it but their first and last cells
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType


def lazily(room: str, contents: dict[str, str]) -> tuple[Callable, Callable, list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a room (PEP 562), which imports a module of it when
    one of the names that it holds is asked for."""
    parts = {name: module for module, names in contents.items() for name in names.split()}

    def get(name: str):
        if name in parts:
            return getattr(import_module(f"{room}.{parts[name]}"), name)
        raise AttributeError(f"module {room!r} has no attribute {name!r}")

    return get, lambda: sorted({*vars(sys.modules[room]), *parts}), list(parts)


def require(module: str, extra: str) -> ModuleType:
    """A module that an extra of this package brings along; an `ImportError` says which."""
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        wanted = f"pip install 'nlp-transfer-notebooks[{extra}]'"
        raise ImportError(f"{missing.name} is not installed: {wanted}") from None

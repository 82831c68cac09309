"""Helpers of the notebook series on transfer learning in NLP, in rooms.

From the ground up; a module imports only from its own room and from those above it in this list:

1. `assets`: data sets, vectors and models, fetched and verified
2. `text`: tokens, vocabularies, batches, subwords, masking, word vectors
3. `data`: labelled text as train, validation and test
4. `models`: one model a file, and their checkpoints
5. `training`: fit and predict, language models, transfer, schemes
6. `evaluation`: scores with intervals, entities, retrieval, plots, records
7. `series`: what runs the notebooks; nothing else imports it but their first and last cells
"""

from importlib import import_module
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """A module that an extra of this package brings along; an `ImportError` says which."""
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        wanted = f"pip install 'nlp-transfer-notebooks[{extra}]'"
        raise ImportError(f"{missing.name} is not installed: {wanted}") from None

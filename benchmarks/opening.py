"""One process that opens word vectors and reports as JSON how long that took and what it holds.

    python opening.py HOW PLACE

HOW is `helpers` (vectors.load), `gensim` (load_word2vec_format), `nothing` (only the imports), or
`hold`: as `helpers`, then keeps them open until standard input ends.
"""

import gc
import json
import sys
import time

import psutil
from gensim.models import KeyedVectors

from helpers.text import vectors

WORDS = ["the", "of", "film", "good", "bad", "music", ",", "city", "1999", "running"]


def main(how: str, place: str) -> None:
    began, opened = time.perf_counter(), None
    if how == "gensim":
        opened = KeyedVectors.load_word2vec_format(place)
    elif how != "nothing":
        opened = vectors.load(place)
    found = [opened[word].tolist() for word in WORDS] if opened is not None else []
    spent = time.perf_counter() - began
    gc.collect()
    private = psutil.Process().memory_full_info().uss
    print(json.dumps({"seconds": spent, "private": private, "vectors": found}), flush=True)
    if how == "hold":
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])

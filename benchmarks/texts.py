"""Words and files: vectors opened against gensim, and time per example from small to large."""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE

import numpy as np
from timing import figure, interleaved, ratios, seconds

from helpers import data
from helpers.text import Encoded, LengthBatches, Vocabulary, tokenize, vectors

GLOVE, MEGABYTE = "glove-50d", 1e6


def opened(how: str, place: str | Path) -> dict:
    """What a fresh process reports that opens vectors, see `opening.py`."""
    return json.loads(subprocess.run(_command(how, place), stdout=PIPE, check=True).stdout)


def _command(*arguments) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("opening.py")), *map(str, arguments)]


def opening(pairs: int, limit: int | None) -> list[dict]:
    """GloVe opened and ten words looked up, each time in a fresh process, against gensim that
    reads the same vectors from text (the first `limit` of them); and the memory of a reader."""
    whole = vectors.load(GLOVE)  # makes the memory-mapped copy in the cache, if this is the first
    n = min(limit or len(whole), len(whole))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.txt"
        with open(file, "w", encoding="utf-8") as out:
            out.write(f"{n} {whole.matrix.shape[1]}\n")
            for i in range(n):
                out.write(" ".join([whole.words[i], *map(str, whole.matrix[i].tolist())]) + "\n")
        reports = []

        def side(*arguments):
            def run() -> float:
                reports.append(opened(*arguments))
                return reports[-1]["seconds"]

            return run

        sides = {"helpers": side("helpers", GLOVE), "gensim": side("gensim", file)}
        times = interleaved(sides, pairs)
    same = np.array([report["vectors"] for report in reports], np.float32)
    if not (same == same[0]).all():
        raise RuntimeError("the vectors that gensim read are not those that helpers opened")
    speed = figure(
        "vectors_opened",
        "GloVe vectors opened, times as fast as gensim reads them from text",
        ">= 20",
        ratios(times["gensim"], times["helpers"]),
        times,
        "s",
        f"{n:,} vectors of 50 numbers, ten words looked up, a fresh process each time, files in "
        "the page cache, imports not counted; gensim's load_word2vec_format. helpers opens the "
        f"memory-mapped copy ({len(whole):,} vectors) that it makes once.",
    )
    return [speed, private_memory(pairs)]


def private_memory(pairs: int) -> dict:
    """Megabytes of its own (USS) that a second process needs for the vectors: one that opens them
    while another has them open, less one that has the same modules loaded and opens nothing."""
    command = _command("hold", GLOVE)
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as first:
        first.stdout.readline()  # it has opened them
        sides = {how: lambda how=how: opened(how, GLOVE)["private"] / MEGABYTE
                 for how in ("helpers", "nothing")}  # fmt: skip
        sizes = interleaved(sides, pairs)
        first.communicate("")
    added = [a - b for a, b in zip(sizes["helpers"], sizes["nothing"], strict=True)]
    return figure(
        "vectors_private_memory",
        "private memory (USS) that a second process with the GloVe vectors adds, MB",
        "<= 50",
        added,
        {"with vectors": sizes["helpers"], "without": sizes["nothing"]},
        "MB",
        "400,000 vectors open in both processes; the same modules imported in all.",
    )


def flat(pairs: int, small: int, large: int) -> list[dict]:
    """Time per example of `large` examples over that of `small` ones: reading, words, batches."""
    texts = remixed(large)
    tokens = [tokenize(text) for text in texts[: 20 * small]]
    vocabulary = Vocabulary.build(tokens)
    encoded = Encoded([vocabulary.encode(tokenize(text)) for text in texts])
    with tempfile.TemporaryDirectory() as folder:
        for n in (small, large):
            with open(Path(folder, f"{n}.csv"), "w", encoding="utf-8", newline="") as file:
                out = csv.writer(file)
                out.writerow(["text", "label"])
                out.writerows((text, "ab"[i % 2]) for i, text in enumerate(texts[:n]))

        def read(n: int) -> None:
            data.load(Path(folder, f"{n}.csv"), quiet=True)

        def encode(n: int) -> None:
            for text in texts[:n]:
                vocabulary.encode(tokenize(text))

        def batch(n: int) -> None:
            for rows in LengthBatches(encoded.lengths[:n], 32, shuffle=True, seed=0):
                encoded.collate([encoded[i] for i in rows])

        works = {
            "reading": (read, "data.load of a CSV file, with its checks and splits"),
            "encoding": (encode, "tokenize and Vocabulary.encode"),
            "batching": (batch, "LengthBatches and collate, batch size 32"),
        }
        return [growth(name, *works[name], pairs, small, large) for name in works]


def growth(name, work, note, pairs, small, large) -> dict:
    """The figure of one work. The small size is repeated, as one call of it is soon over."""
    repeats = max(1, large // small // 10)

    def per_example(n: int, times: int = 1):
        def run() -> float:
            return 1e6 * sum(seconds(lambda: work(n)) for _ in range(times)) / (n * times)

        return run

    work(small)
    sides = {f"{large:,}": per_example(large), f"{small:,}": per_example(small, repeats)}
    times = interleaved(sides, pairs)
    return figure(
        f"flat_{name}",
        f"{name}: time per example, {large:,} examples over {small:,}",
        "<= 1.2",
        ratios(*times.values()),
        times,
        "µs an example",
        f"{note}. Below 1 means that fixed costs spread over more examples.",
    )


def remixed(n: int, seed: int = 0) -> list[str]:
    """`n` texts as long as movie reviews: the first half of one review, the second of another."""
    reviews = data.load("movie_reviews", quiet=True)["train"]["text"]
    words = [review.split() for review in reviews]
    rng = np.random.default_rng(seed)
    return [
        " ".join(words[a][: len(words[a]) // 2] + words[b][len(words[b]) // 2 :]) or "."
        for a, b in rng.integers(len(words), size=(n, 2))
    ]

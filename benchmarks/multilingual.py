"""e5 as a transformers model against the C program that it comes with, which computes in 8 and 4
bits, compiled as its package is: sentence vectors a second, tokenisation included."""

import ctypes
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from timing import figure, interleaved, ratios, seconds

from helpers import assets, data, training
from helpers.models import EncoderClassifier, encode_texts, load_tokenizer

COMPILE = ["-O3", "-ffast-math", "-funroll-loops", "-fopenmp", "-shared", "-fPIC"]
COMPILE += ["-mavx2", "-mfma"] if platform.machine() in ("x86_64", "AMD64") else ["-mcpu=native"]
NOTE = ("Chinese reviews, at most 128 tokens, prefix \"query: \"; each side has all texts in one "
        "call, ours in batches of 64. ")  # fmt: skip


def encoding(pairs: int, n_texts: int) -> list[dict]:
    """Speed and agreement; nothing where there is no C compiler."""
    if not shutil.which("cc"):
        return []
    folder, reviews = assets.path("e5"), data.load("chinese_reviews", quiet=True)["train"]["text"]
    texts = [text for text in reviews if len(text) < 100][:n_texts]  # none is cut
    tokenizer, model, vectors = load_tokenizer("e5"), EncoderClassifier("e5", 2), {}
    with tempfile.TemporaryDirectory() as build:
        library = Path(build, "e5.so")
        subprocess.run(["cc", *COMPILE, folder / "e5.c", "-o", library, "-lm"], check=True)
        engine = ctypes.CDLL(str(library))
    engine.e5_load.restype = ctypes.c_void_p
    loaded = ctypes.c_void_p(engine.e5_load(bytes(folder / "e5-small-q4.bin")))

    def ours() -> None:
        encoded = encode_texts(tokenizer, [f"query: {text}" for text in texts], max_length=128)
        found = training.extract_features(model, encoded)
        vectors["helpers"] = found / np.linalg.norm(found, axis=1, keepdims=True)

    def theirs() -> None:
        given = (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))
        out = np.zeros((len(texts), 384), np.float32)
        engine.e5_embed_batch(loaded, given, len(texts), 1, out.ctypes.data_as(ctypes.c_void_p))
        vectors["C program"] = out

    sides = {"helpers": ours, "C program": theirs}
    for run in sides.values():
        run()
    speed = {name: lambda run=run: len(texts) / seconds(run) for name, run in sides.items()}
    speed = interleaved(speed, pairs)
    what = "multilingual sentence vectors a second: helpers with e5, over its C program"
    agreement = [float((vectors["helpers"] * vectors["C program"]).sum(1).min())]
    return [figure("e5_encoding", what, ">= 5", ratios(*speed.values()), speed, "texts/s", NOTE),
            figure("e5_agreement", "cosine of those vectors, the smallest", ">= 0.999", agreement,
                   note=NOTE)]  # fmt: skip

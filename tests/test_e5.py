"""e5 as a transformers folder: the same tokens and vectors as the C program that it comes with.

`e5_outputs.npz` holds what that gave for `e5_sentences.txt` (prefix "query: ", float16), for
machines without a compiler: `python tests/test_e5.py` writes it again.
"""

import ctypes
import json
import shutil
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModel

from helpers import assets
from helpers.models import EncoderClassifier, check_model, e5, encode_texts, load_tokenizer
from helpers.models.bert import Bert
from helpers.models.pretrained import load_model
from helpers.training import extract_features

HERE = Path(__file__).parent
SENTENCES = (HERE / "e5_sentences.txt").read_text("utf-8").splitlines()
STORED = HERE / "e5_outputs.npz"
EXPOSE = """#include "e5.c"
int e5_ids(e5_model *m, const char *text, int *out, int n) {
    return tok_content(&m->tok, text, out, n);
}"""


class Engine:
    """The C program: `ids` of a text without special tokens, and `vectors` of queries."""

    def __init__(self, folder):
        source, library = folder / "expose.c", folder / "e5.so"
        source.write_text(EXPOSE)
        command = ["cc", "-O3", "-shared", "-fPIC", f"-I{assets.path('e5')}", str(source)]
        tries = [["-march=native", "-fopenmp"], ["-march=native"], []]
        for flags in tries:
            built = subprocess.run([*command, *flags, "-o", library, "-lm"], capture_output=True)
            if not built.returncode:
                break
        self.c = ctypes.CDLL(str(library))
        self.c.e5_load.restype = ctypes.c_void_p
        self.model = ctypes.c_void_p(self.c.e5_load(bytes(assets.path("e5") / "e5-small-q4.bin")))

    def ids(self, text):
        found = np.zeros(4 * len(text.encode()) + 8, np.int32)
        n = self.c.e5_ids(
            self.model, text.encode(), found.ctypes.data_as(ctypes.c_void_p), len(found)
        )
        return found[:n].tolist()

    def vectors(self, texts):
        given = (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))
        out = np.zeros((len(texts), self.c.e5_dim(self.model)), np.float32)
        pointer = out.ctypes.data_as(ctypes.c_void_p)
        assert self.c.e5_embed_batch(self.model, given, len(texts), 1, pointer) == 0
        return out


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    if not shutil.which("cc"):
        pytest.skip("no C compiler here")
    return Engine(tmp_path_factory.mktemp("e5"))


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer("e5")


def cosines(a, b):
    a, b = np.float64(a), np.float64(b)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_vectors_are_those_of_the_c_program():
    stored = np.load(STORED)["vectors"]
    assert stored.shape == (50, 384)
    rows = encode_texts(load_tokenizer("e5"), [f"query: {text}" for text in SENTENCES])
    model = EncoderClassifier("e5", 2)
    for precision in ("float32", "bf16"):
        found = extract_features(model, rows, precision=precision)
        assert cosines(found, stored).min() >= 0.999
        assert cosines(found, np.roll(stored, 1, axis=0)).max() < 0.95  # the bar can fail


def test_stored_vectors_are_those_of_the_c_program(engine):
    assert cosines(np.load(STORED)["vectors"], engine.vectors(SENTENCES)).min() >= 0.9999


def test_tokens_are_those_of_the_c_program(engine, tokenizer):
    for text in SENTENCES:
        expected = [0, *engine.ids(text), 2]
        assert tokenizer(text)["input_ids"] == expected, text
    reviews = sorted(assets.path("chinese_reviews").glob("sentiment/*.txt"))
    lines = [line for file in reviews for line in file.read_text("utf-8").splitlines()[::400]]
    for text in [*lines, "a\tb\r\n c\x07d", "½ ﬁne ①", "～!~", "▁x", "İstanbul", "ก็ทำ", "مُحَمَّد"]:
        text = unicodedata.normalize("NFC", text).strip()
        assert tokenizer(text, truncation=False)["input_ids"][1:-1] == engine.ids(text), text


KNOWN = "abcXYZ éàüß012 .,!?'\"-—…　Ａｂ１！中文字漢语日本のカタкириλл한국어עבריתعربي"
KNOWN += "\t\n\u200b\x07～~½ﬁ①😀"


@settings(deadline=None, max_examples=300)
@given(st.text(KNOWN, min_size=1, max_size=60))
def test_tokens_of_any_mixture_are_the_same(engine, tokenizer, text):
    text = unicodedata.normalize("NFC", f"query: {text}!")  # blanks at the end it takes for a token
    ours, theirs = tokenizer(text)["input_ids"][1:-1], engine.ids(text)
    tie = ".…" in text and sorted(ours) == sorted(theirs)  # as . ... or ... . it scores the same
    assert ours == theirs or tie


def test_composed_and_decomposed_text_have_the_same_tokens(tokenizer):
    for text in ("Où est l'été ?", "Äpfel", "한국어", "ガギグ", "Việt Nam"):
        assert tokenizer(unicodedata.normalize("NFD", text)) == tokenizer(text)
    assert tokenizer("ﾎﾟｽﾄ") == tokenizer("ポスト")
    assert tokenizer(" a  b \n") == tokenizer("a b")
    assert tokenizer.decode(tokenizer("Wo ist 中文?")["input_ids"], True) == "Wo ist 中文?"


def test_tokenizer_has_the_series_roles(tokenizer):
    assert tokenizer.model_max_length == 512
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    assert [*tokenizer("a")] == ["input_ids", "attention_mask"]
    assert tokenizer("a", "b")["input_ids"] == [0, 10, 2, 2, 876, 2]
    assert tokenizer.mask_token_id == 250001
    assert len(encode_texts(tokenizer, ["a " * 700], max_length=512).ids[0]) == 512
    with pytest.raises(ValueError, match="512"):
        encode_texts(tokenizer, ["a"], max_length=513)


def test_weights_are_the_blocks_times_their_scale():
    """Some rows of the embedding matrix, read from the file byte by byte."""
    data = (assets.path("e5") / "e5-small-q4.bin").read_bytes()
    at = data.index(b"emb.word") + 8
    start = int.from_bytes(data[at + 5 : at + 13], "little")
    _, info = load_model(AutoModel, "e5")
    assert info == []
    with safe_open(e5.folder() / "model.safetensors", "pt") as file:
        words = file.get_slice("embeddings.word_embeddings.weight")
        assert words.get_shape() == [250_037, 384]
        for row in (0, 5, 41_234, 250_001):
            expected = []
            for block in range(12):
                raw = data[start + (row * 12 + block) * 18 :][:18]
                scale = float(np.frombuffer(raw[:2], "<f2")[0])
                expected += [((byte & 15) - 8) * scale for byte in raw[2:]]
                expected += [((byte >> 4) - 8) * scale for byte in raw[2:]]
            assert words[row].tolist() == torch.tensor(expected).tolist()


def test_e5_is_a_model_name_everywhere():
    check_model("e5")
    model = EncoderClassifier("e5", 3)
    assert model.encoder.config.num_hidden_layers == 12
    assert sum(p.numel() for p in model.encoder.parameters()) == 117_505_920  # no pooler
    config = json.loads((Path(model.encoder.config._name_or_path) / "config.json").read_text())
    assert config["layer_norm_eps"] == 1e-12
    tokens = torch.tensor([[0, 41_234, 7, 2]])
    mask = torch.ones_like(tokens)
    model.eval()
    with torch.inference_mode():
        theirs = model.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        states, _ = Bert.load("e5")(tokens, mask)  # the series' own BERT
    torch.testing.assert_close(states[-1], theirs, atol=1e-5, rtol=1e-5)


def test_a_damaged_folder_is_made_again(tmp_path, monkeypatch):
    made = []

    def convert(target):
        made.append(target)
        (target / "model.safetensors").write_bytes(b"whole")

    monkeypatch.setenv("NLP_TRANSFER_CACHE", str(tmp_path))
    monkeypatch.setattr(e5, "_convert", convert)
    file = e5.folder() / "model.safetensors"
    for damage in (b"wholf", b"who"):
        file.write_bytes(damage)
        assert e5.folder() == file.parent
        assert file.read_bytes() == b"whole"
    assert len(made) == 3
    (tmp_path / "no").write_text("a file where the cache should be")
    monkeypatch.setenv("NLP_TRANSFER_CACHE", str(tmp_path / "no"))
    with pytest.raises(assets.AssetError, match="set NLP_TRANSFER_CACHE to a folder"):
        e5.folder()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        vectors = Engine(Path(folder)).vectors(SENTENCES)
    np.savez_compressed(STORED, vectors=vectors.astype(np.float16))

"""multilingual-e5-small (Wang et al. 2024, arxiv.org/abs/2402.05672) as a folder of transformers.

It comes as one little-endian file, which `e5.c` beside it reads: sizes, vocabulary, a map that
normalises characters, and tensors as float32 or in Q4_0 blocks (4 bits a weight).
"""

import inspect
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from helpers import assets

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
         "vocab_size", "max_position_embeddings", "type_vocab_size")  # fmt: skip
BLOCK = np.dtype([("scale", "<f2"), ("bits", "u1", 16)])  # 32 weights, each -8 to 7 times scale
PARTS = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings",
         "ln": "LayerNorm", "q": "attention.self.query", "k": "attention.self.key",
         "v": "attention.self.value", "ao": "attention.output.dense",
         "aln": "attention.output.LayerNorm", "fi": "intermediate.dense", "fo": "output.dense",
         "oln": "output.LayerNorm"}  # fmt: skip
ROLES = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>",
         "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}  # fmt: skip


def folder() -> Path:
    """The folder with configuration, tokenizer and float32 weights: made once, kept in the cache.
    Raises `AssetError` if the asset cannot be had or the cache not be written."""
    recipe = assets.catalogue()["e5"].folder.name + inspect.getsource(sys.modules[__name__])
    return assets.derived("e5-transformers", recipe, _convert)


def _convert(target: Path) -> None:
    path = assets.path("e5") / "e5-small-q4.bin"
    with open(path, "rb") as file:
        take = partial(np.fromfile, file)
        file.seek(8)  # behind E5S1 and the version
        sizes, epsilon, _ = take("<i4", 7).tolist(), take("<f4", 1)[0], take("<i4", 1)
        n, first, last, pad, unknown = take("<i4", 5).tolist()
        (length,), ends, scores = take("<u8", 1), take("<u4", n + 1), take("<f4", n).tolist()
        text, changes = file.read(length), {}
        for _ in range(take("<i4", 2)[0]):  # the second number is the map's size in bytes
            character, length = take("<u4", 1)[0], take("u1", 1)[0]
            changes[chr(character)] = "".join(map(chr, take("<u4", length)))
        weights = dict(_tensor(file, path) for _ in range(take("<i4", 1)[0]))
    tokens = [text[a:b].decode() for a, b in pairwise(ends)]
    core = Tokenizer(models.Unigram(list(zip(tokens, scores, strict=True)), unknown))
    core.normalizer, core.decoder = _normalizer(changes), decoders.Metaspace()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    around = "<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", first), ("</s>", last)]
    core.post_processor = TemplateProcessing(*around)
    known = dict(zip(SIZES, sizes, strict=True), layer_norm_eps=float(f"{epsilon:.3g}"))
    config = BertConfig(**known, pad_token_id=pad, architectures=["BertModel"])
    reads = {"model_max_length": sizes[5], "model_input_names": ["input_ids", "attention_mask"]}
    PreTrainedTokenizerFast(tokenizer_object=core, **ROLES, **reads).save_pretrained(target)
    config.save_pretrained(target)
    with torch.device("meta"):
        shapes = BertModel(config, add_pooling_layer=False).state_dict()
    weights = {name: torch.from_numpy(weights[name]).view_as(shapes[name]) for name in shapes}
    save_file(weights, target / "model.safetensors", {"format": "pt"})


def _tensor(file, path: Path) -> tuple[str, np.ndarray]:
    """The next entry of the directory: transformers' name, and all weights as float32 `(n,)`."""
    place, part, *kind = file.read(np.fromfile(file, "<u2", 1)[0]).decode().split(".")
    packed, n, start, _ = np.fromfile(file, "u1,<u4,<u8,<u8", 1)[0].tolist()
    stack = "embeddings" if place == "emb" else f"encoder.layer.{place[1:]}"
    name = f"{stack}.{PARTS[part]}.{'bias' if kind == ['b'] else 'weight'}"
    if not packed:
        return name, np.fromfile(path, "<f4", n, offset=start)
    blocks = np.fromfile(path, BLOCK, n // 32, offset=start)  # weight j and j + 16 share a byte
    bits = np.concatenate([blocks["bits"] & 15, blocks["bits"] >> 4], axis=1).astype("f4")
    return name, ((bits - 8) * blocks["scale"].astype("f4")[:, None]).ravel()


def _normalizer(changes: dict[str, str]) -> normalizers.Normalizer:
    """SentencePiece's: some characters go, some become blanks; NFKC but for the wide tilde; no
    blank at an end, one between words."""
    found = {to: [f"\\x{{{ord(c):x}}}" for c in changes if changes[c] == to] for to in ("", " ")}
    steps = [normalizers.Replace(Regex(f"[{''.join(c)}]"), to) for to, c in found.items()]
    steps += [normalizers.Replace("\uff5e", "\ue000"), normalizers.NFKC()]
    steps += [normalizers.Replace("\ue000", "\uff5e"), normalizers.Strip()]
    return normalizers.Sequence([*steps, normalizers.Replace(Regex(" {2,}"), " ")])

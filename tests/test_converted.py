"""Models that assets carry in another form: the same numbers as transformers folders."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers import assets
from helpers.models import check_model, converted, load_decoder
from helpers.models.pretrained import load_config

gguf = pytest.importorskip("gguf")


def write_gguf(file):
    """A Llama of one block with random weights in Q8_0 blocks and 300 tokens of byte-level BPE."""
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(300)
    letters = [chr(c) for c in range(97, 123)]
    pairs = [a + b for a in letters for b in letters][: 300 - 27]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|end|>", *letters, *pairs])
    writer.add_token_types([3] + [1] * 299)
    writer.add_token_merges([" ".join(pair) for pair in pairs])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_unk_token_id):
        add(0)
    shapes = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64)}
    shapes |= {"ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96)}
    shapes = {f"blk.0.{name}": shape for name, shape in shapes.items()}
    norms = dict.fromkeys(("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"), (64,))
    draw, q8 = torch.Generator().manual_seed(0), gguf.GGMLQuantizationType.Q8_0
    for name, shape in ({"token_embd": (300, 64)} | shapes | norms).items():
        values = torch.randn(shape, generator=draw).numpy()
        packed = gguf.quants.quantize(values, q8) if len(shape) == 2 else values
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=q8 if len(shape) == 2 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """`smollm2` as a small file, and a cache of its own."""
    source = tmp_path / "smollm2-1"
    source.mkdir()
    write_gguf(source / "tiny.Q8_0.gguf")
    monkeypatch.setenv("NLP_TRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(assets, "path", lambda name: source)
    return source


@torch.no_grad()
def test_a_gguf_file_becomes_a_folder_with_the_same_logits_once(packed, monkeypatch):
    given = {"gguf_file": "tiny.Q8_0.gguf", "local_files_only": True}
    before = AutoModelForCausalLM.from_pretrained(packed, dtype=torch.float32, **given).eval()
    words = AutoTokenizer.from_pretrained(packed, **given)
    after, tokenizer = load_decoder("smollm2")
    ids = tokenizer("abzz", return_tensors="pt")["input_ids"]
    assert ids.tolist() == [words("abzz")["input_ids"]]
    assert ids.numel()
    assert torch.equal(after(ids).logits, before(ids).logits)
    assert {p.dtype for p in after.parameters()} == {torch.float32}
    folder = converted.folder("smollm2")
    assert "quantization" not in (folder / "config.json").read_text()
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    again = {"from_pretrained": lambda *_, **__: pytest.fail("made twice")}
    monkeypatch.setattr(AutoModelForCausalLM, *again.popitem())
    assert converted.folder("smollm2") == folder  # made once


def test_a_damaged_conversion_is_made_again(packed):
    folder = converted.folder("smollm2")
    whole = (folder / "config.json").read_bytes()
    (folder / "config.json").write_text("{")
    assert load_config("smollm2").vocab_size == 300
    assert (folder / "config.json").read_bytes() == whole


def test_a_folder_in_transformers_form_stays_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "path", lambda name: tmp_path)
    assert converted.folder("minilm") == tmp_path


def test_smollm2_is_a_model_name_and_continues_a_text():
    check_model("smollm2")
    if not assets.is_cached("smollm2"):
        pytest.skip("smollm2 is not in the cache")
    model, tokenizer = load_decoder("smollm2")
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    text = model.generate(ids, max_new_tokens=1, do_sample=False)
    assert tokenizer.decode(text[0]).endswith(" Paris")
    assert sum(p.numel() for p in model.parameters()) == 134_515_008

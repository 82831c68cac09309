"""Model folders: no code in them runs, nothing outside them is read, each fault is one sentence."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertForPreTraining, BertModel

from helpers import models
from helpers.models import pretrained
from helpers.models.bert import Bert
from helpers.models.encoder import EncoderClassifier, encode_texts
from helpers.models.masked_head import MaskedLM
from helpers.models.pretrained import check_model, load_config, load_model, load_tokenizer
from helpers.models.tagger import EncoderTagger

ROOT = Path(__file__).resolve().parents[1]
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
EVIL = """import pathlib
pathlib.Path("owned").touch()
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
class Conf(BertConfig): model_type = "evilbert"
class Mod(BertModel): config_class = Conf
class Tok(PreTrainedTokenizerFast): pass
"""


@pytest.fixture
def folder(tmp_path):
    """A small model folder, whole and harmless."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=7, intermediate_size=6, max_position_embeddings=9, **sizes)
    BertModel(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    facts = {"tokenizer_class": "BertTokenizer", "model_max_length": 9}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(facts))
    return tmp_path


def change(file, **changes):
    facts = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(facts | changes))


LOADERS = {
    "config": load_config,
    "tokenizer": load_tokenizer,
    "model": lambda name: load_model(AutoModel, name),
    "classifier": lambda name: EncoderClassifier(name, 2),
    "control": lambda name: EncoderClassifier(name, 2, pretrained=False),
    "tagger": lambda name: EncoderTagger(name, 2),
    "masked": MaskedLM,
    "Bert": Bert.load,
}


@pytest.mark.parametrize("loader", LOADERS)
def test_a_harmless_folder_is_read(folder, loader):
    assert LOADERS[loader](str(folder)) is not None


CODE = {
    "AutoConfig": "evil.Conf",
    "AutoModel": "evil.Mod",
    "AutoTokenizer": ["evil.Tok", "evil.Tok"],
}


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("loader", LOADERS)
def test_code_of_a_model_folder_is_refused_without_a_question(
    folder, loader, file, monkeypatch, tmp_path
):
    (folder / "evil.py").write_text(EVIL)
    change(folder / file, auto_map=CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    with pytest.raises(ValueError, match=rf"code of its own \(auto_map in {file}\)"):
        LOADERS[loader](str(folder))
    assert not Path("owned").exists()


@pytest.mark.parametrize("kind", ["bert", "evilbert"])
def test_it_is_refused_in_a_process_that_cannot_be_asked(folder, kind):
    (folder / "evil.py").write_text(EVIL)
    change(folder / "config.json", model_type=kind, text_config={"auto_map": CODE})
    program = f"from helpers.models import load_tokenizer; load_tokenizer({str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, stdin=subprocess.DEVNULL, text=True,
        capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "ValueError" in done.stderr.splitlines()[-1]
    assert "code of its own (auto_map in config.json)" in done.stderr
    assert "[y/N]" not in done.stdout + done.stderr
    assert not (folder / "owned").exists()


@pytest.mark.parametrize(
    "shard", ["pytorch_model.bin", "../other.safetensors", "/etc/x.safetensors", "a/b.safetensors",
              "", 3, "x.safetensors.bin", "..\\x.safetensors"]
)  # fmt: skip
def test_an_index_that_names_anything_but_safetensors_of_the_folder_is_refused(folder, shard):
    weights = load_file(folder / "model.safetensors")
    change(folder / pretrained.INDEX, weight_map=dict.fromkeys(weights, shard))
    with pytest.raises(ValueError, match=r"index\.json points to weights"):
        load_model(AutoModel, str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"index\.json points to weights"):
        load_model(AutoModel, str(folder))


def test_weights_in_shards_are_read_and_a_missing_shard_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model-00001-of-00001.safetensors", {"format": "pt"})
    names = dict.fromkeys(weights, "model-00001-of-00001.safetensors")
    change(folder / pretrained.INDEX, metadata={}, weight_map=names)
    model, _ = load_model(AutoModel, str(folder))
    assert torch.equal(model.state_dict()["pooler.dense.bias"], weights["pooler.dense.bias"])
    change(folder / pretrained.INDEX, weight_map=dict.fromkeys(weights, "model-2.safetensors"))
    with pytest.raises(ValueError, match=r"model-2\.safetensors"):
        load_model(AutoModel, str(folder))


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("owned"),)


def test_pickled_weights_are_not_opened(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.bin", "adapter_model.bin"):
        (folder / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r"no model\.safetensors, and pickles are not read"):
        EncoderClassifier(str(folder), 2)
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("adapter_config.json", {"base_model_name_or_path": "/x"}, r"adapter_config\.json points"),
        ("config.json", {"transformers_weights": "x.bin"}, r"config\.json points to weights"),
        ("config.json", {"attn_implementation": "a/b"}, r"asks for code from a/b"),
        ("config.json", {"_attn_implementation": "a/b@main"}, r"asks for code from a/b@main"),
        ("config.json", {"model_type": "nonsense"}, "cannot read config.json: .*`nonsense`"),
        ("config.json", {"model_type": ["bert"]}, r"cannot read config\.json"),
        ("config.json", {"model_type": None}, "cannot read config.json: .*type `None`"),
        ("config.json", {"hidden_size": "many"}, r"cannot read config\.json"),
        ("config.json", {"hidden_size": 12}, r"its weights do not fit its config\.json"),
        ("config.json", {"num_hidden_layers": 2}, "lacks weights of its encoder: encoder.layer.1"),
    ],
)
def test_odd_settings_are_one_sentence(folder, file, changes, message):
    change(folder / file, **changes)
    with pytest.raises(ValueError, match=message) as refused:
        EncoderClassifier(str(folder), 2)
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)


DAMAGED = [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe\x00", b"\x80\x04N.", b"{}" * 2, b"[" * 5000]


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", pretrained.INDEX])
def test_files_of_settings_that_are_no_json_object_are_named(folder, file, content):
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=file) as refused:
        EncoderClassifier(str(folder), 2)
    assert len(str(refused.value)) < 600
    with pytest.raises(ValueError, match=file):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("part", [0, 1, 8, 0.5, -1])
def test_damaged_weights_are_named_without_advice_to_unpickle(folder, part):
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    size = int(part * len(whole)) if isinstance(part, float) else part
    for content in (whole[:size], b"PK\x03\x04" + whole[:size], pickle.dumps({"a": 1})):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors is damaged") as refused:
            EncoderClassifier(str(folder), 2)
        assert "weights_only" not in str(refused.value)
        assert "\n" not in str(refused.value)


def test_weights_that_are_no_finite_numbers_are_refused_and_half_ones_become_float32(folder):
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({name: w.half() for name, w in weights.items()}, file, {"format": "pt"})
    assert {p.dtype for p in EncoderClassifier(str(folder), 2).parameters()} == {torch.float32}
    weights["encoder.layer.0.output.dense.bias"][2] = torch.nan
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"encoder\.layer\.0\.output\.dense\.bias holds .* than finite"
    ):
        EncoderClassifier(str(folder), 2)


def test_missing_heads_are_told_and_a_missing_pooler_is_not(folder):
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({n: w for n, w in weights.items() if "pooler" not in n}, file, {"format": "pt"})
    model, heads = load_model(BertForPreTraining, str(folder))
    assert isinstance(model, BertForPreTraining)
    assert heads
    assert all(name.startswith("cls.") for name in heads)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["minilm", "google-bert/bert-base-uncased", "a/b.c_d-1"])
def test_names_of_the_right_form_pass_without_network_or_transformers(name):
    program = (
        f"import sys; from helpers.models import check_model; check_model({name!r}); "
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_a_folder_passes_if_it_has_a_config(folder, tmp_path_factory):
    check_model(str(folder))
    with pytest.raises(ValueError, match=r"has no config\.json"):
        check_model(str(tmp_path_factory.mktemp("empty")))


@pytest.mark.parametrize(
    ("name", "mend"),
    [("minlm", "did you mean 'minilm'"), ("MiniLM", "did you mean 'minilm'"),
     ("minilm ", "did you mean 'minilm'"), ("zzzzzz", "take a folder, a Hub id"),
     ("", "take a folder, a Hub id"), ("a/b/c", "take a folder, a Hub id"),
     ("../a", "take a folder, a Hub id"), ("./nowhere", "take a folder, a Hub id"),
     ("glove-50d", "take a folder, a Hub id")],
)  # fmt: skip
def test_a_misspelt_name_is_refused_at_once(name, mend):
    for load in (check_model, load_config, load_tokenizer, lambda n: EncoderClassifier(n, 2)):
        begin = time.perf_counter()
        with pytest.raises(ValueError, match=mend):
            load(name)
        assert time.perf_counter() - begin < 2


def test_a_hub_out_of_reach_is_one_sentence_within_seconds(monkeypatch):
    from huggingface_hub import HfApi

    def unreachable(self, name, timeout):
        assert timeout <= 10
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    begin = time.perf_counter()
    with pytest.raises(
        OSError, match=r"nobody/nothing is no folder here .*\(no route\)"
    ) as refused:
        load_tokenizer("nobody/nothing")
    assert time.perf_counter() - begin < 5
    assert "\n" not in str(refused.value)


def test_what_the_hub_sends_is_checked_like_a_folder(folder, monkeypatch):
    monkeypatch.setattr(pretrained, "_from_hub", lambda name: folder)
    assert load_config("owner/name").hidden_size == 8
    change(folder / "tokenizer_config.json", auto_map=CODE)
    with pytest.raises(ValueError, match=r"owner/name brings code of its own"):
        load_tokenizer("owner/name")


# --- rooms ----------------------------------------------------------------------------------------


def test_a_small_model_costs_no_import_of_transformers():
    program = (
        "import sys; from helpers.models import TextCNN, CRF, check_model, checkpoints; "
        "assert 'transformers' not in sys.modules, 'transformers'"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_all_that_the_room_names_is_there():
    assert all(getattr(models, name) is not None for name in models.__all__)
    assert set(models.__all__) <= set(dir(models))


@pytest.mark.parametrize("length", [0, 1, 2, 10, 10_000])
def test_lengths_that_the_model_cannot_read_are_refused(folder, length):
    tokenizer = load_tokenizer(str(folder))
    with pytest.raises(ValueError, match=rf"max_length is {length}: this model reads 3 to 9"):
        encode_texts(tokenizer, ["a b"], max_length=length)
    assert encode_texts(tokenizer, ["a b", ""], max_length=3).lengths.tolist() == [3, 2]


@torch.no_grad()
def test_a_text_that_is_masked_altogether_gives_numbers(folder):
    model = EncoderClassifier(str(folder), 2).eval()
    ids, mask = torch.tensor([[2, 5, 3], [2, 6, 3]]), torch.tensor([[1, 1, 1], [0, 0, 0]])
    both = model(ids, mask)
    assert both.isfinite().all()
    torch.testing.assert_close(both[0], model(ids[:1], mask[:1])[0], atol=1e-5, rtol=0)

"""The series' own checkpoints: found by name from any folder, damaged ones refused by name."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from helpers.models import checkpoints

ROOT = Path(__file__).resolve().parents[1]


def opened(file):
    with safe_open(file, "pt") as content:
        weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        return weights, json.loads(content.metadata()["facts"])


def change_facts(file, **changes):
    """Write a checkpoint again with other facts."""
    weights, facts = opened(file)
    save_file(weights, file, {"facts": json.dumps(facts | changes)})


def change_weights(file, more, drop=()):
    """Write a checkpoint again with other tensors."""
    weights, facts = opened(file)
    kept = {name: tensor for name, tensor in weights.items() if name not in drop}
    save_file(kept | more, file, {"facts": json.dumps(facts)})


def write(name="toy", **weights):
    given = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([0.1])} | weights
    checkpoints.write(name, "toy", given, {"size": 3}, {"corpus": "né"}, ["<pad>", "<unk>", "é"])


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of checkpoints with one, `toy`."""
    monkeypatch.setattr(checkpoints, "folder", lambda: tmp_path)
    write()
    return tmp_path


def test_the_folder_is_the_checkouts_wherever_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert checkpoints.folder() == ROOT / "data" / "checkpoints"


def test_a_name_is_found_in_the_folder_and_a_path_where_it_says(shelf):
    assert checkpoints.names() == ["toy"]
    assert checkpoints.place("toy") == shelf / "toy.safetensors"
    assert checkpoints.place(shelf / "toy.safetensors") == shelf / "toy.safetensors"
    assert checkpoints.place("./mine") == Path("mine.safetensors")
    assert checkpoints.place("mine/new.v2") == Path("mine/new.v2.safetensors")


def test_what_is_written_comes_back_in_half_precision_from_one_file(shelf):
    found = checkpoints.read("toy", "toy")
    assert (found.configuration, found.about) == ({"size": 3}, {"corpus": "né"})
    assert found.vocabulary.words == ["<pad>", "<unk>", "é"]
    assert torch.equal(found.weights["b"], torch.tensor([0.1]).half().float())
    assert [file.name for file in shelf.iterdir()] == ["toy.safetensors"]
    before = checkpoints.digest("toy")
    write()
    assert checkpoints.digest("toy") == before
    write(b=torch.tensor([0.2]))
    assert checkpoints.digest("toy") != before


def test_a_missing_checkpoint_is_one_sentence_that_says_how_to_make_it(shelf):
    message = r"no checkpoint .*none\.safetensors.*series has toy.*pretrain=True"
    with pytest.raises(FileNotFoundError, match=message):
        checkpoints.read("none", "toy")


def damages():
    """Names of damage, and functions that take the bytes of a whole file."""
    header = b"\x08\0\0\0\0\0\0\0{}      "
    deep = b'{"__metadata__":{"facts":"%s"}}' % (b"[" * 3000)
    return {
        "empty": lambda whole: b"", "one byte": lambda whole: whole[:1],
        "half": lambda whole: whole[: len(whole) // 2], "cut": lambda whole: whole[:-1],
        "longer": lambda whole: whole + b"x", "text": lambda whole: b"a checkpoint, they said",
        "pickle": lambda whole: b"\x80\x04K\x01.", "zip": lambda whole: b"PK\x03\x04" + whole,
        "huge header": lambda whole: b"\xff" * 8 + whole[8:],
        "broken JSON": lambda whole: whole.replace(b"{", b"[", 1),
        "no facts": lambda whole: header,
        "wrong facts": lambda whole: whole.replace(b'{\\"kind', b'[\\"kind'),
        "facts of another kind": lambda whole: whole.replace(b"facts", b"fakts"),
        "wrong size": lambda whole: whole.replace(b"[2,3]", b"[2,4]"),
        "wrong offsets": lambda whole: whole.replace(b"data_offsets", b"data_offzets"),
        "unknown type": lambda whole: whole.replace(b"F16", b"F99"),
        "deep": lambda whole: len(deep).to_bytes(8, "little") + deep,
    }  # fmt: skip


@pytest.mark.parametrize("damage", damages())
def test_a_damaged_file_is_one_sentence_with_its_name(shelf, damage):
    file = shelf / "toy.safetensors"
    whole = file.read_bytes()
    file.write_bytes(damages()[damage](whole))
    assert file.read_bytes() != whole
    with pytest.raises(ValueError, match=r"toy\.safetensors") as refused:
        checkpoints.read("toy", "toy")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_numbers_that_are_none_are_refused_by_the_tensors_name(shelf):
    for bad in (torch.nan, torch.inf, 1e6):  # the last is too large for half precision
        write(b=torch.tensor([1.0, bad]))
        with pytest.raises(ValueError, match=r"toy\.safetensors is damaged.*b holds .* finite"):
            checkpoints.read("toy", "toy")


def test_facts_of_another_form_are_refused(shelf):
    for changes in ({"configuration": [1]}, {"about": None}, {"vocabulary": 3}, {"kind": ["toy"]},
                    {"vocabulary": ["<pad>"]}):  # fmt: skip
        write()
        change_facts(shelf / "toy.safetensors", **changes)
        with pytest.raises(ValueError, match=r"toy\.safetensors"):
            checkpoints.read("toy", "toy")


@pytest.mark.parametrize("name", checkpoints.names())
def test_committed_checkpoints_say_how_they_were_made(name):
    _, facts = opened(checkpoints.place(name))
    assert facts["about"]["command"].startswith("python -m helpers run notebooks/")
    assert {"corpus", "steps", "seconds"} <= set(facts["about"])


def test_committed_checkpoints_are_small():
    sizes = {file.name: file.stat().st_size for file in checkpoints.folder().iterdir()}
    assert checkpoints.names() == ["awd_lstm", "elmo", "gpt", "minilm_mlm"]
    assert sizes.keys() == {f"{name}.safetensors" for name in checkpoints.names()} | {"gpt.json"}
    assert sum(sizes.values()) <= 45e6
    assert sizes["gpt.safetensors"] + sizes["gpt.json"] <= 10e6

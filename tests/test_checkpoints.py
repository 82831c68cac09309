"""The series' own checkpoints: found by name from any folder, refused by one sentence."""

import json
from pathlib import Path

import nbformat
import pytest

from helpers.models import checkpoints
from helpers.series import provenance

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of checkpoints with one that is whole, `toy`, and one that is not, `half`."""
    for file in ("toy.json", "toy.safetensors", "half.json"):
        (tmp_path / file).write_text(file)
    monkeypatch.setattr(checkpoints, "folder", lambda: tmp_path)
    return tmp_path


def test_the_folder_is_the_checkouts_wherever_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert checkpoints.folder() == ROOT / "data" / "checkpoints"


def test_a_name_is_found_in_the_folder_and_a_path_where_it_says(shelf, tmp_path):
    assert checkpoints.names() == ["toy"]
    assert checkpoints.find("toy") == shelf / "toy"
    assert checkpoints.find(shelf / "toy.safetensors") == shelf / "toy"
    assert checkpoints.place("new") == shelf / "new"
    assert checkpoints.place("mine/new.v2") == Path("mine/new.v2")


@pytest.mark.parametrize(("name", "lacks"), [("half", "half.safetensors"), ("none", "none.json")])
def test_a_missing_checkpoint_is_one_sentence_that_says_how_to_make_it(shelf, name, lacks):
    with pytest.raises(FileNotFoundError, match=rf"{lacks}.*series has toy.*pretrain=True"):
        checkpoints.find(name)


def test_outputs_go_stale_with_a_checkpoint_that_their_notebook_names(shelf):
    def digests():
        made = {}
        for stem in ("toy", "other"):
            cells = [nbformat.v4.new_code_cell(f'name = "{stem}"')]
            node = nbformat.v4.new_notebook(cells=cells)
            made[stem] = provenance.sources(node).digest
        return made

    before = digests()
    (shelf / "toy.safetensors").write_text("other weights")
    after = digests()
    assert before["toy"] != after["toy"]
    assert before["other"] == after["other"]


@pytest.mark.parametrize("name", checkpoints.names())
def test_committed_checkpoints_say_how_they_were_made(name):
    about = json.loads((checkpoints.folder() / f"{name}.json").read_text("utf-8"))["about"]
    assert about["command"].startswith("python -m helpers run notebooks/")
    assert {"corpus", "steps", "seconds"} <= set(about)


def test_committed_checkpoints_are_small():
    sizes = {file.stem: file.stat().st_size for file in checkpoints.folder().glob("*.safetensors")}
    assert sum(sizes.values()) <= 20e6
    assert sizes.get("awd_lstm", 0) + sizes.get("elmo", 0) <= 16e6

"""Proof by behaviour on a small project of its own: a package, a notebook that trains, git."""

import json
import subprocess

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from helpers import assets
from helpers.evaluation import records
from helpers.models import checkpoints
from helpers.series import provenance, verify

LEARNING = '''"""Learns a number."""


def fit(target, steps, lr=0.1):
    if steps < 1:
        raise ValueError("too few steps")
    guess = 0.0
    for _ in range(steps):
        guess -= lr * 2 * (guess - target)
    return guess
'''
RECORD = """import json, os, time
def record(**fields):
    with open(os.environ["NLP_TRANSFER_RECORDS"], "a") as file:
        file.write(json.dumps({"metric": "guess", "machine": MACHINE, **fields}) + "\\n")
"""
CELLS = (
    'size: str = "default"  # quick or default',
    RECORD,
    "from helpers.learning import fit  # ours",
    "start = time.monotonic()\nguess = fit(3.0, 5 if size == 'quick' else 50)",
    "took = time.monotonic() - start\nprint(guess)",
    "record(method='descent', value=guess, seconds=took, size=size)\n"
    "record(method='descent', metric='steps a second', value=5 / took, size=size)",
    "import inspect\nprint(inspect.getsource(fit))",
)


def commit(root, message="a step"):
    git = ["git", "-C", root, "-c", "user.name=x", "-c", "user.email=x@y.z"]
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", message], check=True)


def executed(root, cells=CELLS):
    """A notebook with the outputs and records of a run by hand, with its facts."""
    guess = 3 - 3 * 0.8**50
    code = [new_code_cell(source, execution_count=i) for i, source in enumerate(cells, start=1)]
    code[0].metadata["tags"] = ["parameters"]
    node = new_notebook(cells=[new_markdown_cell("# 01 · Toy"), *code])
    node.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "P"}
    code[4].outputs = [nbformat.v4.new_output("stream", text=f"{guess}\n")]
    code[6].outputs = [nbformat.v4.new_output("stream", text="the source of then")]
    made = provenance.facts(provenance.stamp(node, root), root) | {"size": "default"}
    node.metadata["run"] = made
    file = root / "notebooks" / "01_toy.ipynb"
    file.write_text(nbformat.writes(node) + "\n")
    rows = [{"facts": made}, {"method": "descent", "metric": "guess", "value": guess,
                              "size": "default"}]  # fmt: skip
    (root / "data" / "records" / "01_toy.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return file


@pytest.fixture
def project(tmp_path):
    """Committed with the records of its notebook; what stands is stale by no word."""
    root = tmp_path / "project"
    for folder in ("helpers/series", "notebooks", "data/records"):
        (root / folder).mkdir(parents=True)
    for file in ("helpers/__init__.py", "helpers/series/__init__.py"):
        (root / file).touch()
    (root / "helpers" / "learning.py").write_text(LEARNING)
    versions = provenance.stamp(new_notebook())["versions"]
    cells = list(CELLS)
    cells[1] = f"MACHINE = {versions}\n" + cells[1]
    subprocess.run(["git", "init", "-q", root], check=True)
    file = executed(root, cells)
    commit(root)
    assert verify.stale(file, root) == []
    return root, file


def change(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_changed_error_message_leaves_all_records_standing(project, capsys):
    root, file = project
    before, rows = (
        provenance.stamp(new_notebook(), root)["helpers"],
        records.read(root / "data" / "records"),
    )
    change(root / "helpers" / "learning.py", "too few steps", "steps must be 1 or more")
    (told, also) = verify.stale(file, root)
    assert told.startswith("01_toy.ipynb was made with other helpers: make verify, or make refresh")
    assert also.startswith("01_toy.jsonl was made with other helpers")
    assert verify.main([], root=root) == 0
    assert "01_toy: stands" in capsys.readouterr().out
    assert verify.stale(file, root) == []
    node, facts = nbformat.read(file, 4), records.facts(root / "data" / "records" / "01_toy.jsonl")
    assert facts == node.metadata.run
    assert facts["helpers"] == before  # what made it
    assert facts["verified"]["helpers"] == provenance.stamp(new_notebook(), root)["helpers"]
    assert facts["verified"]["against"] == provenance.git(root, "rev-parse", "HEAD")
    assert records.read(root / "data" / "records").equals(rows)
    assert node.cells[5].outputs[0]["text"] == f"{3 - 3 * 0.8**50}\n"  # of the default run
    assert "steps must be 1 or more" in node.cells[7].outputs[0]["text"]  # the source of today


def test_a_changed_learning_rate_leaves_none_standing(project, capsys):
    root, file = project
    change(root / "helpers" / "learning.py", "lr=0.1", "lr=0.2")
    assert verify.main([file], root=root) == 1
    said = capsys.readouterr().out
    assert "01_toy: record 1 of the quick run was {" in said
    assert "make refresh NOTEBOOK=notebooks/01_toy.ipynb" in said
    assert len(verify.stale(file, root)) == 2


def test_code_that_fails_proves_nothing(project, capsys):
    root, _ = project
    change(root / "helpers" / "learning.py", "guess = 0.0", "guess = 1 / 0")
    assert verify.main([], root=root) == 1
    assert "the code of now fails, In [" in capsys.readouterr().out


def test_a_change_in_the_last_bits_is_one_and_no_record_proves_nothing(project, capsys):
    root, file = project
    change(root / "helpers" / "learning.py", "guess = 0.0", "guess = 1e-13")
    assert verify.main([file], root=root) == 1
    assert "record 1 of the quick run was {" in capsys.readouterr().out
    cells = [cell.source for cell in nbformat.read(file, 4).cells[1:]]
    executed(root, ["..." if cell.startswith("record(") else cell for cell in cells])
    commit(root)
    change(root / "helpers" / "learning.py", "too few steps", "steps must be 1 or more")
    assert verify.main([file], root=root) == 1
    assert "the quick run makes no records" in capsys.readouterr().out


def test_changed_cells_and_comments(project):
    root, file = project
    change(file, "3.0, 5 if", "3.0, 6 if")
    assert "other cells" in verify.stale(file, root)[0]
    change(file, "3.0, 6 if", "3.0, 5 if")
    change(file, "# ours", "# ours, and short")
    assert verify.stale(file, root) == []


def test_changed_sizes_are_changed_cells_of_the_notebook_whose_number_they_have(project):
    root, file = project
    sizes = root / "data" / "sizes.toml"
    sizes.write_text("[02.quick]\nsteps = 3\n")
    assert verify.stale(file, root) == []
    sizes.write_text("[01.quick]\nsteps = 5\n")
    assert "other cells" in verify.stale(file, root)[0]
    executed(root, [cell.source for cell in nbformat.read(file, 4).cells[1:]])
    commit(root)
    sizes.write_text("# short\n[01.quick]\nsteps = 5  # of them\n")
    assert verify.stale(file, root) == []
    sizes.write_text("[01.quick]\nsteps = 5\n[01.full]\nsteps = 50\n")
    assert len(verify.stale(file, root)) == 2
    assert verify.main([], root=root) == 0  # the rows of then are found with the code of then
    assert verify.stale(file, root) == []


def test_what_runs_and_checks_notebooks_needs_no_proof(project):
    root, file = project
    (root / "helpers" / "exercises").mkdir()
    for name in ("series/runner.py", "exercises/bert.py", "__main__.py"):
        (root / "helpers" / name).write_text("def fit():\n    return 'minilm'\n")
    assert verify.stale(file, root) == []
    (root / "helpers" / "new.py").write_text("x = 1\n")
    assert len(verify.stale(file, root)) == 2


def test_a_changed_library_version_is_seen(project):
    root, file = project
    had = provenance.stamp(new_notebook())["versions"]["torch"].partition("+")[0]
    pins = root / "constraints.txt"
    pins.write_text(f"torch=={had}\nnumpy==1.0\n")
    assert verify.stale(file, root) == []
    pins.write_text("torch==99.1\n")
    assert f"torch {had}" in verify.stale(file, root)[0]
    assert "(now 99.1)" in verify.stale(file, root)[0]


def test_a_proof_with_other_libraries_than_made_the_records_is_none(project, capsys):
    root, file = project
    version = provenance.stamp(new_notebook())["versions"]["gensim"]
    for kept in (file, root / "data" / "records" / "01_toy.jsonl"):
        change(kept, f'"gensim": "{version}"', '"gensim": "0.1"')
    change(root / "helpers" / "learning.py", "too few steps", "steps must be 1 or more")
    (root / "constraints.txt").write_text(f"gensim=={version}\n")
    assert verify.main([file], root=root) == 1
    (told, _) = verify.stale(file, root)
    assert told in capsys.readouterr().out
    assert f"made with other gensim 0.1 (now {version}): " in told


@pytest.mark.parametrize("field", ["root", "members", "sha256", "version"])
def test_a_changed_asset_is_seen(monkeypatch, field):
    node = new_notebook(cells=[new_code_cell("take('tweets')")])
    before, catalogue = provenance.stamp(node), assets.catalogue()
    assert list(before["assets"]) == ["icwsm14"]
    other = ("x",) if field == "members" else "x"
    known = catalogue["icwsm14"]
    changed = type(known)(**vars(known) | {field: other})
    monkeypatch.setattr(assets, "catalogue", lambda: catalogue | {"icwsm14": changed})
    assert provenance.changes(before, provenance.stamp(node)) == ["icwsm14 (assets)"]


def test_a_changed_checkpoint_is_seen(monkeypatch):
    name = checkpoints.names()[0]
    node = new_notebook(cells=[new_code_cell(f"load('{name}')")])
    before = provenance.stamp(node)
    monkeypatch.setattr(checkpoints, "digest", lambda name: "0" * 64)
    assert provenance.changes(before, provenance.stamp(node)) == [f"{name} (checkpoints)"]


def test_assets_are_found_by_name_and_by_data_set_in_code_alone():
    cells = ["x = take('tweets')", "# 'minilm'\nresolve('glove-50d')", "print('about tweets')"]
    found = provenance.stamp(new_notebook(cells=[*map(new_code_cell, cells)]))["assets"]
    assert sorted(found) == ["glove-50d", "icwsm14"]


def test_the_code_is_found_in_the_history_though_it_was_run_before_it_was_committed(project):
    root, file = project
    change(root / "helpers" / "learning.py", "lr=0.1", "lr=0.3")
    cells = [cell.source for cell in nbformat.read(file, 4).cells[1:]]
    executed(root, cells)  # refreshed in a tree that no commit has
    assert nbformat.read(file, 4).metadata.run.dirty
    commit(root, "refreshed")
    change(root / "helpers" / "learning.py", "too few", "too little")
    commit(root, "later")
    assert verify.main([], root=root) == 0
    assert verify.stale(file, root) == []


def test_another_commit_and_an_unknown_one(project, capsys):
    root, file = project
    assert verify.main([file], against="HEAD", root=root) == 0
    assert "01_toy: stands" in capsys.readouterr().out
    assert verify.main([file], against="0000000", root=root) == 1
    assert "there is no commit 0000000" in capsys.readouterr().out

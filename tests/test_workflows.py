"""The workflows of a code host run what the README says, and what they name exists."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def steps(name: str) -> tuple[list[str], list[dict]]:
    """The commands of a workflow's one job, and its steps."""
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
    (job,) = yaml.safe_load(text)["jobs"].values()
    return [step["run"] for step in job["steps"] if "run" in step], job["steps"]


def test_every_change_is_tested_by_the_tests_of_ci_with_the_whole_history():
    commands, others = steps("test")
    assert commands == [".ci/run"]
    assert others[0]["with"]["fetch-depth"] == 0  # stamps are looked up in it


def test_every_week_the_same_tests_run_with_the_newest_libraries():
    (install, test), others = steps("newest")
    text = (ROOT / ".github" / "workflows" / "newest.yml").read_text()
    assert "schedule" in text
    assert test == "make test"
    assert "constraint" not in install
    make = (ROOT / "Makefile").read_text()
    extras = re.search(r"--editable '(\S+)'", make)[1]
    assert f"--editable '{extras}'" in install
    assert "touch .venv/.ready" in install  # make installs nothing over it
    left_out = re.findall(r"--deselect (\S+)::(\S+)", others[-1]["env"]["PYTEST_ADDOPTS"])
    assert len(left_out) == 2
    for file, name in left_out:
        assert f"def {name}(" in (ROOT / file).read_text()

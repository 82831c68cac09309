"""The parameters cell: what it declares, what it refuses, and how a notebook checks itself."""

from types import SimpleNamespace

import IPython
import pytest

from helpers.series.parameters import ParameterError, check, declared, settings, verify

CELL = """
size: str = "default"  # quick, default or full
n_seeds: int = 0
lr: float = 0.1
label_counts: list[int] = []
cased: bool = False
domain: str | None = None
plain = 3
folder = size + "/x"
for plain_loop in range(3):
    plain_loop += 1
"""


def test_declared_reads_literals_without_running_the_cell():
    found = declared(CELL + "\nraise RuntimeError('the cell was run')")
    assert found == {"size": "default", "n_seeds": 0, "lr": 0.1, "label_counts": [],
                     "cased": False, "domain": None, "plain": 3}  # fmt: skip
    assert found.kinds["label_counts"] == "list[int]"
    assert "plain" not in found.kinds


@pytest.mark.parametrize(
    "given",
    [
        {"size": "quick", "n_seeds": 3},
        {"lr": 1},
        {"lr": 1e-3},
        {"label_counts": [50, 200]},
        {"label_counts": []},
        {"domain": None},
        {"domain": "tweets"},
        {"plain": 4},
    ],
)
def test_check_accepts_values_of_the_declared_type(given):
    check(given, declared(CELL))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_seed": 3}, "no parameter 'n_seed': did you mean 'n_seeds'"),
        ({"zzz": 3}, "known are size, n_seeds"),
        ({"n_seeds": 1.0}, "'n_seeds' takes int, not 1.0"),
        ({"n_seeds": True}, "takes int, not True"),
        ({"cased": 1}, "takes bool, not 1"),
        ({"lr": "0.1"}, "takes float, not '0.1'"),
        ({"lr": True}, "takes float, not True"),
        ({"size": 5}, "takes str, not 5"),
        ({"label_counts": 50}, "takes list"),
        ({"label_counts": [50, "a"]}, "takes list"),
        ({"label_counts": "[50]"}, "-y 'label_counts: "),
        ({"domain": 3}, r"takes str \| None"),
        ({"plain": "x"}, "takes int"),
    ],
)
def test_check_refuses_in_one_sentence(given, message):
    with pytest.raises(ParameterError, match=message) as caught:
        check(given, declared(CELL))
    assert "\n" not in str(caught.value)


SIZES = {
    "quick": {"n_seeds": 1, "labels": (50, 200), "lr": 0.1},
    "full": {"n_seeds": 5, "labels": (50, 5000), "lr": 0.1},
}


def test_settings_lets_filled_overrides_win():
    chosen = settings("full", SIZES, n_seeds=2, labels=[], lr=0)
    assert vars(chosen) == {"n_seeds": 2, "labels": (50, 5000), "lr": 0.1}
    assert settings("quick", SIZES, labels=[100]).labels == [100]
    assert SIZES["full"]["n_seeds"] == 5, "the table of sizes was changed"


@pytest.mark.parametrize(
    ("size", "overrides", "message"),
    [
        ("huge", {}, "no size 'huge': the sizes are quick, full"),
        ("quick", {"n_sed": 3}, "did you mean 'n_seeds'"),
        ("quick", {"n_sed": 0}, "did you mean 'n_seeds'"),
        ("quick", {"n_seeds": 0.5}, "takes int"),
        ("quick", {"labels": ["a"]}, "takes list"),
    ],
)
def test_settings_refuses_unknown_names_and_types(size, overrides, message):
    with pytest.raises(ParameterError, match=message):
        settings(size, SIZES, **overrides)


def in_a_notebook(monkeypatch, *cells):
    shell = SimpleNamespace(user_ns={"In": ["", *cells]})
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)


@pytest.mark.parametrize(
    ("passed", "message"),
    [("n_seedz = 1", "did you mean 'n_seeds'"), ('n_seeds = "three"', "takes int")],
)
def test_verify_refuses_what_papermill_let_through(monkeypatch, passed, message):
    in_a_notebook(monkeypatch, "x = (", CELL, f"# Parameters\n{passed}\n", "verify()")
    with pytest.raises(ParameterError, match=message):
        verify()


def test_verify_accepts_good_parameters_and_leaves_other_code_alone(monkeypatch):
    verify()  # outside of a notebook
    later = "# Parameters of the model\nwidths = (3, 4)"
    in_a_notebook(monkeypatch, CELL, '# Parameters\nn_seeds = 2\nsize = "full"\n', later)
    verify()
    in_a_notebook(monkeypatch, "# Parameters\nmine = 3\n", "verify()")
    verify()

"""The parameters cell: what it declares, what it refuses, and how a notebook checks itself."""

from contextlib import suppress
from typing import Optional

import numpy as np
import pytest

from helpers.series import parameters
from helpers.series.parameters import Declared, ParameterError, check, settings, verify

CELL = """
size: str = "default"  # quick, default or full
n_seeds: int = 0
lr: float = 0.1
label_counts: list[int] = []
cased: bool = False
domain: str | None = None
sparse: list[int | None] = []
depth: Optional[int] = None
pair: tuple[int, str] = (1, "a")
table: dict[str, int] = {}
plain = 3
folder = size + "/x"
for plain_loop in range(3):
    plain_loop += 1
"""


def test_declared_reads_literals_without_running_the_cell():
    found = Declared(CELL + "\nraise RuntimeError('the cell was run')")
    assert found == {"size": "default", "n_seeds": 0, "lr": 0.1, "label_counts": [],
                     "cased": False, "domain": None, "sparse": [], "depth": None,
                     "pair": (1, "a"), "table": {},
                     "plain": 3}  # fmt: skip
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
        {"sparse": [1, None]},
        {"depth": 2},
        {"depth": None},
        {"pair": [2, "b"]},
        {"table": {"x": 1}},
        {"n_seeds": np.int64(3), "lr": np.float32(0.1), "cased": np.bool_(True)},
        {"label_counts": [np.int64(3)]},
    ],
)
def test_check_accepts_values_of_the_declared_type(given):
    check(given, Declared(CELL))


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
        ({"sparse": [1, "x"]}, r"takes list\[int \| None\]"),
        ({"depth": 1.5}, r"takes Optional\[int\], not 1.5"),
        ({"pair": [2.5]}, r"takes tuple\[int, str\]"),
        ({"pair": 3}, r"takes tuple\[int, str\]"),
        ({"table": 3}, r"takes dict\[str, int\]"),
        ({"n_seeds": np.float64(3.0)}, "takes int"),
        ({"size": 2024}, "takes str, not 2024 .papermill: .* -r size 2024 for a text"),
        ({"n_seeds": "3" * 5000}, r"takes int, not '333+\.\.\.3+'\.$"),
    ],
)
def test_check_refuses_in_one_sentence(given, message):
    with pytest.raises(ParameterError, match=message) as caught:
        check(given, Declared(CELL))
    assert "\n" not in str(caught.value)


SIZES = {
    "quick": {"n_seeds": 1, "labels": (50, 200), "lr": 0.1},
    "full": {"n_seeds": 5, "labels": (50, 5000), "lr": 0.1},
}


def test_settings_lets_filled_overrides_win():
    chosen = settings("full", SIZES, n_seeds=2, labels=[], lr=None)
    assert vars(chosen) == {"n_seeds": 2, "labels": (50, 5000), "lr": 0.1}
    assert settings("full", SIZES, n_seeds=0).n_seeds == 5
    assert settings("quick", SIZES, labels=[100]).labels == [100]
    assert SIZES["full"]["n_seeds"] == 5, "the table of sizes was changed"


@pytest.mark.parametrize("zero", [0, 0.0, np.float32(0)])
def test_settings_takes_zero_for_what_has_no_whole_number(zero):
    sizes = {"quick": {"dropout": 0.1, "cased": True}}
    assert settings("quick", sizes, dropout=zero).dropout == 0
    assert settings("quick", sizes, cased=False).cased is False


@pytest.mark.parametrize(
    ("size", "overrides", "message"),
    [
        ("huge", {}, "no size 'huge': known are quick, full"),
        ("quick", {"n_sed": 3}, "did you mean 'n_seeds'"),
        ("quick", {"n_sed": 0}, "did you mean 'n_seeds'"),
        ("quick", {"n_seeds": 0.5}, "takes int"),
        ("quick", {"lr": "0.1"}, "takes float"),
    ],
)
def test_settings_refuses_unknown_names_and_types(size, overrides, message):
    with pytest.raises(ParameterError, match=message):
        settings(size, SIZES, **overrides)


ROWS = """
[03.quick]
n_seeds = 1
labels = [50, 200]
lr = 0.1
task = "films"

[03.full]
n_seeds = 5
labels = [50, 5000]
lr = 0.1
task = "films"

[10.quick]
depth = 2
"""


@pytest.fixture(params=["data", "helpers"])  # of a checkout, and inside an installed package
def sizes_file(tmp_path, monkeypatch, request):
    file = tmp_path / request.param / "sizes.toml"
    file.parent.mkdir()
    monkeypatch.setattr(parameters.rows, "__defaults__", (tmp_path,))
    file.write_text(ROWS)
    return file


@pytest.mark.parametrize("notebook", ["03", "03_feature_extraction_vs_fine_tuning"])
def test_settings_reads_the_rows_of_a_notebook(sizes_file, notebook):
    chosen = settings("full", notebook, n_seeds=0, lr=0.5)
    assert vars(chosen) == {"n_seeds": 5, "labels": [50, 5000], "lr": 0.5, "task": "films"}
    assert vars(settings("quick", "10", depth=3)) == {"depth": 3}


@pytest.mark.parametrize(
    ("size", "notebook", "given", "message"),
    [
        ("full", "04", {}, "no size 'full' of notebook 04: known are"),
        ("huge", "03", {}, "no size 'huge' of notebook 03: known are quick, full"),
        ("full", "03", {"n_sed": 1}, "did you mean 'n_seeds'"),
        ("full", "03", {"task": 3}, "'task' takes str, not 3"),
        ("full", "03", {"labels": 50}, "'labels' takes list, not 50"),
    ],
)
def test_settings_holds_the_rows_of_a_notebook_as_it_holds_a_table(
    sizes_file, size, notebook, given, message
):
    with pytest.raises(ParameterError, match=message):
        settings(size, notebook, **given)


def test_rows_without_a_file_are_none_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(parameters.rows, "__defaults__", (tmp_path,))
    with pytest.raises(ParameterError, match="no size 'full' of notebook 03"):
        settings("full", "03")


def in_a_notebook(call: str, *cells: str) -> None:
    """Run cells one after another as a kernel does, `In` included, and then `call`."""
    scope = {"In": [""], "verify": verify, "Optional": Optional}
    for source in [*cells, call]:
        scope["In"].append(source)
        with suppress(SyntaxError):
            exec(compile(source, "cell", "exec"), scope)


@pytest.mark.parametrize(
    ("passed", "message"),
    [
        ("n_seedz = 1", "did you mean 'n_seeds'"),
        ('n_seeds = "three"', "takes int"),
        ("n_seeds = float('nan')", "takes int, not nan"),
        ("n_seedz = float('inf')", "did you mean 'n_seeds'"),
    ],
)
def test_verify_refuses_what_papermill_let_through(passed, message):
    with pytest.raises(ParameterError, match=message):
        in_a_notebook("verify()", "x = (", CELL, f"# Parameters\n{passed}\n")


def test_verify_accepts_good_parameters_and_leaves_other_code_alone():
    verify()  # outside of a notebook
    later = "# Parameters of the model\nwidths = (3, 4)"
    in_a_notebook("verify()", CELL, '# Parameters\nn_seeds = 2\nsize = "full"\n', later)


def test_verify_in_plain_jupyter_sees_a_wrong_type_and_its_correction():
    wrong = CELL.replace("n_seeds: int = 0", 'n_seeds: int = "two"')
    with pytest.raises(ParameterError, match="takes int, not 'two'"):
        in_a_notebook("verify()", wrong)
    in_a_notebook("verify()", wrong, CELL)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("(0, 10)", 0), ("(0, 10)", 10), ("(None, 1)", -7), ("(1, None)", 7), ("(0.0, 1.0)", 0.5),
        ("(1, 5)", [1, 5]), ("(1, 5)", []), ("(1, 5)", None), ("(1, 5)", [None, 2]),
        ("['a', 'b']", "a"), ("{'a', 'b'}", ["a", "b"]), ("len", "any"),
    ],
)  # fmt: skip
def test_rules_let_good_values_pass(rule, value):
    in_a_notebook(f"verify(x={rule})", f"x = {value!r}")


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        ("(0, 10)", "-1", "'x': it must be at least 0 and at most 10, not -1."),
        ("(1, None)", "0", "'x': it must be at least 1, not 0."),
        ("(None, 1.0)", "1.5", "'x': it must be at most 1.0, not 1.5."),
        ("(0, 1)", "float('nan')", "not nan."),
        ("(0, None)", "'3'", "it must be at least 0, not '3'."),
        ("(1, 5)", "[1, 9]", "it must be at least 1 and at most 5, not 9."),
        ("['tweets', 'films']", "'tweet'", "it cannot be 'tweet': did you mean 'tweets'?"),
        ("{'tweets', 'films'}", "'z'", "it cannot be 'z': known are films, tweets."),
        (
            "['tweets', 'films']",
            "['films', 'tweet']",
            "it cannot be 'tweet': did you mean 'tweets'?",
        ),
        ("int", "'q'", "Parameter 'x': invalid literal for int"),
    ],
)
def test_rules_refuse_in_one_sentence_before_anything_runs(rule, value, message):
    with pytest.raises(ParameterError) as caught:
        in_a_notebook(f"verify(x={rule})", f"x = {value}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rules_are_held_to_the_value_that_papermill_passed():
    with pytest.raises(ParameterError, match="at least 0, not -2"):
        in_a_notebook("verify(n_seeds=(0, None))", CELL, "# Parameters\nn_seeds = -2\n")


def test_a_rule_for_no_parameter_is_a_mistake():
    with pytest.raises(ParameterError, match="no parameter 'n_seed'"):
        in_a_notebook("verify(n_seed=(0, 1))", CELL)

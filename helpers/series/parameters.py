"""The parameters cell of a notebook: what it declares, and one clear error for anything else."""

import ast
import difflib
import re
import reprlib
import sys
import tomllib
from contextlib import suppress
from numbers import Real
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
LISTS = (list, tuple)


class ParameterError(ValueError):
    """A parameter is unknown, of the wrong type or out of range; the message is one sentence."""


class Declared(dict):
    """What a cell assigns at its top level: `seed: int = 1` gives `{"seed": 1}`; `kinds` has the
    annotations, `names` all names. The cell is parsed, never run; only literals count."""

    def __init__(self, cell_source: str = ""):
        super().__init__()
        self.kinds, self.names, nodes = {}, [], []
        with suppress(SyntaxError):  # not Python alone; running it will say so
            nodes = ast.parse(cell_source).body
        for node in (node for node in nodes if isinstance(node, (ast.Assign, ast.AnnAssign))):
            self.names.append(name := ast.unparse(getattr(node, "target", None) or node.targets[0]))
            with suppress(ValueError):  # not a literal
                self[name] = ast.literal_eval(node.value)
                if isinstance(node, ast.AnnAssign):
                    self.kinds[name] = ast.unparse(node.annotation)


def check(given: dict, declared: dict) -> None:
    """Raise `ParameterError` unless each given name is declared and its value is of the type of its
    annotation, else its default. An int will do for a float."""
    for name, value in given.items():
        if name not in declared:
            raise ParameterError(f"There is no parameter {name!r}: {_near(name, declared)}")
        kind = getattr(declared, "kinds", {}).get(name) or type(declared[name]).__name__
        if not _fits(value, kind):
            told = f"{name!r} takes {kind}, not {reprlib.repr(value)}"
            if kind.startswith(("list", "tuple", "str")):
                told += f" (papermill: -y '{name}: [1, 2]' for a list, -r {name} 2024 for a text)"
            raise ParameterError(f"Parameter {told}.")


def _near(text: str, known) -> str:
    near = difflib.get_close_matches(text, map(str, known), 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(map(str, known))}."


def _fits(value, kind: str) -> bool:
    """Whether a value, and so each element of a list, is of a type that an annotation names."""
    kind = re.sub(r"Optional\[(.*)\]", r"\1 | None", kind)
    kinds, inner = re.findall(r"\w+", re.sub(r"\[.*\]", "", kind)), re.search(r"\[(.*)\]", kind)
    if isinstance(value, LISTS) and {"list", "tuple"} & {*kinds}:
        return not inner or all(_fits(item, inner[1]) for item in value)
    value = value.item() if getattr(value, "shape", None) == () else value  # a numpy scalar
    found = "None" if value is None else type(value).__name__
    return not {found, "Any", "NoneType", "float" if found == "int" else found}.isdisjoint(kinds)


def rows(root: Path = ROOT) -> dict[str, dict]:
    """What `sizes.toml` of a checkout or a wheel holds: notebook's number -> size -> settings."""
    files = [root / room / "sizes.toml" for room in ("helpers", "data")]
    return next((tomllib.loads(f.read_text("utf-8")) for f in files if f.exists()), {})


def settings(size: str, sizes: str | dict[str, dict], **overrides) -> SimpleNamespace:
    """The entries of `sizes[size]`, with the overrides that are not blank: None, "", [] and, where
    the table has no float, 0. For `sizes` the number or name of a notebook stands for its rows in
    `data/sizes.toml`. Raises `ParameterError` for unknown names and for values of another type."""
    name = f" of notebook {sizes}" if isinstance(sizes, str) else ""
    sizes = rows().get(sizes.partition("_")[0], {}) if name else sizes
    if size not in sizes:
        raise ParameterError(f"There is no size {size!r}{name}: {_near(size, sizes)}")
    table = sizes[size]
    check(dict.fromkeys(overrides.keys() - table.keys()), table)
    chosen = {name: v for name, v in overrides.items() if not _blank(v, table[name])}
    check(chosen, table)
    return SimpleNamespace(**table | chosen)


def _blank(value, default) -> bool:
    if isinstance(value, Real) and not isinstance(value, bool):
        return value == 0 and not isinstance(default, float)
    return value is None or (isinstance(value, (str, *LISTS)) and not value)


def verify(**rules) -> None:
    """Check the parameters: call it in the cell that follows the parameters cell.

        parameters.verify(n_seeds=(0, 100), size=["quick", "full"], train_file=readable)

    All of them, and what papermill passed, are held to the annotations; a named one, or each
    element of a list, to its rule: inclusive bounds (None: open), a list or set of allowed values,
    or a callable that raises ValueError. None passes. Raises `ParameterError`.
    """
    scope = sys._getframe(1).f_globals
    own, passed = Declared(), []
    for source in scope.get("In", []):  # IPython's list of all cells so far
        cell = Declared(source)
        if own and source.startswith("# Parameters\n"):
            passed = cell.names
        elif cell.kinds:
            own, passed = cell, []
    check({name: scope.get(name) for name in [*own, *passed]}, own)
    for name, rule in rules.items():
        if name not in scope:
            raise ParameterError(f"There is no parameter {name!r} to check.")
        try:
            rule(scope[name]) if callable(rule) else _hold(scope[name], rule)
        except ValueError as error:
            raise ParameterError(f"Parameter {name!r}: {error}") from None


def _hold(value, rule) -> None:
    for item in value if isinstance(value, LISTS) else [value]:
        if isinstance(rule, tuple) and item is not None:
            ends = zip(("at least", "at most"), rule, strict=True)
            wanted = " and ".join(f"{end} {bound}" for end, bound in ends if bound is not None)
            low, high = (item if bound is None else bound for bound in rule)
            if not (isinstance(item, Real) and low <= item <= high):  # NaN is nowhere
                raise ValueError(f"it must be {wanted}, not {reprlib.repr(item)}.")
        elif item is not None and item not in rule:
            near = _near(str(item), sorted(rule, key=str))
            raise ValueError(f"it cannot be {reprlib.repr(item)}: {near}")

"""The parameters cell of a notebook: what it declares, and one clear error for anything else."""

import ast
import difflib
import sys
import tomllib
from collections.abc import Collection
from contextlib import suppress
from numbers import Real
from pathlib import Path
from types import SimpleNamespace

PACKAGE = Path(__file__).resolve().parents[1]
LISTS = (list, tuple)


class ParameterError(ValueError):
    """A parameter is unknown, of the wrong type or out of range; the message is one sentence."""


class Declared(dict):
    """Names and defaults of a parameters cell; `kinds` has the annotations as they stand there."""

    kinds: dict[str, str]


def declared(cell_source: str) -> Declared:
    """What a cell assigns at its top level: `seed: int = 1` gives `{"seed": 1}`. The cell is
    parsed, never run; only literals count, as papermill can pass nothing else."""
    found = Declared()
    found.kinds = {}
    for node in ast.parse(cell_source).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            with suppress(ValueError):  # not a literal
                found[name] = ast.literal_eval(node.value)
                if isinstance(node, ast.AnnAssign):
                    found.kinds[name] = ast.unparse(node.annotation)
    return found


def check(given: dict, declared: dict) -> None:
    """Raise `ParameterError` unless each given name is declared and its value is of the type of its
    annotation, else its default. An int will do for a float, a numpy scalar for a number."""
    for name, value in given.items():
        if name not in declared:
            raise ParameterError(f"There is no parameter {name!r}: {_near(name, declared)}")
        kind = getattr(declared, "kinds", {}).get(name) or _kind(declared[name])
        if not _fits(value, ast.parse(kind, mode="eval").body):
            mend = ""
            if isinstance(value, str) and kind.startswith(("list", "tuple")):
                mend = f" (papermill takes lists as -y '{name}: [1, 2]')"
            elif kind.startswith("str") and isinstance(value, Real):
                mend = f" (papermill takes such a text as -r {name} {value})"
            raise ParameterError(f"Parameter {name!r} takes {kind}, not {_short(value)}{mend}.")


def _near(text: str, known: Collection) -> str:
    near = difflib.get_close_matches(text, map(str, known), 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(map(str, known))}."


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}…"


def _kind(value) -> str:
    if isinstance(value, LISTS):
        return f"list[{_kind(value[0])}]" if value else "list"
    return "Any" if value is None else type(value).__name__


def _fits(value, kind: ast.expr) -> bool:
    """Whether a value is of the type that an annotation names."""
    if isinstance(kind, ast.BinOp):  # int | None
        return _fits(value, kind.left) or _fits(value, kind.right)
    parts = []
    if isinstance(kind, ast.Subscript):
        kind, parts = kind.value, getattr(kind.slice, "elts", [kind.slice])
    name = ast.unparse(kind)
    if name == "Optional":
        return value is None or _fits(value, *parts)
    if name in ("list", "tuple") and isinstance(value, LISTS):
        return not parts or all(any(_fits(item, part) for part in parts) for item in value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    found = "None" if value is None else type(value).__name__
    return name in ("Any", found) or (name, found) == ("float", "int")


def rows(root: Path | None = None) -> dict[str, dict]:
    """What `sizes.toml` of a checkout holds: number of a notebook -> size -> settings."""
    root = root or PACKAGE.parent
    places = root / "helpers" / "sizes.toml", root / "data" / "sizes.toml"  # a wheel, a checkout
    file = next(filter(Path.exists, places), None)
    return tomllib.loads(file.read_text(encoding="utf-8")) if file else {}


def settings(size: str, sizes: str | dict[str, dict], **overrides) -> SimpleNamespace:
    """The entries of `sizes[size]`, with the overrides that are not blank.

    `sizes` is a table, or the number or name of a notebook with rows in `data/sizes.toml`. Blank
    are None, "", [] and, where the table has no float, the number 0. Raises `ParameterError` for a
    notebook, a size or a name that the table does not have, and for an override of another type.
    """
    if isinstance(sizes, str):
        number, known = sizes.partition("_")[0], rows()
        if number not in known:
            raise ParameterError(f"sizes.toml has no notebook {number!r}: {_near(number, known)}")
        sizes = known[number]
    if size not in sizes:
        raise ParameterError(f"There is no size {size!r}: {_near(size, sizes)}")
    table = sizes[size]
    check(dict.fromkeys(overrides.keys() - table.keys()), table)

    def blank(name, value) -> bool:
        number = isinstance(value, Real) and not isinstance(value, bool)
        whole = number and not isinstance(table[name], float)
        return value is None or (whole or isinstance(value, (str, *LISTS))) and not value

    chosen = {name: value for name, value in overrides.items() if not blank(name, value)}
    check(chosen, table)
    return SimpleNamespace(**table | chosen)


def verify(**rules) -> None:
    """Check the parameters: call it in the cell that follows the parameters cell.

    All parameters, and what papermill passed (it takes any name and any type), are held to the
    annotations; the value of each named parameter, or each element of a list, to its rule: a tuple
    of inclusive bounds (None: open), a list or set of allowed values, or a callable that takes the
    whole value and raises ValueError. None passes. Raises `ParameterError`.

        parameters.verify(n_seeds=(0, 100), size=["quick", "full"], train_file=readable)
    """
    scope = sys._getframe(1).f_globals
    own, passed = declared(""), []
    for source in scope.get("In", []):  # IPython's list of all cells so far
        with suppress(SyntaxError):
            if own and source.startswith("# Parameters\n"):
                nodes = ast.parse(source).body
                passed = [ast.unparse(t) for node in nodes for t in getattr(node, "targets", [])]
            elif (cell := declared(source)).kinds:
                own, passed = cell, []
    check({name: scope.get(name) for name in [*own, *passed]}, own)
    for name, rule in rules.items():
        if name not in scope:
            raise ParameterError(f"There is no parameter {name!r} to check.")
        if callable(rule):
            try:
                rule(scope[name])
            except ValueError as error:
                raise ParameterError(f"Parameter {name!r}: {error}") from None
        else:
            _hold(name, scope[name], rule)


def _hold(name: str, value, rule: Collection) -> None:
    for item in value if isinstance(value, LISTS) else [value]:
        if isinstance(rule, tuple) and item is not None:
            ends = zip(("at least", "at most"), rule, strict=True)
            wanted = " and ".join(f"{end} {bound}" for end, bound in ends if bound is not None)
            low, high = (item if bound is None else bound for bound in rule)
            if not (isinstance(item, Real) and low <= item <= high):  # NaN is nowhere
                raise ParameterError(f"Parameter {name!r} must be {wanted}, not {_short(item)}.")
        elif item is not None and item not in rule:
            near = _near(str(item), sorted(rule, key=str))
            raise ParameterError(f"Parameter {name!r} cannot be {_short(item)}: {near}")

"""The parameters cell of a notebook: what it declares, and one clear error for anything else."""

import ast
import difflib
import sys
from contextlib import suppress
from types import SimpleNamespace


class ParameterError(ValueError):
    """A parameter is unknown or of the wrong type; the message is one sentence."""


class Declared(dict):
    """Names and defaults of a parameters cell; `kinds` has the annotations as they stand there."""

    kinds: dict[str, str]


def declared(cell_source: str) -> Declared:
    """What a cell assigns at its top level: `seed: int = 1` gives `{"seed": 1}`.

    The cell is parsed, never run: only literals, which is all that papermill can pass, count.
    """
    found = Declared()
    found.kinds = {}
    for node in ast.parse(cell_source).body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)):
            continue
        name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        with suppress(ValueError):  # not a literal
            found[name] = ast.literal_eval(node.value)
            if isinstance(node, ast.AnnAssign):
                found.kinds[name] = ast.unparse(node.annotation)
    return found


def check(given: dict, declared: dict) -> None:
    """Raise `ParameterError` unless each given name is declared and its value is of its type.

    The annotation says the type, or else the default's own type; whole numbers will do for floats.
    """
    for name, value in given.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, 1)
            known = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(declared)}."
            raise ParameterError(f"There is no parameter {name!r}: {known}")
        kind = getattr(declared, "kinds", {}).get(name) or _kind(declared[name])
        if not _fits(value, kind):
            listed = kind.startswith("list") and isinstance(value, str)
            mend = f" (papermill takes lists as -y '{name}: [1, 2]')" if listed else ""
            raise ParameterError(f"Parameter {name!r} takes {kind}, not {value!r}{mend}.")


def _kind(value) -> str:
    if isinstance(value, (list, tuple)):
        return f"list[{_kind(value[0])}]" if value else "list"
    return "Any" if value is None else type(value).__name__


def _fits(value, kind: str) -> bool:
    if " | " in kind:
        return any(_fits(value, part) for part in kind.split(" | "))
    outer, _, inner = kind.partition("[")
    if outer == "list":
        return isinstance(value, (list, tuple)) and all(_fits(v, inner[:-1]) for v in value)
    names = {"float": ("int", "float"), "None": ("NoneType",)}.get(outer, (outer,))
    return outer in ("", "Any") or type(value).__name__ in names


def settings(size: str, sizes: dict[str, dict], **overrides) -> SimpleNamespace:
    """The entries of `sizes[size]`; an override wins unless it is 0, "", [], None or False.

    `settings("quick", {"quick": {"n_seeds": 1}}, n_seeds=0).n_seeds` is 1. Raises `ParameterError`
    for a size or a name that the table does not have, and for an override of another type.
    """
    if size not in sizes:
        raise ParameterError(f"There is no size {size!r}: the sizes are {', '.join(sizes)}.")
    check(dict.fromkeys(overrides.keys() - sizes[size].keys()), sizes[size])
    chosen = {name: value for name, value in overrides.items() if value}
    check(chosen, sizes[size])
    return SimpleNamespace(**sizes[size] | chosen)


def verify() -> None:
    """Check what papermill passed: to be called in the cell that follows the parameters cell.

    Papermill takes any name and any type. Its own cell, first line `# Parameters`, is held to the
    annotated assignments in the cells before it. Does nothing where papermill passed nothing.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    own = None
    for source in shell.user_ns.get("In", []) if shell else []:
        with suppress(SyntaxError):
            cell = declared(source)
            if own and source.startswith("# Parameters\n"):
                check(cell, own)
            own = cell if cell.kinds else own

"""What a notebook's outputs come from: its code, the helpers that it imports, its assets.

A digest of these stands beside every committed output and record. It changes with the code, and
stays with comments, docstrings, layout and prose, on every supported version of Python.
"""

import ast
import hashlib
import importlib.util
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from helpers import assets

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Sources:
    """`digest` of all that a notebook runs on, and the `assets` (their names) that it uses."""

    digest: str
    assets: tuple[str, ...]


def sources(notebook, root: Path = ROOT) -> Sources:
    """Digest and assets of a notebook (an nbformat node); `root` holds the folder `helpers`."""
    cells = [_parse(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    modules = _reachable(cells, root)
    named = _assets(cells, modules)
    pins = [(s.name, s.version, s.sha256) for s in map(assets.catalogue().get, named)]
    shapes = [_shape(cell) for cell in cells]
    shapes += [(name, _shape(tree, code_only=True)) for name, tree in sorted(modules.items())]
    text = json.dumps([shapes, pins])
    return Sources(hashlib.sha256(text.encode()).hexdigest()[:16], tuple(named))


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:  # magics and shell commands, as IPython reads them
        from IPython.core.inputtransformer2 import TransformerManager

        with suppress(SyntaxError):
            return ast.parse(TransformerManager().transform_cell(source))
    return ast.parse(repr(source))  # a cell that cannot run is its own text


def _shape(node, code_only: bool = False):
    """A syntax tree as nested lists. Versions of Python differ in the fields that they leave empty
    and in empty pieces of f-strings, so both are left out; so are docstrings if `code_only`."""
    if isinstance(node, list):
        return [_shape(item, code_only) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    defines = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if code_only and isinstance(node, defines) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    if isinstance(node, ast.JoinedStr):
        fields["values"] = [v for v in node.values if getattr(v, "value", None) != ""]
    filled = {name: value for name, value in fields.items() if value not in (None, [])}
    return [type(node).__name__, [(name, _shape(v, code_only)) for name, v in filled.items()]]


def _reachable(trees: list, root: Path) -> dict[str, ast.Module]:
    """The helpers modules that the trees import, and those that these import, and so on."""
    found: dict[str, ast.Module] = {}
    todo = {name for tree in trees for name in _imports(tree)}
    while todo:
        name = todo.pop()
        stem = root.joinpath(*name.split("."))
        places = (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))
        file = next((place for place in places if place.is_file()), None)
        if name in found or file is None or name.split(".")[0] != "helpers":
            continue
        parent = name.rpartition(".")[0]
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
        todo |= _imports(found[name], name if file == places[0] else parent) | {parent} - {""}
    return found


def _imports(tree: ast.Module, package: str = "") -> set[str]:
    """Names of all that may be a module in the tree's import statements."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def _assets(cells: list, modules: dict[str, ast.Module]) -> list[str]:
    """Assets whose name, or that of a data set in them, is a text in the notebook's code, or in
    the functions of helpers that the notebook calls by name."""
    nodes = [node for cell in cells for node in ast.walk(cell)]
    used = {getattr(node, "attr", getattr(node, "id", None)) for node in nodes}
    for tree in modules.values():
        called = (node for node in tree.body if getattr(node, "name", None) in used - {None})
        nodes += [node for definition in called for node in ast.walk(definition)]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    catalogue = assets.catalogue().values()
    return sorted(s.name for s in catalogue if texts & {s.name, *s.provides})

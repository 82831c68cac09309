"""What a notebook's outputs come from: its code, what it uses of helpers, its assets.

A digest of these stands beside every committed output and record. It changes with the code, and
stays with comments, docstrings, layout and prose, on every supported version of Python. Of a
module it covers what reached code mentions by name, so that a function which nothing calls yet
makes no output stale.
"""

import ast
import hashlib
import importlib.util
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from helpers import assets
from helpers.models import checkpoints

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sources:
    """`digest` of all that a notebook runs on, and the `assets` (their names) that it uses."""

    digest: str
    assets: tuple[str, ...]


def sources(notebook, root: Path = ROOT) -> Sources:
    """Digest and assets of a notebook (an nbformat node); `root` holds the folder `helpers`."""
    cells = [_parse(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    modules = _reached(cells, root)
    named = _assets(cells, modules)
    pins = [(s.name, s.version, s.sha256) for s in map(assets.catalogue().get, named)]
    trained = sorted(_texts(cells) & set(checkpoints.names()))
    pins += [(name, checkpoints.digest(name)) for name in trained]
    shapes = [_shape(cell) for cell in cells]
    shapes += [(name, _shape(body, code_only=True)) for name, body in sorted(modules.items())]
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


def _reached(cells: list[ast.Module], root: Path) -> dict[str, list[ast.stmt]]:
    """The statements of each helpers module that the cells use, directly or through others.

    A definition, assignment or import counts if reached code has its name anywhere, whatever it
    means there: rather one too many. All other statements of a reached module count.
    """
    bodies, kept = {}, {}
    todo = {name for cell in cells for name in _imports(cell)}
    mentioned = {name for cell in cells for name in _mentions(cell)}
    grown = True
    while grown:
        grown = False
        for name in sorted(name for name in todo - set(bodies) if name.startswith("helpers")):
            bodies[name], kept[name] = _statements(name, root), set()
            todo.add(name.rpartition(".")[0])
        for name, (package, body) in bodies.items():
            for i, node in enumerate(body):
                bound = _binds(node)
                if i not in kept[name] and (not bound or bound & mentioned):
                    kept[name].add(i)
                    mentioned |= _mentions(node)
                    todo |= _imports(node, package)
                    grown = True
    return {name: [body[i] for i in sorted(kept[name])] for name, (_, body) in bodies.items()}


def _statements(name: str, root: Path) -> tuple[str, list[ast.stmt]]:
    """A helpers module's package and its statements, imports one name each, without docstring;
    none where there is no such module."""
    stem = root.joinpath(*name.split("."))
    places = (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return "", []
    package, body = name if file == places[0] else name.rpartition(".")[0], []
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body[ast.get_docstring(tree) is not None :]:
        parts = [node]
        if isinstance(node, ast.Import):
            parts = [ast.Import([alias]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = [ast.ImportFrom(node.module, [alias], node.level) for alias in node.names]
        body += parts
    return package, body


def _binds(node: ast.stmt) -> set[str]:
    """The names that a definition, an assignment or an import gives something to."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    stored = [n.id for t in targets if t for n in ast.walk(t) if isinstance(n, ast.Name)]
    return {*stored, getattr(node, "name", None)} - {None}


def _mentions(tree: ast.AST) -> set[str]:
    """All names, attributes and imported names in a tree."""
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Name | ast.Attribute | ast.alias)]
    return {getattr(n, "id", getattr(n, "attr", getattr(n, "name", ""))) for n in nodes}


def _imports(tree: ast.AST, package: str = "") -> set[str]:
    """Names of all that may be a module in the tree's import statements."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def _assets(cells: list, modules: dict[str, list[ast.stmt]]) -> list[str]:
    """Assets whose name, or that of a data set in them, is a text in the notebook's code, or in
    the functions of helpers that the notebook calls by name."""
    nodes = [node for cell in cells for node in ast.walk(cell)]
    used = {getattr(node, "attr", getattr(node, "id", None)) for node in nodes} - {None}
    named = [n for body in modules.values() for n in body if getattr(n, "name", None) in used]
    texts = _texts(cells) | _texts(named)
    catalogue = assets.catalogue().values()
    return sorted(s.name for s in catalogue if texts & {s.name, *s.provides})


def _texts(trees: list) -> set:
    """The constants that stand in the trees."""
    nodes = (node for tree in trees for node in ast.walk(tree))
    return {node.value for node in nodes if isinstance(node, ast.Constant)}

"""Find the names that a source takes from TensorRT's Python module.

Nothing of TensorRT is imported: the source is read with ``ast``. What an expression stands for is
told by names, as the house uses them: ``trt`` is the module, and a table names the variables that
hold its objects. What a function itself says of a variable counts more: an import, an annotation,
a class or a new object assigned. What functions return is not followed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MODULES = {"tensorrt", "tensorrt_rtx"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MAY_BE_MISSING = {("hasattr", 2), ("getattr", 3)}
"""Functions, with their number of arguments, that ask for a name and bear its absence."""
COMPUTED = "?"  # a name made at run time, which no version has

Path = tuple[str, ...]
"""Names below the module: ``()`` is the module, ``("Logger",)`` the class or an object of it."""
Stands = Mapping[str, Path | None]
"""What variables stand for; None is something else than TensorRT."""


@dataclass(frozen=True)
class Use:
    """One mention of a name, such as ``BuilderFlag.TF32``."""

    name: str
    line: int
    guards: frozenset[str]
    """Names that the same function asks for with ``hasattr``, or ``getattr`` with a default."""


def uses(source: str, objects: Mapping[str, str]) -> list[Use]:
    """What a source uses of TensorRT; nothing where the module itself is never mentioned.

    Args:
        source: Python.
        objects: variable -> class; also of fields so called, and with leading underscores.
    """
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    if not any(_imported(node) or _path(node, {}) is not None for node in nodes):
        return []
    stands: dict[str, Path | None] = {}
    for name, cls in objects.items():
        stands[name] = stands[f".{name}"] = (cls,)
    for node in nodes:  # a field that one method sets is read in others
        bound = _bound(node, stands).items()
        stands |= {name: path for name, path in bound if name.startswith(".")}
    return sorted(_walk(tree, stands, frozenset()), key=lambda use: (use.line, use.name))


def _variable(node: ast.AST) -> str:
    """A variable's name without leading underscores, a field's with a dot; or the empty word."""
    match node:
        case ast.Name(id=name) | ast.arg(arg=name):
            return name.lstrip("_")
        case ast.Attribute(attr=name):
            return f".{name.lstrip('_')}"
    return ""


def _path(node: ast.AST | None, stands: Stands) -> Path | None:
    """What an expression or an annotation stands for; None if it is not of TensorRT."""
    match node:
        case ast.Name(id="trt" | "_trt") | ast.Attribute(attr="trt" | "_trt"):
            return ()
        case ast.Name():
            return stands.get(_variable(node))
        case ast.Attribute(value=owner, attr=name):
            path = _path(owner, stands)
            return stands.get(_variable(node)) if path is None else (*path, name)
        case ast.Call(func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[owner, name, *_]):
            path = _path(owner, stands)
            word = str(name.value) if isinstance(name, ast.Constant) else COMPUTED
            return None if path is None else (*path, word)
        case ast.Call(func=function):  # a new object; what functions return is unknown
            path = _path(function, stands)
            return path if path and len(path) == 1 and path[0][0].isupper() else None
        case ast.BinOp(left=left, op=ast.BitOr()):  # trt.ICudaEngine | None
            return _path(left, stands)
    return None


def _imported(node: ast.AST) -> dict[str, Path]:
    """What an import brings from TensorRT."""
    names: dict[str, str] = {}
    match node:
        case ast.Import(names=aliases):
            names = {a.asname: a.name for a in aliases if a.asname}
            names |= {(top := a.name.split(".")[0]): top for a in aliases if not a.asname}
        case ast.ImportFrom(module=str(module), names=aliases, level=0):
            names = {a.asname or a.name: f"{module}.{a.name}" for a in aliases}
    split = {name: full.split(".") for name, full in names.items()}
    return {name: tuple(below) for name, (top, *below) in split.items() if top in MODULES}


def _bound(node: ast.AST, stands: Stands) -> dict[str, Path | None]:
    """The variables of which an import, an assignment or a parameter tells what they are."""
    match node:
        case ast.Assign(targets=[target], value=value) | ast.NamedExpr(target=target, value=value):
            told = isinstance(value, ast.Call) and _last(value.func)[:1].isupper()
        case ast.AnnAssign(target=target, annotation=value):
            told = _last(value) != "Any"
        case ast.arg(annotation=value):
            target, told = node, value is not None and _last(value) != "Any"
        case _:
            return {name.lstrip("_"): path for name, path in _imported(node).items()}
    path, name = _path(value, stands), _variable(target)
    return {name: path} if name and (told or path is not None) else {}


def _last(node: ast.AST) -> str:
    """The last word of a dotted name, or of the first of ``X | None``."""
    return ast.unparse(node).partition(" |")[0].rpartition(".")[2].lstrip("_")


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module or a function, without those of functions inside."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, FUNCTIONS):
            yield from _own(child)


def _walk(node: ast.AST, stands: Stands, guards: frozenset[str]) -> Iterator[Use]:
    if isinstance(node, (ast.Module, *FUNCTIONS)):
        stands = dict(stands)
        for inner in _own(node):
            stands |= _bound(inner, stands)
    if isinstance(node, FUNCTIONS):
        calls = [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]
        asked = [c for c in calls if (ast.unparse(c.func), len(c.args)) in MAY_BE_MISSING]
        guards |= {".".join(path) for path in (_path(call, stands) for call in asked) if path}
    paths: list[Path | None] = list(_imported(node).values())
    match node:
        case ast.Attribute():
            paths = [_path(node, stands)]
            while isinstance(node.value, ast.Attribute):  # the longest chain says it all
                node = node.value
        case ast.Call(func=ast.Name(id="getattr" | "hasattr" | "setattr")):
            paths = [_path(node, stands)]
    yield from (Use(".".join(path), node.lineno, guards) for path in paths if path)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, stands, guards)

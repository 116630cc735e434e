"""Functions of other projects, taken out of their wheels and run by themselves.

The wheels lie in .cache/writers (`make log-writers`). Importing such a package would need its trainer's whole environment; the
functions that write its log need a handful of names, which the tests hand in.
"""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.absent import absent

FOLDER = Path(__file__).parents[2] / ".cache" / "writers"


def definitions(wheel: str, module: str, names: Sequence[str], given: dict[str, Any]) -> dict[str, Any]:
    """The module's own functions and classes ("Class.method" for one method), run with ``given`` as their only other names.

    Skips the test where the wheel is not there; fails it in CI, where a skip would be a hole nobody sees.
    """
    scope = dict(given)
    tree = ast.parse(_source(wheel, module))
    body: list[ast.stmt] = [_undecorated(_find(tree, name), name) for name in names]
    code = compile(ast.Module(body, []), f"{wheel}/{module}", "exec", flags=annotations.compiler_flag)
    exec(code, scope)  # that of the pinned wheel
    return {name: scope[name.rpartition(".")[2]] for name in names}


def _source(wheel: str, module: str) -> str:
    name, version = wheel.split("==")
    path = next(FOLDER.glob(f"{name.replace('-', '_')}-{version}-*.whl"), None)
    if path is None:
        absent(f"the wheel {wheel} is not in .cache/writers: `make log-writers` downloads it")
    with zipfile.ZipFile(path) as archive:
        return archive.read(module).decode()


def _find(tree: ast.Module, name: str) -> ast.FunctionDef | ast.ClassDef:
    inside: Sequence[ast.stmt] = tree.body
    node: ast.stmt | None = None
    for part in name.split("."):
        node = next((n for n in inside if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part), None)
        assert isinstance(node, ast.FunctionDef | ast.ClassDef), f"{name} is no longer there: the pinned wheel changed?"
        inside = node.body
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    return node


def _undecorated(node: ast.FunctionDef | ast.ClassDef, name: str) -> ast.FunctionDef | ast.ClassDef:
    """A method without staticmethod, to be called by itself; classes keep their decorators."""
    if "." in name:
        node.decorator_list = []
    return node

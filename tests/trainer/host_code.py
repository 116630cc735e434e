"""Other trainers' own modules, imported from their wheels or source trees without what they require.

A wheel is put on the import path as the archive that it is. Packages that are not installed here, and those whose import would cost
seconds or a GPU, are replaced by empty ones, whose attributes are empty classes. Everything is undone afterwards.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.metadata
import sys
import types
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.absent import absent

CACHE = Path(__file__).parents[2] / ".cache"


class _Anything(type):
    """A class that has every attribute, takes every index, and wraps nothing: good for annotations, bases and decorators."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})

    def __getitem__(cls, _: Any) -> Any:
        return cls

    def __or__(cls, _: Any) -> Any:
        return cls

    __ror__ = __or__


class _Empty(types.ModuleType):
    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds empty packages in the place of these."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        names = {fullname[:end] for end in (*(i for i, c in enumerate(fullname) if c == "."), len(fullname))}
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if names & set(self._names) else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def wheel(name: str, inside: str = "") -> str:
    """An entry of the import path; skips the test where the wheel is not there, fails it in CI."""
    found = next((CACHE / "writers").glob(f"{name}-*.whl"), None)
    if found is None:
        absent(f"the wheel of {name} is not in .cache/writers: `make log-writers` downloads it")
    return f"{found}/{inside}" if inside else str(found)


@contextmanager
def importable(entry: str, package: str, version: str, without: Collection[str]) -> Iterator[None]:
    """``package`` can be imported from this entry and says that it is of this version; ``without`` become empty packages."""
    before, path, finders, real = dict(sys.modules), list(sys.path), list(sys.meta_path), importlib.metadata.version
    hidden = {name for name in before if name.partition(".")[0] in {*without, package}}
    importlib.metadata.version = lambda name: version if name.replace("-", "_") == package else real(name)  # type: ignore[assignment]
    sys.path.insert(0, entry)
    sys.meta_path.insert(0, _Replaced(without))
    for name in hidden:
        del sys.modules[name]
    try:
        yield
    finally:
        importlib.metadata.version = real
        sys.path[:], sys.meta_path[:] = path, finders
        for name in [name for name in sys.modules if name not in before or name in hidden]:
            ours = name == f"trainer.integrations.{package}"
            if ours or name in hidden or isinstance(sys.modules[name], _Empty) or name.partition(".")[0] == package:
                del sys.modules[name]
        sys.modules.update({name: before[name] for name in hidden})

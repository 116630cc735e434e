"""Tasks: one file each, registered under the file's name and imported only when a recipe asks for it.

A task is a frozen dataclass of settings with ``build(seed) -> (training prompts, held-out prompts)``; its fields are the keys of
the recipe's ``task``. Adding one: a file here with ``@register("its_name")``, or ``name: package.module:Class`` in the recipe.
"""

from __future__ import annotations

import importlib
import pkgutil
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from curricula.types import CurriculaError, known_or_raise
from rollout.prompts import Task

_REGISTERED: dict[str, type] = {}
T = TypeVar("T", bound=type)


def register(name: str) -> Callable[[T], T]:
    """Class decorator: makes a frozen dataclass known as the task of its file."""

    def put(task: T) -> T:
        _REGISTERED[name] = task
        return task

    return put


def known_tasks() -> tuple[str, ...]:
    """Names of the shipped tasks; imports none of them."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def build_task(spec: Mapping[str, Any]) -> Task:
    """The task of a recipe: ``{"name": "prompt_file", "train": "train.jsonl", ...}``.

    Errors: CurriculaError for an unknown name, an unknown or missing key, a value of the wrong type.
    """
    given = dict(spec)
    name = given.pop("name", None)
    if not isinstance(name, str):
        raise CurriculaError(f"task: expected a key 'name', got {sorted(given)}; known: {', '.join(known_tasks())}")
    return _built(f"task {name!r}", find_task(name), given)  # type: ignore[no-any-return]


def find_task(name: str) -> type:
    """The class behind a task's name; imports ``package.module:Class``."""
    if ":" in name:
        return _outside(name)
    known_or_raise("task", name, known_tasks())
    importlib.import_module(f"{__name__}.{name}")
    if name not in _REGISTERED:
        raise CurriculaError(f"task {name!r}: its file registers no class of that name; decorate one with @register({name!r})")
    return _REGISTERED[name]


def _outside(name: str) -> type:
    module, _, attribute = name.partition(":")
    try:
        task = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise CurriculaError(f"task {name!r}: cannot be imported ({error}); write package.module:Class") from error
    if not (isinstance(task, type) and is_dataclass(task) and hasattr(task, "build")):
        raise CurriculaError(f"task {name!r}: expected a dataclass with a method 'build', got {task!r}")
    return task


def _built(where: str, kind: type, given: Mapping[str, Any]) -> Any:
    hints, known = get_type_hints(kind), {f.name: f for f in fields(kind)}
    for key in given:
        known_or_raise(f"key of {where}:", key, tuple(known))
    missing = [name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING and name not in given]
    if missing:
        raise CurriculaError(f"{where}: missing key(s) {', '.join(missing)}")
    return kind(**{key: _fitted(f"{where}, {key}", hints[key], value) for key, value in given.items()})


def _fitted(where: str, kind: Any, value: Any) -> Any:
    """The value as its field declares it: lists become tuples, mappings (or the text of their first field) become dataclasses."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _fitted(where, next((one for one in inner if _plausible(one, value)), inner[0]), value)
    if is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else _built(where, kind, _as_mapping(where, kind, value))
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_fitted(f"{where}[{i}]", inner[0], item) for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _fitted(f"{where}.{key}", inner[1], item) for key, item in value.items()}
    if origin is Literal:
        known_or_raise(f"value of {where}:", str(value), inner)
        return value
    if kind is not Any and not _plausible(kind, value):
        raise CurriculaError(f"{where}: expected {_words(kind)}, got {value!r}")
    return float(value) if kind is float else value


def _as_mapping(where: str, kind: type, value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        return {fields(kind)[0].name: value}
    if not isinstance(value, Mapping):
        raise CurriculaError(f"{where}: expected a mapping with the keys {', '.join(f.name for f in fields(kind))}, got {value!r}")
    return value


def _plausible(kind: Any, value: Any) -> bool:
    plain = get_origin(kind) or kind
    if isinstance(value, bool):
        return plain in (bool, Any)
    return plain is Any or isinstance(value, (int, float) if plain is float else plain)


def _words(kind: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping", tuple: "a list"}.get(
        get_origin(kind) or kind, str(kind)
    )

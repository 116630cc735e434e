"""Parts of a recipe that live one per file: registered under the file's name, imported only when a recipe asks for them.

The fields of a part's dataclass are its keys in the recipe; lists become tuples, mappings become the dataclasses that are declared.
"""

from __future__ import annotations

import importlib
import pkgutil
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from curricula.types import CurriculaError, known_or_raise

T = TypeVar("T", bound=type)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The parts of one kind."""

    word: str  # what one of them is called in messages
    package: str  # the folder with their files, as a module
    verb: str  # the method that each of them has
    _registered: dict[str, type] = field(default_factory=dict)

    def register(self, name: str) -> Callable[[T], T]:
        """Class decorator: makes a frozen dataclass known as the part of its file."""

        def put(part: T) -> T:
            self._registered[name] = part
            return part

        return put

    def known(self) -> tuple[str, ...]:
        """Names of the shipped parts; imports none of them."""
        folder = Path(str(importlib.import_module(self.package).__file__)).parent
        return tuple(sorted(module.name for module in pkgutil.iter_modules([str(folder)])))

    def build(self, spec: Mapping[str, Any]) -> Any:
        """The part of a recipe: ``{"name": "prompt_file", "train": "train.jsonl", ...}``.

        Errors: CurriculaError for an unknown name, an unknown or missing key, a value of the wrong type.
        """
        given = dict(spec)
        name = given.pop("name", None)
        if not isinstance(name, str):
            raise CurriculaError(f"{self.word}: expected a key 'name', got {sorted(given)}; known: {', '.join(self.known())}")
        return _built(f"{self.word} {name!r}", self.find(name), given)

    def find(self, name: str) -> type:
        """The class behind a name; imports ``package.module:Class``."""
        if ":" in name:
            return self._outside(name)
        known_or_raise(self.word, name, self.known())
        importlib.import_module(f"{self.package}.{name}")
        if name not in self._registered:
            raise CurriculaError(
                f"{self.word} {name!r}: its file registers no class of that name; decorate one with @register({name!r})"
            )
        return self._registered[name]

    def _outside(self, name: str) -> type:
        module, _, attribute = name.partition(":")
        try:
            part = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise CurriculaError(f"{self.word} {name!r}: cannot be imported ({error}); write package.module:Class") from error
        if not (isinstance(part, type) and is_dataclass(part) and hasattr(part, self.verb)):
            raise CurriculaError(f"{self.word} {name!r}: expected a dataclass with a method {self.verb!r}, got {part!r}")
        return part


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

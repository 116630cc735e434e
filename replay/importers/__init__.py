"""Logs of other trainers as a LoggedRun: one format per file, registered under the file's name.

A format is a frozen dataclass whose fields are its settings, with `detect(path)`, which looks at the first row or the schema, and
`read(path)`. Adding one: a file here with ``@register("its_name")``; no list is edited. A path may be a folder: its JSONL or
Parquet files are read in the order of the numbers in their names.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from curricula.types import CurriculaError, known_or_raise
from replay.types import LoggedRun

_REGISTERED: dict[str, Any] = {}
F = TypeVar("F", bound=type)


class Importer(Protocol):
    """One format of a log."""

    looks_for: ClassVar[str]  # what `detect` goes by, for messages

    def detect(self, path: Path) -> bool:
        """Whether the first row (or schema) is of this format; cheap. Errors: CurriculaError where nothing can be read."""
        ...

    def read(self, path: Path) -> LoggedRun:
        """The whole log. Errors: CurriculaError naming file, line, field, what was expected and what came."""
        ...


def register(name: str) -> Callable[[F], F]:
    """Class decorator: makes a frozen dataclass known as the format of its file."""

    def put(importer: F) -> F:
        _REGISTERED[name] = importer
        return importer

    return put


def known_formats() -> tuple[str, ...]:
    """Names of the formats, sorted."""
    _import_folder()
    return tuple(sorted(_REGISTERED))


def read(path: str | Path, format: str | Mapping[str, Any] | None = None) -> LoggedRun:
    """The log at ``path``, which may be a folder; the format is detected where it is not given.

    ``format`` is a name or a mapping of the name and its settings: ``{"name": "verl", "reward_range": [-1, 1]}``. A mapping without
    a name holds the column names of the format ``mapping``: ``{"prompt": "question", "reward": "score"}``.
    Errors: CurriculaError where no format fits, where several do, and for every row that does not fit.
    """
    path = Path(path)
    return (_detected(path) if format is None else build(format)).read(path)


def build(spec: str | Mapping[str, Any]) -> Importer:
    """The importer that a name, or a mapping of name and settings, stands for."""
    if not isinstance(spec, str | Mapping):
        raise CurriculaError(f"log format: expected a name, or a mapping of name and settings, got {spec!r}")
    given = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = given.pop("name", "mapping")
    known_or_raise("log format", str(name), known_formats())
    kind = _REGISTERED[name]
    for key in given:
        known_or_raise(f"key of log format {name!r}:", str(key), tuple(f.name for f in fields(kind)))
    built: Importer = kind(**given)
    return built


def _detected(path: Path) -> Importer:
    fitting, unread = [], None
    for name in known_formats():
        try:
            fitting += [name] * build(name).detect(path)
        except CurriculaError as error:  # a folder that one format cannot read may be laid out as another writes it
            unread = unread or error
    if len(fitting) == 1:
        return build(fitting[0])
    if unread and not fitting:
        raise unread
    looks = "; ".join(f"{name}: {_REGISTERED[name].looks_for}" for name in known_formats())
    said = f"several log formats fit ({', '.join(fitting)})" if fitting else "no known log format fits its first row"
    raise CurriculaError(f"{path}: {said}; name one, or name its columns with the format mapping. Known: {looks}")


@cache
def _import_folder() -> None:
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")

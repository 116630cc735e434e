"""The YAML that recipes are written in: one document of plain values, read top to bottom.

YAML 1.2 scalars (so that 1e-6 is a number and ``no`` is text), keys that are text and appear once, no aliases, no tags, bounded
depth and size. Everything that loads is what JSON can hold, and dumps back to a text that loads equal.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from curricula.types import CurriculaError

MAX_BYTES = 1 << 20
MAX_DEPTH = 24

_SCALARS = [
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")),
    (
        "float",
        re.compile(
            r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
        ),
        list("-+.0123456789"),
    ),
]


def load(text: str, where: str) -> Any:
    """The value of a YAML text; ``where`` names it in errors."""
    if len(text) > MAX_BYTES:
        raise CurriculaError(f"{where}: {len(text)} characters are too many for a recipe; expected at most {MAX_BYTES}")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number of absurd length
        raise CurriculaError(f"{where}: {_one_line(error)}") from error
    finally:
        loader.dispose()


def load_file(path: Path) -> Any:
    """The value of a YAML file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CurriculaError(f"{path}: cannot be read ({error.strerror}); expected a recipe file (YAML)") from error
    except UnicodeDecodeError as error:
        got = f"byte {error.object[error.start]:#x} at {error.start}"
        raise CurriculaError(f"{path}: expected a text in UTF-8, got {got}") from error
    return load(text, str(path))


def dump(value: Any) -> str:
    """Block style, keys in the order they have."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, narrowed."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._refuse(self.peek_event())  # type: ignore[no-untyped-call]
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _refuse(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            raise _refusal(f"alias *{event.anchor} is not allowed; write the value out", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _refusal(f"tag {event.tag} is not allowed; write a plain value", event.start_mark)
        if self.depth >= MAX_DEPTH:
            raise _refusal(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            mark = key_node.start_mark
            if not isinstance(key, str):
                raise _refusal(f"key {key!r} is not text; put it in quotes", mark)
            if key in lines:
                raise _refusal(f"duplicate key {key!r} (first on line {lines[key]}); remove one of the two", mark)
            lines[key] = mark.line + 1
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """The safe dumper with the same scalars, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _same_scalars(*classes: Any) -> None:
    for cls in classes:
        cls.yaml_implicit_resolvers = {}
        for name, pattern, first in _SCALARS:
            cls.add_implicit_resolver(f"tag:yaml.org,2002:{name}", pattern, first)


_same_scalars(_Loader, _Dumper)


def _refusal(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = " ".join(filter(None, (getattr(error, "context", ""), getattr(error, "problem", "")))) or str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else " ".join(problem.split())

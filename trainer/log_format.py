"""The format of a log, as a word of a command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curricula.types import CurriculaError
from trainer import strict_yaml


def format_of(text: str | None) -> str | Mapping[str, Any] | None:
    """A log format from the command line: a name, or a YAML mapping with the format's settings.

    >>> format_of("verl"), format_of("{name: verl, reward_range: [-1, 1]}")
    ('verl', {'name': 'verl', 'reward_range': [-1, 1]})
    """
    if text is None or "{" not in text:
        return text
    value = strict_yaml.load(text, "--format")
    if not isinstance(value, Mapping):
        raise CurriculaError(f"--format {text}: expected a name or a mapping such as {{name: verl, reward_range: [-1, 1]}}")
    return value

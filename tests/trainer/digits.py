"""A reward that differs inside groups of a random model, in a module that imports nothing: each verifier process loads it."""

from __future__ import annotations

from typing import Any


def share_of_digits(completion: str, answer: Any, extra: dict[str, Any]) -> float:
    return sum(character.isdigit() for character in completion) / max(len(completion), 1)

"""A value that stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from curricula.registry import register
from curricula.stages import Stateless


@register("pacing", "constant")
@dataclass(frozen=True)
class Constant(Stateless):
    """Always the same value. Ours.

    >>> Constant(at=0.5).value(())
    0.5
    """

    at: float = 1.0

    def value(self, state: Any) -> float:
        return self.at

"""From one value to another."""

from __future__ import annotations

from dataclasses import dataclass

from curricula.paced import Clock, Clocked, share_done
from curricula.registry import register
from curricula.types import CurriculaError


@register("pacing", "linear")
@dataclass(frozen=True)
class Linear(Clocked):
    """first + (last - first) x min(1, n / steps), n the steps learned from. Ours; D3S (arXiv 2509.22115) relaxes its shares so.

    >>> import numpy as np
    >>> Linear(first=32, last=128, steps=100).value(Clock(np.array(50)))
    80.0
    """

    first: float = 1.0
    last: float = 0.0
    steps: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise CurriculaError(f"linear.steps: expected >= 1, got {self.steps}")

    def value(self, state: Clock) -> float:
        return self.first + (self.last - self.first) * share_done(state, self.steps)

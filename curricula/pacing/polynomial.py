"""From one value to another along a power."""

from __future__ import annotations

from dataclasses import dataclass

from curricula.paced import Clock, Clocked, share_done
from curricula.registry import register
from curricula.types import CurriculaError


@register("pacing", "polynomial")
@dataclass(frozen=True)
class Polynomial(Clocked):
    """first + (last - first) x min(1, n / steps)^power, n the steps learned from. Ours.

    A power below 1 moves fast at first, one above 1 late. E2H's Gaussian mean (arXiv 2506.06632) moves with power 1/2.

    >>> import numpy as np
    >>> Polynomial(first=0.0, last=1.0, steps=100, power=0.5).value(Clock(np.array(25)))
    0.5
    """

    first: float = 1.0
    last: float = 0.0
    steps: int = 100
    power: float = 2.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise CurriculaError(f"polynomial.steps: expected >= 1, got {self.steps}")
        if not 0 < self.power < float("inf"):
            raise CurriculaError(f"polynomial.power: expected a finite number above 0, got {self.power}")

    def value(self, state: Clock) -> float:
        return float(self.first + (self.last - self.first) * share_done(state, self.steps) ** self.power)

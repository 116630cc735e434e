"""Multiplied by a factor from time to time."""

from __future__ import annotations

from dataclasses import dataclass

from curricula.paced import Clock, Clocked
from curricula.registry import register
from curricula.types import CurriculaError


@register("pacing", "exponential_steps")
@dataclass(frozen=True)
class ExponentialSteps(Clocked):
    """first x factor^floor(n / every), never below ``least``, n the steps learned from. Train Long, Think Short, arXiv 2508.08940.

    The paper's token budget: first 256, factor 0.7, least 1.

    >>> import numpy as np
    >>> ExponentialSteps(first=256, factor=0.7, every=150).value(Clock(np.array(150))).__round__(6)
    179.2
    """

    first: float = 1.0
    factor: float = 0.7
    every: int = 100
    least: float = 0.0

    def __post_init__(self) -> None:
        if self.every < 1:
            raise CurriculaError(f"exponential_steps.every: expected >= 1, got {self.every}")
        if not 0 < self.factor <= 1:
            raise CurriculaError(f"exponential_steps.factor: expected above 0 and at most 1, got {self.factor}")

    def value(self, state: Clock) -> float:
        return max(self.first * self.factor ** (int(state.n_steps) // self.every), self.least)

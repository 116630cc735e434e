"""From one value to another along half a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from curricula.paced import Clock, Clocked, share_done
from curricula.registry import register
from curricula.types import CurriculaError


@register("pacing", "cosine")
@dataclass(frozen=True)
class Cosine(Clocked):
    """last + (first - last) x (1 + cos(pi min(1, n / steps))) / 2, n the steps learned from. Ours; E2H (arXiv 2506.06632) fades so.

    >>> import numpy as np
    >>> Cosine(first=1.0, last=0.0, steps=100).value(Clock(np.array(25)))
    0.8535533905932737
    """

    first: float = 1.0
    last: float = 0.0
    steps: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise CurriculaError(f"cosine.steps: expected >= 1, got {self.steps}")

    def value(self, state: Clock) -> float:
        return self.last + (self.first - self.last) * (1 + math.cos(math.pi * share_done(state, self.steps))) / 2

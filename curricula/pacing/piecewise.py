"""One value per stage of a run."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from curricula.paced import Clock, Clocked
from curricula.registry import register
from curricula.types import CurriculaError


@register("pacing", "piecewise")
@dataclass(frozen=True)
class Piecewise(Clocked):
    """``values[i]`` from step ``steps[i - 1]`` on, counted in steps learned from. Ours; POLARIS trains in such stages.

    POLARIS' temperatures are 1.40, 1.45 and 1.50, its completion limits 39936, 48128 and 52224 tokens; how long each stage
    lasts is yours to say.

    >>> import numpy as np
    >>> stages = Piecewise(steps=(100, 200), values=(1.4, 1.45, 1.5))
    >>> [stages.value(Clock(np.array(n))) for n in (0, 99, 100, 200)]
    [1.4, 1.4, 1.45, 1.5]
    """

    steps: tuple[int, ...] = (100,)
    values: tuple[float, ...] = (1.0, 0.0)

    def __post_init__(self) -> None:
        if len(self.values) != len(self.steps) + 1:
            raise CurriculaError(
                f"piecewise: expected one value more than steps, got {len(self.steps)} steps and {len(self.values)} values"
            )
        if any(later <= step for step, later in pairwise((0, *self.steps))):
            raise CurriculaError(f"piecewise.steps: expected rising numbers above 0, got {self.steps}")

    def value(self, state: Clock) -> float:
        return self.values[bisect_right(self.steps, int(state.n_steps))]

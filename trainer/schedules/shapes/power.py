"""A power of what was consumed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from curricula.types import CurriculaError
from trainer.schedules.progress import Progress
from trainer.schedules.shape import register, require_positive


@register("power")
@dataclass(frozen=True)
class Power:
    """min(1, (u / reference)^exponent) with a negative exponent. The form of arXiv 2408.13359, whose rate is B a n^b of n tokens.

    The paper's constants (a = 4.6, b = -0.51, for muP models in pre-training) mean nothing for RL, so the peak is given and
    ``reference`` says from where on the rate falls. Needs no horizon.
    """

    reference: float = 100.0  # units
    exponent: float = -0.51

    def __post_init__(self) -> None:
        require_positive("reference", self.reference, "a number of units above 0")
        if not -math.inf < self.exponent <= 0:
            raise CurriculaError(f"schedule.exponent: expected a finite number <= 0, got {self.exponent}")

    def multiplier(self, progress: Progress) -> float:
        return float(max(progress.done / self.reference, 1.0) ** self.exponent)

"""A schedule without an end."""

from __future__ import annotations

import math
from dataclasses import dataclass

from curricula.types import CurriculaError
from trainer.schedules.cool_downs import COOL_DOWNS
from trainer.schedules.progress import Progress, share_of
from trainer.schedules.shape import register, require_positive, require_share


@register("infinite")
@dataclass(frozen=True)
class Infinite:
    """Peak, cosine cool-down to a constant that lasts, and a geometric anneal when it is time. arXiv 2403.08763, 2503.02844.

    The anneal begins at ``anneal_from`` (0 = never) and takes ``anneal`` units down to ``floor``. Nothing is warmed
    again, which makes a model forget. Only the anneal needs to know when the run ends.
    """

    cool_down: float = 400.0  # units after the warm-up
    constant: float = 0.125  # of the peak
    anneal_from: float = 0.0  # units from the run's start; 0 = never
    anneal: float = 200.0  # units
    floor: float = 0.01

    def __post_init__(self) -> None:
        require_positive("cool_down", self.cool_down, "a number of units above 0")
        require_positive("anneal", self.anneal, "a number of units above 0")
        require_share("constant", self.constant)
        require_share("floor", self.floor)
        if not 0 < self.floor <= self.constant:
            raise CurriculaError(f"schedule.floor: expected above 0 and at most constant = {self.constant}, got {self.floor}")
        if not 0 <= self.anneal_from < math.inf:
            raise CurriculaError(f"schedule.anneal_from: expected units >= 0, got {self.anneal_from}")

    def multiplier(self, progress: Progress) -> float:
        cooled = COOL_DOWNS["cosine"](share_of(progress.since_warmup, 0.0, self.cool_down), self.constant)
        if not self.anneal_from:
            return cooled
        annealed = share_of(progress.done, self.anneal_from, self.anneal_from + self.anneal)
        return float(cooled * (self.floor / self.constant) ** annealed)

"""One over a square root."""

from __future__ import annotations

import math
from dataclasses import dataclass

from curricula.types import CurriculaError
from trainer.schedules.progress import Progress
from trainer.schedules.shape import register


@register("inverse_sqrt")
@dataclass(frozen=True)
class InverseSqrt:
    """sqrt(s / (u - W + s)) with time scale s; s = W, the default, makes it sqrt(W / u). Needs no horizon. arXiv 1706.03762.

    Without warm-up a time scale has to be given.
    """

    timescale: float = 0.0  # units; 0 = the warm-up

    def __post_init__(self) -> None:
        if not 0 <= self.timescale < math.inf:
            raise CurriculaError(f"schedule.timescale: expected a finite number of units >= 0, got {self.timescale}")

    def multiplier(self, progress: Progress) -> float:
        scale = self.timescale or progress.warmup
        if scale <= 0:
            raise CurriculaError("schedule.timescale: without warm-up inverse_sqrt needs one; give timescale: 100, for example")
        return math.sqrt(scale / (progress.since_warmup + scale))

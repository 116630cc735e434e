"""No decay."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.schedules.progress import Progress
from trainer.schedules.shape import register


@register("constant")
@dataclass(frozen=True)
class Constant:
    """1. Needs no horizon; never annealed, so average checkpoints, or start a decay when the run is to end."""

    def multiplier(self, progress: Progress) -> float:
        return 1.0

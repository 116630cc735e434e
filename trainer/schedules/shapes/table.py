"""Any curve, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curricula.types import CurriculaError
from trainer.schedules.progress import Progress
from trainer.schedules.shape import register


@register("table")
@dataclass(frozen=True)
class Table:
    """Multipliers at even distances over the run after the warm-up, straight lines between them.

    What a refined schedule (arXiv 2310.07831, `trainer.schedules.refine.refined`) is kept as: another horizon stretches it.
    """

    multipliers: tuple[float, ...] = (1.0, 0.0)

    def __post_init__(self) -> None:
        if len(self.multipliers) < 2 or not all(0 <= m <= 1 for m in self.multipliers):
            raise CurriculaError(f"schedule.multipliers: expected two or more numbers in [0, 1], got {list(self.multipliers)[:8]}")

    def multiplier(self, progress: Progress) -> float:
        return float(np.interp(progress.share, np.linspace(0.0, 1.0, len(self.multipliers)), self.multipliers))

"""A factor every so often."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.schedules.progress import Progress
from trainer.schedules.shape import register, require_positive, require_share


@register("step")
@dataclass(frozen=True)
class Step:
    """factor^floor((u - W) / every); as torch's StepLR after the warm-up."""

    every: float  # units
    factor: float = 0.5

    def __post_init__(self) -> None:
        require_positive("every", self.every, "a number of units above 0")
        require_share("factor", self.factor)

    def multiplier(self, progress: Progress) -> float:
        return float(self.factor ** (progress.since_warmup // self.every))

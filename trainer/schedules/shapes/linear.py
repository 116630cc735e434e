"""A straight line."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.schedules.progress import Progress
from trainer.schedules.shape import above, register, require_share


@register("linear")
@dataclass(frozen=True)
class Linear:
    """f + (1 - f)(1 - z); to zero (f = 0) is the recommendation of arXiv 2502.15938 (D2Z), and TRL's default."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        require_share("floor", self.floor)

    def multiplier(self, progress: Progress) -> float:
        return above(self.floor, 1 - progress.share)

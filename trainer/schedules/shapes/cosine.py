"""Half a cosine."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.schedules.cool_downs import COOL_DOWNS
from trainer.schedules.progress import Progress
from trainer.schedules.shape import register, require_share


@register("cosine")
@dataclass(frozen=True)
class Cosine:
    """f + (1 - f)(1 + cos(pi z)) / 2, arXiv 1608.03983."""

    floor: float = 0.1

    def __post_init__(self) -> None:
        require_share("floor", self.floor)

    def multiplier(self, progress: Progress) -> float:
        return COOL_DOWNS["cosine"](progress.share, self.floor)

"""Above the line."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.schedules.progress import Progress
from trainer.schedules.shape import above, register, require_share


@register("rex")
@dataclass(frozen=True)
class Rex:
    """f + (1 - f) 2 (1 - z) / (2 - z): above linear until the end. REX, arXiv 2107.04197."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        require_share("floor", self.floor)

    def multiplier(self, progress: Progress) -> float:
        return above(self.floor, 2 * (1 - progress.share) / (2 - progress.share))

"""Up, and all the way down."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.schedules.cool_downs import COOL_DOWNS
from trainer.schedules.progress import Progress
from trainer.schedules.shape import register, require_positive, require_share


@register("one_cycle")
@dataclass(frozen=True)
class OneCycle:
    """From start to peak over a share ``rise`` of the run, then to ``floor``, both along half a cosine. arXiv 1708.07120.

    As torch's OneCycleLR with div_factor = 1 / start and two phases. It has its own rise, so give it no warm-up.
    """

    rise: float = 0.3  # of the run after the warm-up
    start: float = 0.04
    floor: float = 4e-6

    def __post_init__(self) -> None:
        require_share("rise", self.rise)
        require_positive("rise", self.rise)
        require_share("start", self.start)
        require_share("floor", self.floor)

    def multiplier(self, progress: Progress) -> float:
        z = progress.share
        if z < self.rise:
            return COOL_DOWNS["cosine"](1 - z / self.rise, self.start)
        return COOL_DOWNS["cosine"]((z - self.rise) / (1 - self.rise) if self.rise < 1 else 0.0, self.floor)

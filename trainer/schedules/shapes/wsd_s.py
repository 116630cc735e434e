"""Several decays, each run on from its own end."""

from __future__ import annotations

from dataclasses import dataclass

from curricula.types import CurriculaError
from trainer.schedules.cool_downs import COOL_DOWNS
from trainer.schedules.progress import Progress, share_of, units
from trainer.schedules.shape import register, require_share


@register("wsd_s")
@dataclass(frozen=True)
class CycledDecay:
    """Cycles of full rate that each end with a decay; the next goes on from the decayed weights. WSD-S, arXiv 2410.05192.

    ``ends`` are the cycles' ends in units (below 1 a share of the horizon), the horizon is the last one's. Each decay takes
    ``decay`` of its cycle's units (1 or more: that many) and is linear in 1 / rate. A cycle ends with the floor; the next unit has
    the full rate again.
    """

    ends: tuple[float, ...] = ()
    decay: float = 0.1
    floor: float = 0.1

    def __post_init__(self) -> None:
        require_share("floor", self.floor)
        if self.floor <= 0:
            raise CurriculaError("schedule.floor: expected above 0, a decay that is linear in 1 / rate never reaches 0")
        if self.decay <= 0:
            raise CurriculaError(f"schedule.decay: expected units above 0, or a share of the cycle below 1; got {self.decay}")
        if any(end <= 0 for end in self.ends):
            raise CurriculaError(f"schedule.ends: expected numbers above 0, got {list(self.ends)}")

    def multiplier(self, progress: Progress) -> float:
        ends = sorted({*(units(end, progress.horizon) for end in self.ends), progress.horizon})
        end = next((end for end in ends if progress.done <= end), ends[-1])
        start = max((before for before in ends if before < end), default=progress.warmup)
        begin = max(end - units(self.decay, end - start), start)
        return COOL_DOWNS["inverse"](share_of(progress.done, begin, end), self.floor)

"""A factor at each milestone."""

from __future__ import annotations

from dataclasses import dataclass

from curricula.types import CurriculaError
from trainer.schedules.progress import Progress, units
from trainer.schedules.shape import register, require_share


@register("multistep")
@dataclass(frozen=True)
class MultiStep:
    """factor^(milestones passed); as torch's MultiStepLR. Milestones are units from the start, below 1 a share of the horizon."""

    milestones: tuple[float, ...] = (0.3, 0.6, 0.9)
    factor: float = 0.1

    def __post_init__(self) -> None:
        require_share("factor", self.factor)
        if not self.milestones or any(milestone <= 0 for milestone in self.milestones):
            raise CurriculaError(f"schedule.milestones: expected numbers above 0, got {list(self.milestones)}")

    def multiplier(self, progress: Progress) -> float:
        passed = sum(units(milestone, progress.horizon) <= progress.done for milestone in self.milestones)
        return float(self.factor**passed)

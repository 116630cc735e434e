"""A power of what is left."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.schedules.progress import Progress
from trainer.schedules.shape import above, register, require_positive, require_share


@register("polynomial")
@dataclass(frozen=True)
class Polynomial:
    """f + (1 - f)(1 - z)^power; power 1 is ``linear``. As torch's PolynomialLR and transformers' "polynomial"."""

    power: float = 2.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        require_positive("power", self.power)
        require_share("floor", self.floor)

    def multiplier(self, progress: Progress) -> float:
        return above(self.floor, (1 - progress.share) ** self.power)

"""One family from constant over cosine to early decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.schedules.progress import Progress
from trainer.schedules.shape import above, register, require_positive, require_share


@register("uba")
@dataclass(frozen=True)
class Uba:
    """f + (1 - f) 2c / (2 phi + (2 - phi) c) with c = 1 + cos(pi z). Unified budget-aware, arXiv 2505.24452.

    phi -> 0 is constant, phi = 2 exactly cosine, larger phi decays earlier; at half the way the rate is 2 / (2 + phi). No default
    is confirmed by the authors; 1 is ours.
    """

    phi: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        require_positive("phi", self.phi)
        require_share("floor", self.floor)

    def multiplier(self, progress: Progress) -> float:
        c = 1 + math.cos(math.pi * progress.share)
        return above(self.floor, 2 * c / (2 * self.phi + (2 - self.phi) * c))

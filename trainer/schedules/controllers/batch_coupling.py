"""The rate follows the size of the batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from curricula.types import CurriculaError
from trainer.schedules.controller import register


class Seen(NamedTuple):
    """Informative rollouts of the newest update; 0 = none yet."""

    n: float


@register("batch_coupling")
@dataclass(frozen=True)
class BatchCoupling:
    """(n / reference)^power for n informative rollouts in the update, clipped to [least, 1].

    A filter that rejects groups makes batches smaller and gradients noisier. power 1/2 suits Adam, 1 SGD. With refills until the
    batch is full n never changes and the scale is 1. Ours, after the square-root rule; never above the tuned peak. It holds for
    the update after the one that it saw.

    >>> BatchCoupling(reference=64).scale(Seen(16))
    0.5
    """

    reference: float = 64.0
    power: float = 0.5
    least: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.reference < math.inf and 0 <= self.power <= 1 and 0 < self.least <= 1):
            raise CurriculaError(f"batch_coupling: expected reference > 0, power in 0..1 and least in (0, 1], got {self}")

    def begin(self) -> Seen:
        return Seen(0.0)

    def observe(self, state: Seen, metrics: Mapping[str, float]) -> Seen:
        n = float(metrics.get("informative_rollouts", math.nan))
        return Seen(n) if math.isfinite(n) else state

    def scale(self, state: Seen) -> float:
        if state.n <= 0:
            return 1.0
        return float(min(max((state.n / self.reference) ** self.power, self.least), 1.0))

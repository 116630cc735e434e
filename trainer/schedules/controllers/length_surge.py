"""The rate comes down when completions grow long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from curricula.types import CurriculaError
from trainer.schedules.controller import register


class Surge(NamedTuple):
    """When it came."""

    n: int  # lengths observed
    baseline: float  # mean length over the first of them
    at: int  # update of the surge; 0 = not yet


@register("length_surge")
@dataclass(frozen=True)
class LengthSurge:
    """1 until the mean completion length passes ``ratio`` times its first mean, then halved every ``stretch`` x that time.

    arXiv 2602.01826 found gradient noise and the mismatch of trainer and sampler to grow together when lengths surge; the
    thresholds are those of a re-implementation. Metric ``mean_length`` in tokens.

    >>> [LengthSurge().scale(Surge(n, 100.0, 110)) for n in (307, 308, 506, 902)]
    [1.0, 0.5, 0.25, 0.1]
    """

    first: int = 50  # updates that make the baseline
    ratio: float = 3.0
    stretch: float = 1.8
    least: float = 0.1

    def __post_init__(self) -> None:
        if not (self.first >= 1 and self.ratio > 1 and self.stretch > 0 and 0 < self.least <= 1):
            raise CurriculaError(f"length_surge: expected first >= 1, ratio > 1, stretch > 0 and least in (0, 1], got {self}")

    def begin(self) -> Surge:
        return Surge(0, 0.0, 0)

    def observe(self, state: Surge, metrics: Mapping[str, float]) -> Surge:
        n, length = state.n + 1, metrics.get("mean_length", math.nan)
        if not math.isfinite(length):
            return state
        if n <= self.first:
            return Surge(n, state.baseline + (length - state.baseline) / n, 0)
        surged = not state.at and length > self.ratio * state.baseline > 0
        return Surge(n, state.baseline, n if surged else state.at)

    def scale(self, state: Surge) -> float:
        if not state.at:
            return 1.0
        halvings = int((state.n - state.at) / (self.stretch * state.at))
        return float(max(0.5**halvings, self.least))

"""The rate follows how restless the scores are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.types import CurriculaError
from trainer.schedules.controller import register

SMALLEST = 0.01  # scores are not taken to be lower, for the sake of their logarithms
WINDOWS = 10  # that are remembered


class Watched(NamedTuple):
    """What was seen so far."""

    scale: float
    since: int  # updates since the last decision
    share: float  # lowest share of informative rollouts since then
    scores: tuple[float, ...]  # the newest ones


def volatility_multiplier(series: Sequence[float], window: int, weight: float = 0.5) -> float:
    """1 + sign(rho - 1) ln(1 + weight |rho - 1|), as published: what VolSched multiplies the rate by.

    rho is the standard deviation of all relative changes ln(x_i / x_(i-1)) over that of the newest ``window``: above 1 when the
    series has become calm. 1 while there are no more changes than that; without a bound, infinite where the newest do not differ.

    Source: arXiv 2507.10575. Its abstract speaks of accuracy, the code known to us takes the loss.

    >>> round(volatility_multiplier([0.40, 0.41, 0.40, 0.41, 0.40, 0.45, 0.38, 0.47, 0.36, 0.48], window=4), 6)
    0.830494
    """
    changes = np.diff(np.log(np.asarray(series, np.float64)))
    if len(changes) <= window:
        return 1.0
    whole, recent = float(changes.std(ddof=1)), float(changes[-window:].std(ddof=1))
    if recent == 0:
        return math.inf if whole > 0 else 1.0
    rho = whole / recent
    return 1.0 + math.copysign(math.log1p(weight * abs(rho - 1.0)), rho - 1.0)


@register("volatility")
@dataclass(frozen=True)
class Volatility:
    """Lower when the mean score has become more restless than it was, higher again when it is calmer.

    Every ``window`` updates the scale is multiplied by `volatility_multiplier` of the mean scores, cut to [1 / most, most], and
    the product is cut to [least, 1]: it takes back what it took, and never goes above the schedule. Both cuts are ours; the
    source has no bound and raises the rate itself.

    In RL calm often means that groups are all right or all wrong, so the scale rises only if in each update since the last
    decision at least ``least_share`` of the rollouts were informative. Mere noise, as restless at the end as at the start, costs
    a seventh of the rate on average, for what it takes is not given back at 1. Metrics: ``mean_score`` (not taken below 0.01) and
    ``informative_share``; without both of them nothing moves. Source: arXiv 2507.10575.
    """

    window: int = 20
    weight: float = 0.5
    most: float = 1.5  # a decision changes the scale by no more than this factor
    least: float = 0.25
    least_share: float = 0.2

    def __post_init__(self) -> None:
        in_range = self.window >= 2 and self.weight > 0 and self.most > 1 and 0 < self.least <= 1 and 0 <= self.least_share <= 1
        if not in_range:
            raise CurriculaError(
                f"volatility: expected window >= 2, weight > 0, most > 1, least in (0, 1] and least_share in [0, 1], got {self}"
            )

    def begin(self) -> Watched:
        return Watched(1.0, 0, 1.0, ())

    def observe(self, state: Watched, metrics: Mapping[str, float]) -> Watched:
        score, share = metrics.get("mean_score", math.nan), metrics.get("informative_share", math.nan)
        if not (math.isfinite(score) and math.isfinite(share)):
            return state
        scores = (*state.scores, max(float(score), SMALLEST))[-WINDOWS * self.window :]
        seen = Watched(state.scale, state.since + 1, min(state.share, float(share)), scores)
        return self._decided(seen) if seen.since >= self.window else seen

    def _decided(self, seen: Watched) -> Watched:
        factor = min(max(volatility_multiplier(seen.scores, self.window, self.weight), 1.0 / self.most), self.most)
        if factor > 1.0 and seen.share < self.least_share:
            factor = 1.0
        return Watched(min(max(seen.scale * factor, self.least), 1.0), 0, 1.0, seen.scores)

    def scale(self, state: Watched) -> float:
        return state.scale

"""Groups of middling difficulty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curricula.groups import n_scored, pass_rates, score_spreads
from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import CurriculaError, Floats, Ints, Outcome, PromptPool, Reason, Verdict
from curricula.verdicts import REFILL, verdict

SLACK = 1e-9  # a pass rate of 3/10 lies on an end at 0.3


@register("filter", "difficulty_band")
@dataclass(frozen=True)
class DifficultyBand(Stateless):
    """Keep a group if its pass rate lies in [low, high] and its rewards differ. Online difficulty filtering, arXiv 2504.03380.

    Balanced where low = 1 - high; ``closed=False`` leaves the ends out, and (0, 1) is then DAPO's rule. Whether the authors' ends
    belong to the band could not be checked; their best setting is written 0.3 to 0.7 with 16 rollouts.

    Where no pass rate k / N with 0 < k < N lies in the band, the nearest ones on both sides count as inside (ours): a pair of
    rollouts can only show 1/2, a group of three only 1/3 and 2/3. So an unlucky size never rejects every group.

    >>> DifficultyBand().inside(np.array([2, 4, 8, 12, 14]) / 16, np.full(5, 16))
    array([False,  True,  True,  True, False])
    """

    low: float = 0.25
    high: float = 0.75
    closed: bool = True  # do the ends belong to the band?
    refill: Literal["resample", "none"] = "resample"

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise CurriculaError(f"difficulty_band: expected 0 <= low < high <= 1, got low={self.low}, high={self.high}")

    def judge(self, state: Any, pool: PromptPool, outcome: Outcome) -> Verdict:
        rate_B, n_B = pass_rates(outcome), n_scored(outcome)
        low_B, high_B = self.ends(n_B)
        outside_B = np.where(rate_B > high_B, Reason.TOO_EASY, np.where(rate_B < low_B, Reason.TOO_HARD, Reason.KEPT))
        equal_B = score_spreads(outcome) <= 0
        return verdict(outcome, np.where((outside_B == Reason.KEPT) & equal_B, Reason.ALL_EQUAL, outside_B), REFILL[self.refill])

    def inside(self, rate_B: Floats, n_B: Ints) -> np.ndarray:
        """(B,) does a pass rate measured on n rollouts lie in the band?"""
        low_B, high_B = self.ends(n_B)
        return np.asarray((rate_B >= low_B) & (rate_B <= high_B))

    def ends(self, n_B: Ints) -> tuple[Floats, Floats]:
        """(B,) and (B,) smallest and largest pass rate that a group of n rollouts may have."""
        n_B = np.maximum(n_B, 2)
        slack = SLACK if self.closed else -SLACK
        low, high = self.low - slack, self.high + slack
        first_B, last_B = np.maximum(np.ceil(low * n_B), 1), np.minimum(np.floor(high * n_B), n_B - 1)
        reachable_B = first_B <= last_B
        below_B, above_B = (np.minimum(first_B, n_B) - 1) / n_B - SLACK, (last_B + 1) / n_B + SLACK
        return np.where(reachable_B, low, below_B), np.where(reachable_B, high, above_B)

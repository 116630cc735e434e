"""Groups with an advantage outside a range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curricula.groups import means, scored
from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import CurriculaError, Outcome, PromptPool, Verdict
from curricula.verdicts import REFILL, by_side, verdict

SLACK = 1e-9  # equal rewards have advantages that are 0 up to rounding


@register("filter", "advantage_gate")
@dataclass(frozen=True)
class AdvantageGate(Stateless):
    """Reject a group when all its advantages lie in [low, high]. prime-rl's advantage-range gate; on the scale of scores, ours.

    The advantage is the score minus the group's mean, so it lies in (-1, 1) and a group of k correct among N has the two values
    -k / N and 1 - k / N. (0, 0) rejects equal rewards only. A one-sided range rejects one side: (-1, 0.3) the groups whose best
    rollout is hardly better than the rest, that is easy ones. Advantages are those of raw rewards, undivided by the deviation,
    whatever the learner uses.

    >>> AdvantageGate(low=-1.0, high=0.3).refill
    'resample'
    """

    low: float = 0.0
    high: float = 0.0
    refill: Literal["resample", "none"] = "resample"

    def __post_init__(self) -> None:
        if not -1 <= self.low <= self.high <= 1:
            raise CurriculaError(f"advantage_gate: expected -1 <= low <= high <= 1, got low={self.low}, high={self.high}")

    def judge(self, state: Any, pool: PromptPool, outcome: Outcome) -> Verdict:
        score_r, group_r = scored(outcome)
        advantage_r = score_r - means(score_r, group_r, len(outcome.plan))[group_r]
        outside_r = (advantage_r < self.low - SLACK) | (advantage_r > self.high + SLACK)
        passes_B = np.bincount(group_r[outside_r], minlength=len(outcome.plan)) > 0
        return verdict(outcome, by_side(outcome, passes_B), REFILL[self.refill])

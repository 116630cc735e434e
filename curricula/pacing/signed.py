"""A step up or a step down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from curricula.groups import n_scored, pass_rates, score_spreads
from curricula.paced import Moving
from curricula.registry import register
from curricula.types import CurriculaError, Floats, Outcome


@register("pacing", "signed")
@dataclass(frozen=True)
class Signed(Moving):
    """Falls by ``step`` after a step with too many groups of equal scores, and rises after any other. GRESO, arXiv 2506.02177.

    Too many: at least a share ``target`` of the groups has equal scores, all 1 (``easy``), all 0 (``hard``) or any (``equal``).
    A negative ``step`` turns the directions round. Clipped to [low, high]. The defaults are those of GRESO's base of the skip
    probability for easy prompts.

    >>> Signed(first=0.5, step=0.01, target=1 / 12).moved(np.array([0.5]), 0.10)
    array([0.49])
    """

    first: float = 0.5
    step: float = 0.01
    target: float = 1 / 12
    of: Literal["easy", "hard", "equal"] = "easy"
    low: float = 0.05
    high: float = 0.95

    def __post_init__(self) -> None:
        if not self.low <= self.first <= self.high:
            raise CurriculaError(f"signed: expected low <= first <= high, got low={self.low}, first={self.first}, high={self.high}")

    def start(self) -> Floats:
        return np.array([self.first])

    def measure(self, outcome: Outcome) -> tuple[float, int]:
        told_B, rate_B = n_scored(outcome) >= 2, pass_rates(outcome)
        side_B = {"easy": rate_B >= 1, "hard": rate_B <= 0, "equal": told_B}[self.of]
        return float(np.count_nonzero(told_B & side_B & (score_spreads(outcome) <= 0))), int(np.count_nonzero(told_B))

    def moved(self, settled: Floats, mean: float) -> Floats:
        return np.clip(settled - self.step if mean >= self.target else settled + self.step, self.low, self.high)

"""Follows the score."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from curricula.groups import scored
from curricula.paced import Moving
from curricula.registry import register
from curricula.types import CurriculaError, Floats, Outcome


@register("pacing", "feedback")
@dataclass(frozen=True)
class FeedbackDriven(Moving):
    """Rises while the mean score is above a target and falls while it is below. AdaRFT, arXiv 2504.05520.

    After each step: value + rate x tanh(sensitivity x (R - target)), clipped to [low, high]; R = mean score of its rollouts.
    AdaRFT's difficulty target: rate 50 on a scale of 0 to 100. GAIN-RL moves a mean rank by the same rule with a second term,
    rate x tanh(sensitivity x angle), and never back: ``angle`` is that measure as a stated number (nothing here sees hidden
    states), ``only_up`` its clip at 0. The defaults are AdaRFT's on a scale of 0 to 1, beginning in the middle.

    >>> FeedbackDriven(first=0, rate=50, high=100).moved(np.array([0.0]), 0.8).round(4)
    array([26.8525])
    """

    first: float = 0.5
    rate: float = 0.5
    sensitivity: float = 2.0
    target: float = 0.5
    low: float = 0.0
    high: float = 1.0
    angle: float = 0.0
    only_up: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.first <= self.high:
            raise CurriculaError(
                f"feedback: expected low <= first <= high, got low={self.low}, first={self.first}, high={self.high}"
            )

    def start(self) -> Floats:
        return np.array([self.first])

    def measure(self, outcome: Outcome) -> tuple[float, int]:
        score, _ = scored(outcome)
        return float(score.sum()), len(score)

    def moved(self, settled: Floats, mean: float) -> Floats:
        by = self.rate * (math.tanh(self.sensitivity * (mean - self.target)) + math.tanh(self.sensitivity * self.angle))
        return np.clip(settled + (max(by, 0.0) if self.only_up else by), self.low, self.high)

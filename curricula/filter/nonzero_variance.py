"""Groups whose rewards differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curricula.groups import score_spreads
from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import CurriculaError, Outcome, PromptPool, Reason, Verdict
from curricula.verdicts import REFILL, verdict


@register("filter", "nonzero_variance")
@dataclass(frozen=True)
class NonZeroVariance(Stateless):
    """Keep a group if its rewards differ, and plan replacements for the others. DAPO's dynamic sampling, arXiv 2503.14476.

    Rewards that differ by no more than ``tolerance`` (share of the reward range) count as equal: std-normalised advantages would
    blow such a near tie up to full size. ``refill: none`` is ScaleRL's filter (arXiv 2510.13786). DAPO's code keeps groups of
    one; they carry no signal and are turned down here.

    >>> NonZeroVariance().refill
    'resample'
    """

    tolerance: float = 1e-6
    refill: Literal["resample", "none"] = "resample"

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise CurriculaError(f"nonzero_variance.tolerance: expected a number in [0, 1), got {self.tolerance}")

    def judge(self, state: Any, pool: PromptPool, outcome: Outcome) -> Verdict:
        differs_B = score_spreads(outcome) > self.tolerance
        return verdict(outcome, np.where(differs_B, Reason.KEPT, Reason.ALL_EQUAL).astype(np.uint8), REFILL[self.refill])

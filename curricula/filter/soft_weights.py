"""Weights instead of a band."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curricula.groups import pass_rates, score_spreads
from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import CurriculaError, Floats, Outcome, PromptPool, Refill, Verdict
from curricula.verdicts import by_side, verdict


@register("filter", "soft_weights")
@dataclass(frozen=True)
class SoftWeights(Stateless):
    """Weigh every group by how much there is to learn from its pass rate p, 4 p (1 - p), and replace none. Ours.

    No edge at which hard prompts fall out, and no generation beyond the plan. 4 p (1 - p) is the limit of strong KL
    regularisation of what the theory of difficulty bands (arXiv 2504.03380) maximises: the divergence from the policy to its
    optimum with reward scale ``kl_strength`` = 1 / beta, ln(1 - p + p e^s) - p s, here divided by its peak. A larger strength
    prefers harder prompts (peak at 0.5, 0.42, 0.19 and 0.1 for 0, 1, 5 and 10). Groups with equal rewards are left out: they
    would dilute the mean over tokens.

    Advantages that are divided by the group's deviation already weigh hard and easy groups up, so this evens them out again. The
    deviation is meant for whole groups: not together with ``pods``.

    >>> SoftWeights().weights(np.array([0.1, 0.5, 0.75])).round(2)
    array([0.36, 1.  , 0.75])
    """

    kl_strength: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.kl_strength <= 700:
            raise CurriculaError(f"soft_weights.kl_strength: expected a number in 0..700, got {self.kl_strength}")

    def judge(self, state: Any, pool: PromptPool, outcome: Outcome) -> Verdict:
        judged = verdict(outcome, by_side(outcome, score_spreads(outcome) > 0), Refill.NONE)
        return replace(judged, weight_B=np.where(judged.kept_B, self.weights(pass_rates(outcome)), 1.0))

    def weights(self, rate_B: Floats) -> Floats:
        """(B,) weight of groups with these pass rates, at most 1."""
        s = self.kl_strength
        if s < 1e-3:  # the quotient would lose its digits
            return np.asarray(4.0 * rate_B * (1.0 - rate_B))
        peak = 1.0 / s - 1.0 / np.expm1(s)
        return np.asarray(np.maximum(_divergence(rate_B, s), 0.0) / _divergence(np.array(peak), s))


def _divergence(rate: Floats, s: float) -> Floats:
    with np.errstate(divide="ignore"):  # a pass rate of 0 or 1 is fine: logaddexp takes -inf
        inside = np.logaddexp(np.log1p(-rate), np.log(rate) + s)
    return np.asarray(inside - rate * s)

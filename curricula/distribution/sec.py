"""Temporal-difference values over distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from curricula.registry import register
from curricula.signals import Signal, distribution_means, group_signal, softmax
from curricula.types import CurriculaError, Feedback, Floats, PromptPool


class SecState(NamedTuple):
    """One value per distribution."""

    value_K: Floats  # (K,) Q


@register("distribution", "sec")
@dataclass(frozen=True)
class SelfEvolvingCurriculum:
    """Softmax over exponential averages of what there is to learn. SEC, arXiv 2505.14970.

    Q_k <- (1 - alpha) Q_k + alpha r_k with r_k the mean signal of the step's groups of k, Q_0 = 0, P = softmax(Q / tau).

    The paper's signal is the mean |advantage| (``signal="mean_abs_advantage"``); the default is 4 x the unbiased variance of the
    score, which does not depend on the group size. A distribution that the step did not see keeps its value; ``unseen="zero"`` is
    the released code, which treats it as r_k = 0. Published settings: alpha 0.5, tau 1.0 (Countdown), 0.4 (mathematics, the default
    here), 0.2 (two-dimensional arms). The softmax subtracts its largest value first; the released one overflows at small tau.

    >>> SelfEvolvingCurriculum(tau=0.4).probabilities(SecState(np.array([0.45, 0.3, 0.1])), None).round(4)
    array([0.4753, 0.3266, 0.1981])
    """

    alpha: float = 0.5
    tau: float = 0.4
    signal: Signal = "learnability"
    unseen: Literal["skip", "zero"] = "skip"

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise CurriculaError(f"sec.alpha: expected a number above 0 and at most 1, got {self.alpha}")
        if not 0 < self.tau < np.inf:
            raise CurriculaError(f"sec.tau: expected a finite number above 0, got {self.tau}")

    def init(self, pool: PromptPool) -> SecState:
        return SecState(np.zeros(pool.n_distributions))

    def probabilities(self, state: SecState, pool: PromptPool) -> Floats:
        return softmax(state.value_K, self.tau)

    def update(self, state: SecState, pool: PromptPool, feedback: Feedback) -> SecState:
        arm_B = feedback.plan.selection.distribution_B
        return SecState(
            self.moved(state.value_K, distribution_means(group_signal(feedback, self.signal), arm_B, pool.n_distributions))
        )

    def moved(self, value_K: Floats, signal_K: Floats) -> Floats:
        """(K,) values after one step; NaN signals are distributions that the step did not see."""
        seen_K = ~np.isnan(signal_K)
        target_K = np.where(seen_K, signal_K, 0.0 if self.unseen == "zero" else value_K)
        return (1.0 - self.alpha) * value_K + self.alpha * target_K

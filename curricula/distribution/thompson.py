"""Thompson sampling over distributions, without the sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.gaussians import largest_chances
from curricula.registry import register
from curricula.signals import Signal, group_signal
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool


class NormalState(NamedTuple):
    """A normal belief per distribution, as of the newest step."""

    mean_K: Floats
    variance_K: Floats
    n_steps: Ints  # () the newest step learned from, plus one


@register("distribution", "thompson")
@dataclass(frozen=True)
class Thompson:
    """The chance that a distribution is the one with most to learn, under normal beliefs that widen step by step. Ours.

    Belief: mean m and variance v of the signal. Each step first v <- min(v + drift^2, prior_std^2), then n groups with sum S give
    1/v' = 1/v + n / noise^2 and m' = v' (m / v + S / noise^2). P_k = P(draw of k is the largest), integrated numerically, which is
    the share that Thompson sampling would give in expectation; the quotas are then drawn with less noise than single arms.

    The widening is the random-walk model that PAC uses (see ``pac``): what was left alone becomes uncertain and comes back, with no
    bonus to tune. ``noise`` is the spread of one group's signal; ``drift`` how far a signal may move in a step.

    >>> pool = PromptPool.from_columns("ab", ["easy", "hard"])
    >>> state = NormalState(np.array([0.6, 0.5]), np.array([0.01, 0.04]), np.array(9))
    >>> Thompson().probabilities(state, pool).round(3)  # Phi(0.1 / sqrt 0.05)
    array([0.673, 0.327])
    """

    prior_mean: float = 0.5
    prior_std: float = 0.5
    noise: float = 0.5
    drift: float = 0.05
    signal: Signal = "learnability"

    def __post_init__(self) -> None:
        if not np.isfinite(self.prior_mean):
            raise CurriculaError(f"thompson.prior_mean: expected a finite number, got {self.prior_mean}")
        for key in ("prior_std", "noise"):
            if not 0 < getattr(self, key) < np.inf:
                raise CurriculaError(f"thompson.{key}: expected a finite number above 0, got {getattr(self, key)}")
        if not 0 <= self.drift < np.inf:
            raise CurriculaError(f"thompson.drift: expected a finite number >= 0, got {self.drift}")

    def init(self, pool: PromptPool) -> NormalState:
        k = pool.n_distributions
        return NormalState(np.full(k, self.prior_mean), np.full(k, self.prior_std**2), np.array(0, np.int64))

    def probabilities(self, state: NormalState, pool: PromptPool) -> Floats:
        return largest_chances(state.mean_K, np.sqrt(state.variance_K))

    def update(self, state: NormalState, pool: PromptPool, feedback: Feedback) -> NormalState:
        n_steps = max(int(state.n_steps), feedback.plan.step + 1)
        widened_K = np.minimum(state.variance_K + (n_steps - int(state.n_steps)) * self.drift**2, self.prior_std**2)
        arm_B, value_B = feedback.plan.selection.distribution_B, group_signal(feedback, self.signal)
        has_B = np.isfinite(value_B)
        n_K = np.bincount(arm_B[has_B], minlength=pool.n_distributions)
        sum_K = np.bincount(arm_B[has_B], weights=value_B[has_B], minlength=pool.n_distributions)
        variance_K = 1.0 / (1.0 / widened_K + n_K / self.noise**2)
        mean_K = variance_K * (state.mean_K / widened_K + sum_K / self.noise**2)
        return NormalState(mean_K, variance_K, np.array(n_steps, np.int64))

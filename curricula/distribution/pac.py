"""What there is to learn, weighted by whether it is being learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.gaussians import largest_chances
from curricula.groups import pass_rates
from curricula.histories import EMPTY, History, means_by_step, no_history, noted, slopes, window_of
from curricula.registry import register
from curricula.signals import Signal, group_signal
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool


class PacState(NamedTuple):
    """A normal belief about the utility per distribution, and the window that utilities are read from."""

    mean_K: Floats
    variance_K: Floats
    signals: History  # what there was to learn, group by group
    scores: History  # pass rates, group by group
    n_steps: Ints  # () the newest step learned from, plus one


@register("distribution", "pac")
@dataclass(frozen=True)
class ProgressAugmented:
    """Thompson sampling of what there is to learn, raised where pass rates rise. PAC (Progress-Augmented Advantage Curriculum).

    Over the last ``window`` steps: s_adv = mean over steps of the mean signal, s_prog = least-squares slope of the mean score
    divided by the sum of |slopes| over all distributions, utility u = (1 + s_prog) s_adv. Belief, from mean 0
    and variance 1: rho_k = share of the step's groups x K, 1/v' = 1/v + rho_k, m' = v' (m / v + rho_k u_k), then v <- v' + delta^2.
    P_k is the chance of being the largest, integrated numerically (the paper draws one arm per slot); equal shares in the
    first ``cold_start`` steps.

    Source: a copy of the paper without its arXiv number, so the three defaults are ours; so is the default signal,
    ``mean_abs_advantage`` is the paper's. Steps that were lost widen the belief too.

    >>> utilities(np.array([0.5, 0.5, 0.2]), np.array([0.3, -0.1, 0.0])).round(4)
    array([0.875, 0.375, 0.2  ])
    """

    window: int = 10  # steps
    delta: float = 0.1
    cold_start: int = 5  # steps
    signal: Signal = "learnability"

    def __post_init__(self) -> None:
        if self.window < 2:
            raise CurriculaError(f"pac.window: expected >= 2 (a slope needs two steps), got {self.window}")
        if not 0 <= self.delta < np.inf:
            raise CurriculaError(f"pac.delta: expected a finite number >= 0, got {self.delta}")
        if self.cold_start < 0:
            raise CurriculaError(f"pac.cold_start: expected >= 0, got {self.cold_start}")

    def init(self, pool: PromptPool) -> PacState:
        k = pool.n_distributions
        return PacState(np.zeros(k), np.ones(k), no_history(k, self.window), no_history(k, self.window), np.array(0, np.int64))

    def probabilities(self, state: PacState, pool: PromptPool) -> Floats:
        if state.n_steps < self.cold_start:
            return np.full(pool.n_distributions, 1.0 / pool.n_distributions)
        return largest_chances(state.mean_K, np.sqrt(state.variance_K))

    def update(self, state: PacState, pool: PromptPool, feedback: Feedback) -> PacState:
        step, arm_B = feedback.plan.step, feedback.plan.selection.distribution_B
        n_steps = max(int(state.n_steps), step + 1)
        value_B = group_signal(feedback, self.signal)
        signals = noted(state.signals, step, value_B, arm_B)
        scores = noted(state.scores, step, pass_rates(feedback.outcome), arm_B)
        n_K = np.bincount(arm_B[np.isfinite(value_B)], minlength=pool.n_distributions)
        rho_K = n_K * pool.n_distributions / max(int(n_K.sum()), 1)
        utility_K = self.utility(signals, scores)
        precision_K = 1.0 / state.variance_K + rho_K
        mean_K = (state.mean_K / state.variance_K + rho_K * utility_K) / precision_K
        variance_K = 1.0 / precision_K + (n_steps - int(state.n_steps)) * self.delta**2
        return PacState(mean_K, variance_K, signals, scores, np.array(n_steps, np.int64))

    def utility(self, signals: History, scores: History) -> Floats:
        """(K,) (1 + s_prog) s_adv over the window; 0 for a distribution that it does not know."""
        signal_KW = means_by_step(window_of(signals, self.window))
        known_KW = np.isfinite(signal_KW)
        s_adv_K = np.where(known_KW, signal_KW, 0.0).sum(axis=1) / np.maximum(known_KW.sum(axis=1), 1)
        scores = window_of(scores, self.window)
        x_KW = np.where(scores.step_KW == EMPTY, np.nan, scores.step_KW)  # the unit of time cancels in s_prog
        return utilities(s_adv_K, slopes(x_KW, means_by_step(scores)))


def utilities(s_adv_K: Floats, slope_K: Floats) -> Floats:
    """(K,) (1 + slope / sum of |slopes|) x s_adv."""
    total = np.abs(slope_K).sum()
    progress_K = slope_K / total if total > 0 else np.zeros_like(slope_K)
    return (1.0 + progress_K) * s_adv_K

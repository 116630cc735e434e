"""Upper confidence bounds that forget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.registry import register
from curricula.signals import Signal, group_signal, softmax
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool


class DiscountedState(NamedTuple):
    """Discounted sums per distribution, as of the newest step."""

    sum_K: Floats  # (K,) signals
    n_signals_K: Floats  # (K,) groups that had one
    n_drawn_K: Floats  # (K,) groups drawn
    n_steps: Ints  # () the newest step learned from, plus one


@register("distribution", "discounted_ucb")
@dataclass(frozen=True)
class DiscountedUCB:
    """Softmax over upper confidence bounds whose evidence fades step by step. D-UCB, arXiv 0805.3415.

    n_k <- g n_k + groups of the step, S_k <- g S_k + their signals, UCB_k = S_k / n_k + bonus x sqrt(2 ln(n + 1) / (n_k + 1)),
    n the sum of all n_k, P = softmax(UCB / tau). The fading is by step, not by draw as in the paper, and a late group counts with
    the weight that its own step has by now, so the order of arrival changes nothing. The softmax is DUMP's; the paper takes
    the largest bound.

    Use it instead of ``dump_ucb`` where pass rates move: a distribution that was left alone regains its bonus. g = 1 never forgets;
    1 / (1 - g) is the number of steps remembered.

    >>> bounds(np.array([0.6, 0.5]), np.array([46.8559, 5.9049]), bonus=0.5, plus=0.0).round(4)  # the second was left alone
    array([0.8057, 1.0795])
    """

    g: float = 0.95
    bonus: float = 0.5
    tau: float = 0.1
    signal: Signal = "learnability"

    def __post_init__(self) -> None:
        if not 0 < self.g <= 1:
            raise CurriculaError(f"discounted_ucb.g: expected a number above 0 and at most 1, got {self.g}")
        if not 0 <= self.bonus < np.inf:
            raise CurriculaError(f"discounted_ucb.bonus: expected a finite number >= 0, got {self.bonus}")
        if not 0 < self.tau < np.inf:
            raise CurriculaError(f"discounted_ucb.tau: expected a finite number above 0, got {self.tau}")

    def init(self, pool: PromptPool) -> DiscountedState:
        k = pool.n_distributions
        return DiscountedState(np.zeros(k), np.zeros(k), np.zeros(k), np.array(0, np.int64))

    def probabilities(self, state: DiscountedState, pool: PromptPool) -> Floats:
        has_K = state.n_signals_K > 0
        mean_K = np.where(has_K, state.sum_K / np.where(has_K, state.n_signals_K, 1.0), 0.0)
        return softmax(bounds(mean_K, state.n_drawn_K, self.bonus), self.tau)

    def update(self, state: DiscountedState, pool: PromptPool, feedback: Feedback) -> DiscountedState:
        step, k = feedback.plan.step, pool.n_distributions
        n_steps = max(int(state.n_steps), step + 1)
        fade, weight = self.g ** (n_steps - int(state.n_steps)), self.g ** (n_steps - 1 - step)
        arm_B, value_B = feedback.plan.selection.distribution_B, group_signal(feedback, self.signal)
        has_B = np.isfinite(value_B)
        new = (
            np.bincount(arm_B[has_B], weights=value_B[has_B], minlength=k),
            np.bincount(arm_B[has_B], minlength=k),
            np.bincount(arm_B, minlength=k),
        )
        sum_K, n_signals_K, n_drawn_K = (fade * old_K + weight * new_K for old_K, new_K in zip(state[:3], new, strict=True))
        return DiscountedState(sum_K, n_signals_K, n_drawn_K, np.array(n_steps, np.int64))


def bounds(mean_K: Floats, n_K: Floats, bonus: float, plus: float = 1.0) -> Floats:
    """(K,) mean + bonus x sqrt(2 ln(n + plus) / (n_k + plus)); with ``plus`` 1 the bonus of what was never seen is finite."""
    bound_K: Floats = mean_K + bonus * np.sqrt(2.0 * np.log(n_K.sum() + plus) / (n_K + plus))
    return bound_K

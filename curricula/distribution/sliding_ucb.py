"""Upper confidence bounds over the newest steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.distribution.discounted_ucb import bounds
from curricula.histories import History, no_history, noted, pooled_means, window_of
from curricula.registry import register
from curricula.signals import Signal, group_signal, softmax
from curricula.types import CurriculaError, Feedback, Floats, PromptPool


class SlidingState(NamedTuple):
    """Signals and draws of the newest steps."""

    signals: History
    drawn: History


@register("distribution", "sliding_ucb")
@dataclass(frozen=True)
class SlidingUCB:
    """Softmax over upper confidence bounds that know only the last ``window`` steps. SW-UCB, arXiv 0805.3415.

    UCB_k = mean signal of k in the window + bonus x sqrt(2 ln(n + 1) / (n_k + 1)), n_k groups drawn from k in the window and n
    their sum, P = softmax(UCB / tau). A distribution that the window does not know has signal 0 and the full bonus. The window
    counts steps of the run, not draws as in the paper; the softmax is DUMP's.

    Use it where pass rates jump, after a change of data or of the reward; ``discounted_ucb`` where they drift.

    >>> pool = PromptPool.from_columns("ab", ["easy", "hard"])
    >>> policy = SlidingUCB(window=2)
    >>> policy.probabilities(policy.init(pool), pool)
    array([0.5, 0.5])
    """

    window: int = 20  # steps
    bonus: float = 0.5
    tau: float = 0.1
    signal: Signal = "learnability"

    def __post_init__(self) -> None:
        if self.window < 1:
            raise CurriculaError(f"sliding_ucb.window: expected >= 1, got {self.window}")
        if not 0 <= self.bonus < np.inf:
            raise CurriculaError(f"sliding_ucb.bonus: expected a finite number >= 0, got {self.bonus}")
        if not 0 < self.tau < np.inf:
            raise CurriculaError(f"sliding_ucb.tau: expected a finite number above 0, got {self.tau}")

    def init(self, pool: PromptPool) -> SlidingState:
        k = pool.n_distributions
        return SlidingState(no_history(k, self.window), no_history(k, self.window))

    def probabilities(self, state: SlidingState, pool: PromptPool) -> Floats:
        mean_K = pooled_means(window_of(state.signals, self.window))
        n_K = window_of(state.drawn, self.window).n_KW.sum(axis=1)
        return softmax(bounds(np.nan_to_num(mean_K), n_K, self.bonus), self.tau)

    def update(self, state: SlidingState, pool: PromptPool, feedback: Feedback) -> SlidingState:
        step, arm_B = feedback.plan.step, feedback.plan.selection.distribution_B
        return SlidingState(
            noted(state.signals, step, group_signal(feedback, self.signal), arm_B),
            noted(state.drawn, step, np.ones(len(arm_B)), arm_B),
        )

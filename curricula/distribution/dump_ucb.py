"""Upper confidence bounds over distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.registry import register
from curricula.signals import Signal, group_signal, rollout_signal, softmax
from curricula.types import Bools, CurriculaError, Feedback, Floats, Ints, PromptPool


class DumpState(NamedTuple):
    """A ring of the newest signals per distribution, and how much was ever drawn from it."""

    window_KW: Floats  # (K, window) newest signals; NaN = not filled yet
    mean_K: Floats  # (K,) of what the window holds, 0 while it is empty: a plan need not read the windows
    n_signals_K: NDArray[np.int64]  # (K,) signals ever written to the ring
    n_drawn_K: NDArray[np.int64]  # (K,) groups or rollouts ever drawn


@register("distribution", "dump_ucb")
@dataclass(frozen=True)
class DumpUCB:
    """Softmax over upper confidence bounds of what there is to learn. DUMP, arXiv 2504.09710.

    UCB_k = mean of the last ``window`` signals + bonus x sqrt(2 ln(n + 1) / (n_k + 1)), P = softmax(UCB / tau), with n_k
    drawn from k so far and n their sum. An unseen distribution has signal 0 and the full bonus.

    The paper's signal is the mean |advantage|, which grows with the group size; ours is 4 x the unbiased variance of the score,
    which does not, on the same scale [0, 1]. n_k counts prompts, as in the paper's algorithm. ``signal="mean_abs_advantage",
    count_unit="rollout"`` is the released code: one window entry and one count per rollout, so the bonus is
    about sqrt(G) times smaller. Unlike the released code, validation results never enter.

    >>> ucb(np.array([0.9, 0.5, 0.1]), np.array([100, 100, 100]), 1.0).round(4)
    array([1.2362, 0.8362, 0.4362])
    """

    window: int = 300  # signals: one per group, or one per rollout
    tau: float = 0.1
    bonus: float = 1.0
    signal: Signal = "learnability"
    count_unit: Literal["prompt", "rollout"] = "prompt"

    def __post_init__(self) -> None:
        if self.window < 1:
            raise CurriculaError(f"dump_ucb.window: expected >= 1, got {self.window}")
        if not 0 < self.tau < np.inf:
            raise CurriculaError(f"dump_ucb.tau: expected a finite number above 0, got {self.tau}")
        if not 0 <= self.bonus < np.inf:
            raise CurriculaError(f"dump_ucb.bonus: expected a finite number >= 0, got {self.bonus}")

    def init(self, pool: PromptPool) -> DumpState:
        k = pool.n_distributions
        return DumpState(np.full((k, self.window), np.nan), np.zeros(k), np.zeros(k, np.int64), np.zeros(k, np.int64))

    def probabilities(self, state: DumpState, pool: PromptPool) -> Floats:
        return softmax(ucb(state.mean_K, state.n_drawn_K, self.bonus), self.tau)

    def update(self, state: DumpState, pool: PromptPool, feedback: Feedback) -> DumpState:
        value, arm, drawn_arm = self._read(feedback)
        has = np.isfinite(value)
        n_signals_K = push(state.window_KW, state.n_signals_K, value[has], arm[has])
        n_drawn_K = state.n_drawn_K + np.bincount(drawn_arm, minlength=pool.n_distributions)
        touched = np.unique(arm[has])
        mean_K = state.mean_K.copy()
        mean_K[touched] = window_means(state.window_KW[touched])
        return DumpState(state.window_KW, mean_K, n_signals_K, n_drawn_K)

    def _read(self, feedback: Feedback) -> tuple[Floats, Ints, Ints]:
        """Signals, their distributions, and the distribution of everything drawn."""
        arm_B = feedback.plan.selection.distribution_B
        if self.count_unit == "prompt":
            return group_signal(feedback, self.signal), arm_B, arm_B
        arm_R = arm_B[feedback.outcome.group_R]
        return rollout_signal(feedback, self.signal), arm_R, arm_R


def ucb(signal_K: Floats, n_drawn_K: Ints, bonus: float) -> Floats:
    """(K,) signal + bonus x sqrt(2 ln(n + 1) / (n_k + 1))."""
    bound_K: Floats = signal_K + bonus * np.sqrt(2.0 * np.log(n_drawn_K.sum() + 1.0) / (n_drawn_K + 1.0))
    return bound_K


def window_means(window_KW: Floats) -> Floats:
    """(K,) mean of what the window holds; 0 while it is empty."""
    filled_KW: Bools = ~np.isnan(window_KW)
    total_K: Floats = np.where(filled_KW, window_KW, 0.0).sum(axis=1)
    total_K /= np.maximum(filled_KW.sum(axis=1), 1)
    return total_K


def push(window_KW: Floats, n_signals_K: Ints, value: Floats, arm: Ints) -> Ints:
    """Write signals to the rings, in their order and in place; returns the new counts. A ring keeps its newest."""
    order = np.argsort(arm, kind="stable")
    n_new_K = np.bincount(arm, minlength=len(n_signals_K))
    rank = np.arange(len(arm)) - np.repeat(np.cumsum(n_new_K) - n_new_K, n_new_K)  # n-th new signal of its distribution
    arm, value = arm[order], value[order]
    stays = rank >= n_new_K[arm] - window_KW.shape[1]
    window_KW[arm[stays], (n_signals_K[arm] + rank)[stays] % window_KW.shape[1]] = value[stays]
    return n_signals_K + n_new_K

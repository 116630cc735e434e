"""More of what is changing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from curricula.groups import pass_rates
from curricula.histories import EMPTY, History, no_history, noted
from curricula.registry import register
from curricula.signals import softmax
from curricula.types import CurriculaError, Feedback, Floats, PromptPool


@register("distribution", "learning_progress")
@dataclass(frozen=True)
class LearningProgress:
    """Shares by how much the pass rate changed, up or down, between the older and the newer half of a window. Ours.

    LP_k = |mean pass rate of the newer half - mean of the older half| over the last ``window`` steps in which k was seen (the
    middle one of an odd number is left out); P proportional to LP, or softmax(LP / tau). Where LP is not known yet, it counts as
    the largest known one. The windowed teachers of TSCL, arXiv 1707.00183, use a regression slope instead; Baranes and Oudeyer the
    halves.

    A pass rate that falls counts as well: what is being forgotten is practised again. The change of a mean over few groups is
    mostly noise, about sqrt(2 p (1 - p) / n) with n independent rollouts in a half, so choose the window long enough.

    >>> history = noted(no_history(2, 4), 0, np.array([0.2, 0.5]), np.array([0, 1]))
    >>> history = noted(history, 1, np.array([0.5, 0.4]), np.array([0, 1]))
    >>> progress(history).round(2)
    array([0.3, 0.1])
    """

    window: int = 10  # steps in which the distribution was seen
    rule: Literal["proportional", "softmax"] = "proportional"
    tau: float = 0.05

    def __post_init__(self) -> None:
        if self.window < 2:
            raise CurriculaError(f"learning_progress.window: expected >= 2 (two halves), got {self.window}")
        if not 0 < self.tau < np.inf:
            raise CurriculaError(f"learning_progress.tau: expected a finite number above 0, got {self.tau}")

    def init(self, pool: PromptPool) -> History:
        return no_history(pool.n_distributions, self.window)

    def probabilities(self, state: History, pool: PromptPool) -> Floats:
        known_K = progress(state)
        unknown_K = np.isnan(known_K)
        largest = 1.0 if unknown_K.all() else float(np.nanmax(known_K))
        progress_K = np.where(unknown_K, largest, known_K)
        if self.rule == "softmax":
            return softmax(progress_K, self.tau)
        total = progress_K.sum()
        return progress_K / total if total > 0 else np.full(len(progress_K), 1.0 / len(progress_K))

    def update(self, state: History, pool: PromptPool, feedback: Feedback) -> History:
        return noted(state, feedback.plan.step, pass_rates(feedback.outcome), feedback.plan.selection.distribution_B)


def progress(history: History) -> Floats:
    """(K,) |newer half - older half|, both as means over their groups; NaN where fewer than two steps are known."""
    rank_KW = history.step_KW.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")  # empty places first
    n_K1 = (history.step_KW != EMPTY).sum(axis=1, keepdims=True)
    place_KW = rank_KW - (history.step_KW.shape[1] - n_K1)  # 0 = the oldest step known
    older_KW, newer_KW = (place_KW >= 0) & (place_KW < n_K1 // 2), place_KW >= n_K1 - n_K1 // 2
    with np.errstate(invalid="ignore"):
        older_K, newer_K = (
            (history.sum_KW * half_KW).sum(axis=1) / (history.n_KW * half_KW).sum(axis=1) for half_KW in (older_KW, newer_KW)
        )
    change_K: Floats = np.abs(newer_K - older_K)
    return change_K

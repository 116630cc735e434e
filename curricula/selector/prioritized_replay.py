"""Prompts by the rank of what their last group had to teach, and by how long ago that was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.inclusion import choose, proportional
from curricula.registry import register
from curricula.signals import Signal, group_signal
from curricula.stages import Believed, Quota
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool, Selection


class ReplayState(NamedTuple):
    """8 bytes per prompt. Staleness is read off the stamps, so nothing is counted up for prompts that did not come."""

    score_N: NDArray[np.float32]  # (N,)
    stamp_N: NDArray[np.int32]  # (N,) step of the newest group; -1 = unseen
    step: Ints  # () newest step learned from


@register("selector", "prioritized_replay")
@dataclass(frozen=True)
class PrioritizedReplay:
    """Seen prompts by the rank of their score and by staleness; unseen ones as often as they are many. PLR, arXiv 2010.03934.

    P = (1 - rho) P_score + rho P_stale with P_score in proportion to (1 / rank)^(1 / beta) and P_stale to the steps since the last
    use; P is for the seen. The score is the average of the groups' signals with weight ``alpha`` on the newest; the signal is
    4 x the unbiased variance of the score, or the mean |advantage|, in the place of PLR's value error.

    Departures: of n open prompts of which u are unseen, the share u / n of a quota goes to the unseen, drawn evenly (PLR's
    "proportionate", per plan and not per draw). Prompts are drawn without replacement, by (1 - rho) min(1, c x P_score) + rho
    min(1, c' x P_stale), so rho keeps its meaning where the score makes prompts certain. Equal scores share alike.
    ``floor`` is the share of each quota spread evenly over all open prompts (ours; without it a low rank has a chance of 1e-10,
    which no importance weight survives). Ranks are sorted at every plan, over the seen prompts.

    >>> rank_weights(np.array([0.9, 0.1, 0.5, 0.5]), 1.0).round(4)  # 1, 1/4, and the mean of 1/2 and 1/3
    array([1.    , 0.25  , 0.4167, 0.4167])
    """

    beta: float = 0.1  # temperature of the ranks
    rho: float = 0.1  # share of staleness
    alpha: float = 1.0  # weight of the newest group in a prompt's score
    signal: Signal = "learnability"
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.beta < np.inf:
            raise CurriculaError(f"prioritized_replay.beta: expected a finite number above 0, got {self.beta}")
        if not 0 < self.alpha <= 1:
            raise CurriculaError(f"prioritized_replay.alpha: expected a number above 0 and at most 1, got {self.alpha}")
        if not (0 <= self.rho <= 1 and 0 <= self.floor <= 1):
            raise CurriculaError(f"prioritized_replay: expected rho and floor in 0..1, got rho={self.rho}, floor={self.floor}")

    def init(self, pool: PromptPool) -> ReplayState:
        return ReplayState(np.zeros(len(pool), np.float32), np.full(len(pool), -1, np.int32), np.array(0, np.int64))

    def select(self, state: ReplayState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        def weigh(prompt_n: Ints, expected: float) -> Floats:
            stamp_n = state.stamp_N[prompt_n]
            seen_n = stamp_n >= 0
            probability_n = np.full(len(prompt_n), expected / len(prompt_n))
            if seen_n.any():
                score, age = state.score_N[prompt_n[seen_n]], state.step - stamp_n[seen_n]
                probability_n[seen_n] = self._replayed(score, age, expected * float(seen_n.mean()))
            return probability_n

        return choose(pool, quota, weigh, self.floor, rng)

    def _replayed(self, score_n: NDArray[np.float32], age_n: Ints, expected: float) -> Floats:
        by_score = proportional(rank_weights(score_n, self.beta), expected)
        by_age = proportional(age_n.astype(np.float64), expected)
        return (1 - self.rho) * by_score + self.rho * by_age

    def update(self, state: ReplayState, pool: PromptPool, feedback: Feedback) -> ReplayState:
        signal_B, step = group_signal(feedback, self.signal), feedback.plan.step
        prompt_B = feedback.plan.selection.prompt_B
        newest_B = np.isfinite(signal_B) & (state.stamp_N[prompt_B] <= step)
        prompt, signal = prompt_B[newest_B], signal_B[newest_B]
        share = np.where(state.stamp_N[prompt] < 0, 1.0, self.alpha)
        state.score_N[prompt] = (1 - share) * state.score_N[prompt] + share * signal
        state.stamp_N[prompt] = step
        return state._replace(step=np.maximum(state.step, step))


def rank_weights(score_n: NDArray[np.floating], beta: float) -> Floats:
    """(n,) (1 / rank)^(1 / beta), rank 1 for the largest score; equal scores get the mean over their ranks."""
    _, place, count = np.unique(-score_n, return_inverse=True, return_counts=True)
    weight = np.arange(1, len(score_n) + 1, dtype=np.float64) ** (-1.0 / beta)
    mean: Floats = np.add.reduceat(weight, np.cumsum(count) - count) / count
    return mean[place]

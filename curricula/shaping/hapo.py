"""A reward for being shorter than the shortest correct answer so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.registry import register
from curricula.stages import Unlimited
from curricula.types import CurriculaError, Feedback, Floats, Ints, Outcome, PromptPool

LEAST_CORRECT = -0.7  # of the length reward of a correct answer, so that it stays above any wrong one
CORRECT = 0.5  # scores above this are correct


class Shortest(NamedTuple):
    """4 bytes per prompt."""

    tokens_N: NDArray[np.float32]  # length of the shortest correct answer; 0 = none yet


@register("shaping", "hapo")
@dataclass(frozen=True)
class ShortestSoFar(Unlimited):
    """Add a length reward against the prompt's shortest correct answer so far. HAPO, arXiv 2505.11225.

    With h that length and l the completion's, c = cos(min(l / h, 2) pi / 2): a correct answer gets max(-0.7, c), a wrong one
    min(0, c), times ``weight``; prompts without a correct answer yet get none. Correct is a score above 1/2. h is learned after a
    step's rewards are made, from raw scores. One lucky short answer holds h down for ever as published; ``forgetting`` lets it
    grow by that share at each visit of its prompt (ours). The linear variant and the mean of lengths are left out.

    >>> HAPO = ShortestSoFar()
    >>> HAPO.bonus(np.array([25, 100, 150]), np.full(3, 100.0), correct_R=np.array([True, True, False])).round(4)
    array([ 0.9239,  0.    , -0.7071])
    """

    weight: float = 1.0
    forgetting: float = 0.0

    def __post_init__(self) -> None:
        for key in ("weight", "forgetting"):
            if not 0 <= getattr(self, key) < np.inf:
                raise CurriculaError(f"hapo.{key}: expected a finite number >= 0, got {getattr(self, key)}")

    def init(self, pool: PromptPool) -> Shortest:
        return Shortest(np.zeros(len(pool), np.float32))

    def shape(self, state: Shortest, pool: PromptPool, outcome: Outcome) -> Floats:
        shortest_R = state.tokens_N[outcome.plan.selection.prompt_B[outcome.group_R]].astype(np.float64)
        bonus_R = self.bonus(outcome.n_tokens_R, shortest_R, outcome.score_R > CORRECT)
        return outcome.score_R + self.weight * bonus_R

    def bonus(self, n_tokens_R: Ints, shortest_R: Floats, correct_R: NDArray[np.bool_]) -> Floats:
        """(R,) the length reward; 0 where there is no shortest answer yet."""
        known_R = shortest_R > 0
        share_R = np.minimum(n_tokens_R / np.where(known_R, shortest_R, 1.0), 2.0)
        cosine_R = np.cos(0.5 * np.pi * share_R)
        return np.where(known_R, np.where(correct_R, np.maximum(cosine_R, LEAST_CORRECT), np.minimum(cosine_R, 0.0)), 0.0)

    def update(self, state: Shortest, pool: PromptPool, feedback: Feedback) -> Shortest:
        outcome = feedback.outcome
        correct_R = outcome.score_R > CORRECT
        prompt_B = outcome.plan.selection.prompt_B
        visited = np.unique(prompt_B)
        held = state.tokens_N[visited] * np.float32(1.0 + self.forgetting)
        held = np.minimum(np.where(held > 0, held, np.inf), np.finfo(np.float32).max)
        np.minimum.at(
            held,
            np.searchsorted(visited, prompt_B[outcome.group_R[correct_R]]),
            np.maximum(outcome.n_tokens_R[correct_R], 1).astype(np.float32),
        )
        state.tokens_N[visited] = np.where(held < np.finfo(np.float32).max, held, 0.0)
        return state

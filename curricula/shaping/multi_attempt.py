"""Several attempts in one rollout: a wrong answer is followed by another try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curricula.registry import register
from curricula.stages import Stateless, Unlimited
from curricula.types import CurriculaError, Floats, Ints, Outcome, PromptPool

RIGHT = 0.5  # scores above this are right


@register("shaping", "multi_attempt")
@dataclass(frozen=True)
class MultiAttempt(Unlimited, Stateless):
    """Let a rollout try again after a wrong answer, and reward it if any attempt is right. arXiv 2503.04808.

    1 x discount^(attempts used - 1) for a rollout that gets there, -penalty for one that does not; right is a score above 1/2, and
    a right answer ends the rollout, so the last verdict decides. Of ``max_attempts``, which a pacing may lower or raise, a rollout
    gets a number drawn uniformly from 1 on (``draw: uniform``, as published) or all (``fixed``). The text between attempts is the
    host's, ``rollout.feedback`` in a recipe; its tokens carry no loss. All attempts together have one completion's token limit.

    Departures: the number is drawn per group, not per rollout, so that the rollouts that are compared had the same chances; the
    release's larger penalty for answers in no readable form is left out, and so are the degrees of graded rewards. Raw rewards,
    which beliefs and filters read, are of the last attempt: a pass rate is that of whole rollouts, of groups with one attempt and
    with many. For models that should learn to use feedback; held-out scores are of one attempt, where the published gain is less.

    >>> MultiAttempt(discount=0.5).reward(np.array([1.0, 1.0, 0.0]), np.array([1, 3, 3]))
    array([ 1.  ,  0.25, -0.5 ])
    """

    max_attempts: int = 5
    discount: float = 1.0
    penalty: float = 0.5
    draw: Literal["uniform", "fixed"] = "uniform"

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise CurriculaError(f"multi_attempt.max_attempts: expected a number >= 1, got {self.max_attempts}")
        if not 0 < self.discount <= 1:
            raise CurriculaError(f"multi_attempt.discount: expected a factor in (0, 1], got {self.discount}")
        if not 0 <= self.penalty < np.inf:
            raise CurriculaError(f"multi_attempt.penalty: expected a finite number >= 0, got {self.penalty}")

    def turns(self, state: Any, pool: PromptPool, prompt_B: Ints, rng: np.random.Generator) -> Ints:
        """(B,) attempts that each rollout of the group may make; drawn in the order of prompt ids."""
        turns_B = np.full(len(prompt_B), self.max_attempts, dtype=np.int64)
        if self.draw == "uniform":
            turns_B[np.argsort(pool.ids[prompt_B])] = rng.integers(1, self.max_attempts, len(prompt_B), endpoint=True)
        return turns_B

    def shape(self, state: Any, pool: PromptPool, outcome: Outcome) -> Floats:
        return self.reward(outcome.score_R, outcome.n_turns_R)

    def reward(self, score_R: Floats, n_turns_R: Ints) -> Floats:
        """(R,) by the last attempt's score and the number of attempts made; NaN where there is no score."""
        reward_R = np.where(score_R > RIGHT, self.discount ** (n_turns_R - 1.0), -self.penalty)
        return np.where(np.isnan(score_R), np.nan, reward_R)

"""Prompts with the largest expected variance of the reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.groups import n_scored
from curricula.inclusion import choose_among_candidates, proportional, top
from curricula.registry import register
from curricula.stages import Believed, Quota
from curricula.types import Bools, CurriculaError, Estimate, Feedback, Floats, Ints, PromptPool, Selection


class SeenState(NamedTuple):
    """One byte per prompt."""

    seen_N: Bools  # (N,) prompts with a scored rollout


@register("selector", "learnability")
@dataclass(frozen=True)
class Learnability:
    """The prompts with the largest expected p (1 - p) under the belief; equals share alike. LILO, arXiv 2502.12272.

    For a Beta posterior E[p (1 - p)] = alpha beta / ((alpha + beta) (alpha + beta + 1)): unlike the p (1 - p) of the mean it is
    smaller where little is known, so of two prompts with the same mean the better known one comes first.

    LILO first rolls out four times the batch, eight rollouts each, and keeps the best. Here the recipe's belief takes the place of
    those pilots, and the share ``pilots`` of each quota goes to prompts that were never rolled out, while there are any: known good
    prompts outscore unknown ones for ever. ``floor`` is the share spread evenly over all open prompts (both ours). Prefer "nearest"
    for a target other than one half.

    >>> expected_variance(Estimate(np.array([1.0, 5.0, 9.0]), np.array([1.0, 5.0, 1.0]))).round(4)
    array([0.1667, 0.2273, 0.0818])
    """

    pilots: float = 0.25
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not (0 <= self.pilots <= 1 and 0 <= self.floor <= 1):
            raise CurriculaError(f"learnability: expected pilots and floor in 0..1, got pilots={self.pilots}, floor={self.floor}")

    def init(self, pool: PromptPool) -> SeenState:
        return SeenState(np.zeros(len(pool), np.bool_))

    def select(self, state: SeenState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        def weigh(prompt_n: Ints, expected: float) -> Floats:
            best_n, unseen_n = top(expected_variance(believed(prompt_n)), expected), ~state.seen_N[prompt_n]
            if not unseen_n.any():
                return best_n
            return (1 - self.pilots) * best_n + self.pilots * proportional(unseen_n.astype(np.float64), expected)

        return choose_among_candidates(pool, quota, weigh, self.floor, rng)

    def update(self, state: SeenState, pool: PromptPool, feedback: Feedback) -> SeenState:
        state.seen_N[feedback.plan.selection.prompt_B[n_scored(feedback.outcome) > 0]] = True
        return state


def expected_variance(estimate: Estimate) -> Floats:
    """(B,) E[p (1 - p)] under the posterior; 0 for a posterior without any evidence."""
    total_B = estimate.alpha_B + estimate.beta_B
    mean_square_B: Floats = np.maximum(total_B * (total_B + 1.0), np.finfo(np.float64).tiny)
    return estimate.alpha_B * estimate.beta_B / mean_square_B

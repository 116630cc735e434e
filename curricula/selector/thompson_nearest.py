"""Prompts whose pass rate, drawn from what is believed of it, is nearest to a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from curricula.beta_cdf import beta_between
from curricula.inclusion import OpenArm, sampled_arms
from curricula.registry import register
from curricula.stages import Believed, Quota, Stateless, Tell
from curricula.types import CurriculaError, Estimate, Floats, Ints, PromptPool, Selection
from curricula.visits import inclusion

LEAST = 1e-3  # a Beta parameter of 0 is no distribution
LEAST_PROPENSITY = 1e-12  # a draw may come from so far out in a tail that its probability rounds to 0


@register("selector", "thompson_nearest")
@dataclass(frozen=True)
class ThompsonNearest(Stateless):
    """Prompts whose drawn pass rate is nearest to ``target``: what is uncertain gets its chance. MoPPS, arXiv 2507.04632.

    A uniform pool of candidates (``pool_factor`` times the quota), one draw from each one's Beta posterior, and the nearest to the
    target are taken. The posterior is the recipe's belief: MoPPS discounts its counts (``forgetting`` of the belief "beta").

    The propensity is the probability given the draws of the other candidates: n_candidates / n_open x P(|draw - target| < distance
    of the first one left out), averaged over the two numbers of prompts that the quota may be. Visits weighted by 1 / propensity
    average one; over repeated plans the propensities of a prompt differ (``conditional_propensity``). Ours, as is ``floor``: with
    that chance a candidate's draw is uniform over 0..1 instead, so that a belief that is sure of itself can be corrected (0 is the
    paper's rule). Cheaper than selectors that score the whole pool: the belief is asked about the candidates only.

    >>> from curricula.curriculum import Curriculum
    >>> pool = PromptPool.from_columns("abcd", "xxxx", prior_pass_rate=[0.02, 0.5, 0.5, 0.98])
    >>> recipe = {"belief": {"name": "beta", "prior_strength": 1e4}, "selector": {"name": "thompson_nearest", "floor": 0.0}}
    >>> sorted(pool.ids[Curriculum.from_recipe(recipe, pool).plan(0, n_groups=2, n_rollouts=4).selection.prompt_B].tolist())
    ['b', 'c']
    """

    conditional_propensity: ClassVar[bool] = True  # it depends on the other draws

    target: float = 0.5
    pool_factor: int = 16  # candidates per prompt that is taken
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not (0 <= self.target <= 1 and 0 <= self.floor <= 1):
            raise CurriculaError(
                f"thompson_nearest: expected target and floor in 0..1, got target={self.target}, floor={self.floor}"
            )
        if self.pool_factor < 1:
            raise CurriculaError(f"thompson_nearest.pool_factor: expected >= 1, got {self.pool_factor}")

    def select(self, state: object, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        taken = [self._take(arm, believed, quota.tell, rng) for arm in sampled_arms(pool, quota, rng, self.pool_factor)]
        prompt_B = np.concatenate([np.empty(0, np.int64), *(prompt for prompt, _ in taken)])
        propensity_B = np.concatenate([np.empty(0), *(propensity for _, propensity in taken)])
        return Selection(prompt_B, pool.distribution_N[prompt_B], propensity_B)

    def _take(self, arm: OpenArm, believed: Believed, tell: Tell | None, rng: np.random.Generator) -> tuple[Ints, Floats]:
        estimate = believed(arm.prompt_n)
        distance = np.abs(self._draws(estimate, rng) - self.target)
        order = np.argsort(distance, kind="stable")
        chosen = order[: arm.drawn]
        if tell is not None:
            told = inclusion(arm.expected, np.arange(len(order)), 1)
            tell(arm.prompt_n[order], told)
            return arm.prompt_n[chosen], np.maximum(told[: arm.drawn], LEAST_PROPENSITY)  # given the draws, its own too
        near = self._near(Estimate(estimate.alpha_B[chosen], estimate.beta_B[chosen]), distance[order], arm.expected)
        return arm.prompt_n[chosen], np.maximum(arm.share * near, LEAST_PROPENSITY)

    def _draws(self, estimate: Estimate, rng: np.random.Generator) -> Floats:
        n = len(estimate.alpha_B)
        drawn = rng.beta(np.maximum(estimate.alpha_B, LEAST), np.maximum(estimate.beta_B, LEAST))
        return np.where(rng.random(n) < self.floor, rng.random(n), drawn)

    def _near(self, estimate: Estimate, distance_n: Floats, expected: float) -> Floats:
        """(B,) P(near enough to be among the taken), given the others' distances (ascending, the first B are those taken)."""
        rank_B, fewest = np.arange(len(estimate.alpha_B)), int(np.floor(expected))
        n_taken = np.array([[fewest], [fewest + 1]])
        # how far the n-th nearest of the others is: one place further where the prompt itself stands before it
        place = np.minimum(n_taken - (rank_B >= n_taken), len(distance_n))
        reach = np.where(n_taken > 0, np.append(distance_n, np.inf)[place], 0.0)
        few, more = self._within(estimate, reach)
        near_B: Floats = (fewest + 1 - expected) * few + (expected - fewest) * more
        return near_B

    def _within(self, estimate: Estimate, reach: Floats) -> Floats:
        """(any, B) P(|draw - target| < reach)"""
        low, high = np.clip(self.target - reach, 0.0, 1.0), np.clip(self.target + reach, 0.0, 1.0)
        mass = beta_between(np.maximum(estimate.alpha_B, LEAST), np.maximum(estimate.beta_B, LEAST), low, high)
        chance: Floats = (1 - self.floor) * mass + self.floor * (high - low)
        return chance

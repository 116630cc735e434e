"""Prompts near a target pass rate, by a softmax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curricula.inclusion import boltzmann, choose_among_candidates, top
from curricula.registry import register
from curricula.stages import Believed, Quota, Stateless
from curricula.types import CurriculaError, Floats, Ints, PromptPool, Selection


@register("selector", "bots")
@dataclass(frozen=True)
class Bots(Stateless):
    """Softmax over -|target - p| / tau of the believed pass rate p, without repeats; the nearest at tau 0. BOTS, arXiv 2510.26374.

    p is the posterior mean; for a draw from the posterior take "thompson_nearest". The counts with pseudo-counts from anchor models
    are the belief's part. Chances are min(1, c x softmax), exact without replacement. ``floor`` is the share of each quota spread
    evenly over all open prompts (ours).

    >>> from curricula.curriculum import Curriculum
    >>> pool = PromptPool.from_columns("ab", "xx", prior_pass_rate=[0.5, 0.3])
    >>> recipe = {"selector": {"name": "bots", "tau": 0.1, "floor": 0.0}}
    >>> Curriculum.from_recipe(recipe, pool).plan(0, n_groups=1, n_rollouts=2).selection.propensity_B.round(4)  # 1 / (1 + exp(-2))
    array([0.8808])
    """

    target: float = 0.5
    tau: float = 0.1
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not (0 <= self.target <= 1 and 0 <= self.floor <= 1):
            raise CurriculaError(f"bots: expected target and floor in 0..1, got target={self.target}, floor={self.floor}")
        if not 0 <= self.tau < np.inf:
            raise CurriculaError(f"bots.tau: expected a finite number >= 0, got {self.tau}")

    def select(self, state: object, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        def weigh(prompt_n: Ints, expected: float) -> Floats:
            score_n = -np.abs(believed(prompt_n).mean_B - self.target)
            return boltzmann(score_n, self.tau, expected) if self.tau > 0 else top(score_n, expected)

        return choose_among_candidates(pool, quota, weigh, self.floor, rng)

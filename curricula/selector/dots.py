"""Prompts of middling predicted difficulty, by a sharp softmax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curricula.inclusion import boltzmann, choose_among_candidates
from curricula.registry import register
from curricula.stages import Believed, Quota, Stateless
from curricula.types import CurriculaError, PromptPool, Selection


@register("selector", "dots")
@dataclass(frozen=True)
class Dots(Stateless):
    """Softmax over -|p - 1/2| / tau with a tau so small that it all but ranks, without repeats. DOTS, arXiv 2506.05316.

    p is what the belief predicts; the paper's attends from each prompt to 256 reference prompts that it rolls out every second
    step. At the paper's tau = 0.001 probabilities underflow, so ratios are taken in log space: prompts further out still come in
    order. Without replacement chances are min(1, c x softmax) (the paper draws one by one). Replay of old groups, the other half of
    the paper, is not a selector's. ``floor`` is the share of each quota spread evenly over all open prompts (ours).

    >>> from curricula.curriculum import Curriculum
    >>> pool = PromptPool.from_columns("ab", "xx", prior_pass_rate=[0.5, 0.499])
    >>> recipe = {"selector": {"name": "dots", "floor": 0.0}}
    >>> Curriculum.from_recipe(recipe, pool).plan(0, n_groups=1, n_rollouts=2).selection.propensity_B.round(4)  # 1 / (1 + exp(-1))
    array([0.7311])
    """

    tau: float = 0.001
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.tau < np.inf:
            raise CurriculaError(f"dots.tau: expected a finite number above 0, got {self.tau}")
        if not 0 <= self.floor <= 1:
            raise CurriculaError(f"dots.floor: expected 0..1, got {self.floor}")

    def select(self, state: object, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        return choose_among_candidates(
            pool, quota, lambda prompt_n, n: boltzmann(-np.abs(believed(prompt_n).mean_B - 0.5), self.tau, n), self.floor, rng
        )

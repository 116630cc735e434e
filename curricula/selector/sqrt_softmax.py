"""Prompts in proportion to the exponential of their rewards' standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from curricula.inclusion import boltzmann, choose_among_candidates
from curricula.registry import register
from curricula.stages import Believed, Quota, Stateless
from curricula.types import CurriculaError, Estimate, Floats, PromptPool, Selection

UPSTREAM_SCALE = 0.01


@register("selector", "sqrt_softmax")
@dataclass(frozen=True)
class SqrtSoftmax(Stateless):
    """Softmax over sqrt(p (1 - p)) / tau of the believed pass rate p, without repeats. CurES, arXiv 2510.01037.

    The paper's belief is the recipe's "beta" with ``prior_alpha = prior_beta = 1`` and ``forgetting = 0``: p = (k + 1) / (n + 2).
    Chances are min(1, c x softmax), so that they stay exact without replacement (the paper draws a batch one by one).

    ``compat="upstream"`` is the released code, which divides by (k + 1) / 0.01, k the successes of the prompt, and ignores ``tau``:
    no prompt is then more than half a percent likelier than another, so it hardly differs from "uniform". ``floor`` is the share of
    each quota spread evenly over all open prompts (ours).

    >>> from curricula.curriculum import Curriculum
    >>> pool = PromptPool.from_columns("ab", "xx", prior_pass_rate=[0.5, 0.1])
    >>> recipe = {"selector": {"name": "sqrt_softmax", "tau": 0.1, "floor": 0.0}}
    >>> Curriculum.from_recipe(recipe, pool).plan(0, n_groups=1, n_rollouts=2).selection.propensity_B.round(4)  # 1 / (1 + exp(-2))
    array([0.8808])
    """

    tau: float = 0.1
    compat: Literal["stated", "upstream"] = "stated"
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.tau < np.inf:
            raise CurriculaError(f"sqrt_softmax.tau: expected a finite number above 0, got {self.tau}")
        if not 0 <= self.floor <= 1:
            raise CurriculaError(f"sqrt_softmax.floor: expected 0..1, got {self.floor}")

    def select(self, state: object, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        return choose_among_candidates(
            pool, quota, lambda prompt_n, n: boltzmann(self._score(believed(prompt_n)), 1.0, n), self.floor, rng
        )

    def _score(self, estimate: Estimate) -> Floats:
        p_B = estimate.mean_B
        spread_B: Floats = np.sqrt(p_B * (1.0 - p_B))
        if self.compat == "stated":
            return spread_B / self.tau
        spread_B *= UPSTREAM_SCALE / np.maximum(estimate.alpha_B, UPSTREAM_SCALE)
        return spread_B

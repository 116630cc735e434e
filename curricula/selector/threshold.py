"""Prompts that the policy is able to solve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from curricula.inclusion import choose_among_candidates, proportional
from curricula.registry import register
from curricula.stages import Believed, Quota, Stateless
from curricula.types import CurriculaError, Floats, Ints, PromptPool, Selection

SLIGHT = 1e-9  # weight of an open prompt that is always or never solved


@register("selector", "threshold")
@dataclass(frozen=True)
class Threshold(Stateless):
    """The prompts whose difficulty is within the policy's ability: a believed pass rate of at least ``at``. PUDF, arXiv 2408.05326.

    With one-parameter item response theory, difficulty <= ability means a pass rate >= 1/2; ``at`` = q is difficulty <= ability -
    log(q / (1 - q)), and belief ``irt`` gives the paper's estimates. Open prompts share alike, or by p (1 - p). At least a share
    ``least`` of the distribution is open, and as many as are wanted: the limit falls until there are enough, equals together.
    The paper fine-tunes with supervision; the weight, ``least`` and ``floor`` (share spread evenly over all prompts) are ours.

    >>> from curricula.curriculum import Curriculum
    >>> pool = PromptPool.from_columns("abcd", "xxxx", prior_pass_rate=[0.1, 0.45, 0.8, 0.95])
    >>> curriculum = Curriculum.from_recipe({"selector": "threshold"}, pool)
    >>> curriculum.plan(0, n_groups=1, n_rollouts=2).selection.propensity_B
    array([0.4875])
    """

    at: float = 0.5
    least: float = 0.1
    weight: Literal["even", "learnability"] = "even"
    floor: float = 0.05

    def __post_init__(self) -> None:
        for key in ("at", "least", "floor"):
            if not 0 <= getattr(self, key) <= 1:
                raise CurriculaError(f"threshold.{key}: expected 0..1, got {getattr(self, key)}")

    def select(self, state: object, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        return choose_among_candidates(pool, quota, lambda prompt_n, n: self.weigh(believed(prompt_n).mean_B, n), self.floor, rng)

    def weigh(self, rate_n: Floats, expected: float) -> Floats:
        """(n,) inclusion probabilities of prompts with these believed pass rates."""
        n_least = min(max(int(np.ceil(expected)), int(np.ceil(self.least * len(rate_n)))), len(rate_n))
        easiest: Ints = np.partition(rate_n, len(rate_n) - n_least)
        open_n = rate_n >= min(self.at, easiest[len(rate_n) - n_least])
        weight_n = np.ones(len(rate_n)) if self.weight == "even" else np.maximum(rate_n * (1 - rate_n), SLIGHT)
        return proportional(np.where(open_n, weight_n, 0.0), expected)

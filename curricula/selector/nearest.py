"""Prompts whose pass rate is nearest to a target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curricula.inclusion import choose_among_candidates, top
from curricula.registry import register
from curricula.stages import Believed, Quota, Stateless
from curricula.types import CurriculaError, PromptPool, Selection


@register("selector", "nearest")
@dataclass(frozen=True)
class Nearest(Stateless):
    """The prompts whose believed pass rate is nearest to ``target``; equals share alike. PCL, arXiv 2510.01135.

    The belief is the recipe's: counts, a regression on features (PCL's value model), or a stated prior. A moving target is a pacing
    (AdaRFT, arXiv 2504.05520). ``floor`` is the share of each quota that is spread evenly over all open prompts (ours): what nobody
    rolls out is never believed anew.

    >>> from curricula.curriculum import Curriculum
    >>> pool = PromptPool.from_columns("abcd", "xxxx", prior_pass_rate=[0.1, 0.45, 0.8, 0.95])
    >>> curriculum = Curriculum.from_recipe({"selector": {"name": "nearest", "floor": 0.0}}, pool)
    >>> pool.ids[curriculum.plan(0, n_groups=2, n_rollouts=4).selection.prompt_B]
    array(['b', 'c'], dtype='<U1')
    """

    target: float = 0.5
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not (0 <= self.target <= 1 and 0 <= self.floor <= 1):
            raise CurriculaError(f"nearest: expected target and floor in 0..1, got target={self.target}, floor={self.floor}")

    def select(self, state: object, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        return choose_among_candidates(
            pool, quota, lambda prompt_n, n: top(-np.abs(believed(prompt_n).mean_B - self.target), n), self.floor, rng
        )

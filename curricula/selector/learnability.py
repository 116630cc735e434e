"""Prompts with the largest expected variance of the reward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curricula.inclusion import choose, top
from curricula.registry import register
from curricula.stages import Believed, Quota, Stateless
from curricula.types import CurriculaError, Estimate, Floats, PromptPool, Selection


@register("selector", "learnability")
@dataclass(frozen=True)
class Learnability(Stateless):
    """The prompts with the largest expected p (1 - p) under the belief; equals share alike. LILO, arXiv 2502.12272.

    For a Beta posterior E[p (1 - p)] = alpha beta / ((alpha + beta) (alpha + beta + 1)): unlike the p (1 - p) of the mean it is
    smaller where little is known, so of two prompts with the same mean the better known one comes first.

    LILO rolls out four times the batch, eight rollouts each, and keeps the best; here the recipe's belief takes the place of those
    pilots (a budget with pilots pays for them again). ``floor`` is the share of each quota spread evenly over all open prompts
    (ours). Prefer "nearest" for a target other than one half.

    >>> expected_variance(Estimate(np.array([1.0, 5.0, 9.0]), np.array([1.0, 5.0, 1.0]))).round(4)
    array([0.1667, 0.2273, 0.0818])
    """

    floor: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise CurriculaError(f"learnability.floor: expected 0..1, got {self.floor}")

    def select(self, state: object, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        return choose(pool, quota, lambda prompt_n, n: top(expected_variance(believed(prompt_n)), n), self.floor, rng)


def expected_variance(estimate: Estimate) -> Floats:
    """(B,) E[p (1 - p)] under the posterior; 0 for a posterior without any evidence."""
    total_B = estimate.alpha_B + estimate.beta_B
    mean_square_B: Floats = np.maximum(total_B * (total_B + 1.0), np.finfo(np.float64).tiny)
    return estimate.alpha_B * estimate.beta_B / mean_square_B

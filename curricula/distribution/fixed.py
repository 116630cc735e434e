"""Shares written in the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curricula.registry import register
from curricula.stages import NoState, Stateless
from curricula.types import CurriculaError, Floats, PromptPool, known_or_raise


@register("distribution", "fixed")
@dataclass(frozen=True)
class FixedWeights(Stateless):
    """Shares in proportion to weights by distribution name. Ours.

    Distributions that are not named get weight 0 (the exploration floor still reaches them); no weights at all means equal ones.

    >>> pool = PromptPool.from_columns("abc", ["easy", "hard", "hard"])
    >>> FixedWeights({"easy": 3, "hard": 1}).probabilities(None, pool)
    array([0.75, 0.25])
    """

    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bad = [name for name, weight in self.weights.items() if not (np.isfinite(weight) and weight >= 0)]
        if bad:
            raise CurriculaError(f"fixed.weights: {bad[0]!r} is {self.weights[bad[0]]}, expected a finite number >= 0")
        if self.weights and sum(self.weights.values()) <= 0:
            raise CurriculaError("fixed.weights: all are 0, expected at least one above 0")

    def init(self, pool: PromptPool) -> NoState:
        for name in self.weights:
            known_or_raise("distribution in fixed.weights:", name, pool.distribution_names)
        return NoState()

    def probabilities(self, state: Any, pool: PromptPool) -> Floats:
        weight_K = np.array([self.weights.get(name, 0.0) for name in pool.distribution_names], dtype=np.float64)
        if not self.weights:
            weight_K[:] = 1.0
        share_K: Floats = weight_K / weight_K.max()  # first by the largest: the sum of huge weights would overflow
        share_K /= share_K.sum()
        return share_K

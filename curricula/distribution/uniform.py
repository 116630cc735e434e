"""The same share for every distribution, or for every prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import Floats, PromptPool


@register("distribution", "uniform")
@dataclass(frozen=True)
class Uniform(Stateless):
    """Every distribution, or every prompt, is equally likely. Ours; the baseline that every curriculum is compared with.

    >>> pool = PromptPool.from_columns("abcd", ["easy", "easy", "easy", "hard"])
    >>> Uniform(over="prompts").probabilities(None, pool)
    array([0.75, 0.25])
    """

    over: Literal["distributions", "prompts"] = "distributions"

    def probabilities(self, state: Any, pool: PromptPool) -> Floats:
        if self.over == "prompts":
            return pool.size_K / len(pool)
        return np.full(pool.n_distributions, 1.0 / pool.n_distributions)

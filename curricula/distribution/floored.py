"""A least share for every distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curricula.distribution.dump_ucb import DumpUCB
from curricula.growth import carried_state
from curricula.registry import register
from curricula.stages import Distribution
from curricula.types import CurriculaError, Feedback, Floats, PromptPool


@register("distribution", "floored")
@dataclass(frozen=True)
class Floored:
    """The shares of another policy, but at least ``share`` of the step for every distribution. Ours.

    Distributions below ``share`` are raised to it; the others give in proportion to their shares, and one that falls below by
    giving is raised as well. Unlike the curriculum's exploration, which is mixed into every share, it leaves the shares alone
    where all are large enough. ``share`` x number of distributions may be at most 1.

    >>> raised(np.array([0.7, 0.28, 0.02]), 0.1).round(4)
    array([0.6429, 0.2571, 0.1   ])
    """

    inner: Distribution = DumpUCB()
    share: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise CurriculaError(f"floored.share: expected a number in 0..1, got {self.share}")

    def init(self, pool: PromptPool) -> Any:
        if self.share * pool.n_distributions > 1 + 1e-9:
            raise CurriculaError(
                f"floored.share: {self.share} for each of {pool.n_distributions} distributions is more than the whole; "
                f"expected at most {1 / pool.n_distributions:.4g}"
            )
        return self.inner.init(pool)

    def carry(self, state: Any, old: PromptPool, new: PromptPool) -> Any:
        """The inner policy's state for a grown pool."""
        self.init(new)
        return carried_state(self.inner, state, old, new)

    def probabilities(self, state: Any, pool: PromptPool) -> Floats:
        inner_K = self.inner.probabilities(state, pool)
        return raised(inner_K / inner_K.sum(), self.share)

    def update(self, state: Any, pool: PromptPool, feedback: Feedback) -> Any:
        return self.inner.update(state, pool, feedback)


def raised(share_K: Floats, least: float) -> Floats:
    """(K,) shares that are at least ``least`` and sum to 1; the larger ones stay in proportion to each other."""
    low_K = np.zeros(len(share_K), dtype=np.bool_)
    while True:
        rest = share_K[~low_K].sum()
        left = 1.0 - least * np.count_nonzero(low_K)
        scaled_K = np.where(low_K, least, share_K * (left / rest if rest > 0 else 0.0))
        below_K = ~low_K & (scaled_K < least)
        if not below_K.any():
            scaled_K /= scaled_K.sum()
            return scaled_K
        low_K |= below_K

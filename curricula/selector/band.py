"""Only prompts of middling difficulty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from curricula.combinators import Around, narrowed
from curricula.registry import register
from curricula.selector.uniform import UniformWithoutReplacement
from curricula.stages import Believed, Quota, Selector
from curricula.types import CurriculaError, Feedback, Floats, PromptPool, Selection


class BandState(NamedTuple):
    """Nothing of its own."""

    inner: Any


@register("selector", "band")
@dataclass(frozen=True)
class Band(Around):
    """Leaves out prompts whose believed pass rate lies outside [low, high], around any selector. Ours.

    Filter ``difficulty_band`` (arXiv 2504.03380) rejects what was rolled out; this saves the rollouts where the belief is good.
    Where too few prompts are left, those nearest to the band are opened again, equals together. A prompt outside returns when
    its belief does: take a belief that forgets.

    >>> Band(low=0.25, high=0.75).outside(np.array([0.0, 0.25, 0.5, 1.0]))
    array([0.25, 0.  , 0.  , 0.25])
    """

    inner: Selector = UniformWithoutReplacement()
    low: float = 0.1
    high: float = 0.9

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise CurriculaError(f"band: expected 0 <= low < high <= 1, got low={self.low}, high={self.high}")

    def init(self, pool: PromptPool) -> BandState:
        return BandState(self.inner.init(pool))

    def outside(self, rate_n: Floats) -> Floats:
        """(n,) how far pass rates lie outside the band; 0 inside."""
        far_n = np.maximum(self.low - rate_n, rate_n - self.high)
        return np.where(far_n > 1e-12, far_n, 0.0)

    def select(self, state: BandState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        regret_N = self.outside(believed(np.arange(len(pool))).mean_B)
        return self.inner.select(state.inner, pool, narrowed(pool, quota, regret_N), believed, rng)

    def update(self, state: BandState, pool: PromptPool, feedback: Feedback) -> BandState:
        return BandState(self.inner.update(state.inner, pool, feedback))

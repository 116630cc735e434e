"""Refills that ask for a few groups more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from curricula.filter.nonzero_variance import NonZeroVariance
from curricula.growth import carried_state
from curricula.registry import register
from curricula.stages import Filter
from curricula.types import CurriculaError, Feedback, Outcome, PromptPool, Verdict


@register("filter", "top_up")
@dataclass(frozen=True)
class TopUp:
    """Another filter, whose refills ask for ``margin`` times the groups that are expected to be enough. GRESO, arXiv 2506.02177.

    More groups than missing are paid for, and fewer steps need a further attempt, which every engine waits for. Groups beyond the
    step's own are SURPLUS. The size is `curricula.refill.refill_size`; nothing changes under an inner filter that does not refill.

    >>> TopUp().inner
    NonZeroVariance(tolerance=1e-06, refill='resample')
    """

    inner: Filter = NonZeroVariance()
    margin: float = 1.25

    def __post_init__(self) -> None:
        if not 1 <= self.margin <= 100:
            raise CurriculaError(f"top_up.margin: expected a factor in 1..100, got {self.margin}")

    def init(self, pool: PromptPool) -> Any:
        return self.inner.init(pool)

    def carry(self, state: Any, old: PromptPool, new: PromptPool) -> Any:
        """The inner policy's state for a grown pool."""
        return carried_state(self.inner, state, old, new)

    def update(self, state: Any, pool: PromptPool, feedback: Feedback) -> Any:
        return self.inner.update(state, pool, feedback)

    def judge(self, state: Any, pool: PromptPool, outcome: Outcome) -> Verdict:
        return replace(self.inner.judge(state, pool, outcome), refill_margin=self.margin)

"""The last few visits of a prompt, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.evidence import by_prompt, prior_counts
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Ints, PromptPool


class TraceState(NamedTuple):
    """8 bytes per prompt and visit; a visit that never was has n = 0."""

    success_NH: NDArray[np.float32]  # (N, visits), newest first
    n_NH: NDArray[np.float32]  # scored rollouts


@register("belief", "trace")
@dataclass(frozen=True)
class Trace:
    """The pass rate over the last few visits of a prompt; older visits weigh less, and what is older still is gone.

    alpha = alpha_0 + sum over h = 0, 1, .. of discount^h x successes of the h-th newest visit, beta likewise. GRESO (arXiv
    2506.02177) keeps such a trace and skips prompts whose newest visits were all right or all wrong; the Beta made of it is ours.
    A prompt's run of visits without any success (or failure) shows as a mean near 0 (or 1). All groups of a prompt in one step
    are one visit.

    Use it where a prompt's pass rate moves fast and evidence of long ago should have no say at all.

    >>> pool = PromptPool.from_columns(["a"], ["easy"])
    >>> belief = Trace()
    >>> state = belief.init(pool)
    >>> state.success_NH[0, :2], state.n_NH[0, :2] = (8, 2), (8, 8)
    >>> belief.estimate(state, pool, np.array([0])).alpha_B
    array([10.])
    """

    visits: int = 4
    discount: float = 0.5  # weight of a visit against the one after it
    prior_alpha: float = 1.0
    prior_beta: float = 1.0
    prior_strength: float = 4.0  # rollouts that a stated pass rate is worth

    def __post_init__(self) -> None:
        if self.visits < 1:
            raise CurriculaError(f"trace.visits: expected >= 1, got {self.visits}")
        if not 0 <= self.discount <= 1:
            raise CurriculaError(f"trace.discount: expected 0..1, got {self.discount}")
        for key in ("prior_alpha", "prior_beta", "prior_strength"):
            if not 0 < getattr(self, key) < np.inf:
                raise CurriculaError(f"trace.{key}: expected a finite number above 0, got {getattr(self, key)}")

    def init(self, pool: PromptPool) -> TraceState:
        shape = (len(pool), self.visits)
        return TraceState(np.zeros(shape, np.float32), np.zeros(shape, np.float32))

    def estimate(self, state: TraceState, pool: PromptPool, prompt_B: Ints) -> Estimate:
        weight_H = np.power(self.discount, np.arange(state.n_NH.shape[1]))
        success_B, n_B = state.success_NH[prompt_B] @ weight_H, state.n_NH[prompt_B] @ weight_H
        alpha_0, beta_0 = prior_counts(pool, prompt_B, self.prior_alpha, self.prior_beta, self.prior_strength)
        return Estimate(alpha_0 + success_B, beta_0 + np.maximum(n_B - success_B, 0.0))

    def update(self, state: TraceState, pool: PromptPool, feedback: Feedback) -> TraceState:
        seen = by_prompt(feedback.outcome)
        for trace_NH, newest_B in ((state.success_NH, seen.success_B), (state.n_NH, seen.n_B)):
            trace_NH[seen.prompt_B, 1:] = trace_NH[seen.prompt_B, :-1]
            trace_NH[seen.prompt_B, 0] = newest_B
        return state

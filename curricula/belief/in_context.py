"""Counts of the newest prompts, shared with prompts like them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.evidence import by_prompt, prior_counts
from curricula.features import each, likeness, median_distance, rows, width
from curricula.references import References, ages, carried_references, filled, no_references, remembered
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Floats, Ints, PromptPool


class ContextState(NamedTuple):
    """Nothing per prompt."""

    references: References
    scale: Floats  # () distance over which prompts are alike


@register("belief", "in_context")
@dataclass(frozen=True)
class InContext:
    """Successes and failures of the newest prompts, each counted as far as it is like the prompt in question.

    alpha = alpha_0 + c sum over i of k_i x successes_i, beta likewise, k_i = exp(-|x - x_i|^2 / (2 scale^2)) x (1 -
    forgetting)^age with age in prompts, and c <= 1 such that the sums together are worth at most ``strength`` rollouts. A scale
    of 0 means a quarter of the median distance of the pool.

    V0 (arXiv 2602.03584) asks the same question, what do the last 256 (prompt, score) pairs say of this prompt, but answers with
    a trained adapter and a tabular foundation model (TabPFN). Neither is here: the kernel is ours, and this policy is the place
    where such a predictor goes. Its users report near-random answers below 128 pairs; a kernel needs a few neighbours and good
    features. Without features it counts the newest rollouts of the prompt's distribution, and little of the others'.

    An answer costs window x F per prompt.

    >>> pool = PromptPool.from_columns("ab", "xx", prior_pass_rate=[0.25, np.nan])
    >>> belief = InContext()
    >>> belief.estimate(belief.init(pool), pool, np.array([0, 1])).alpha_B
    array([1., 1.])
    """

    window: int = 256  # prompts
    scale: float = 0.0
    forgetting: float = 0.0  # share of the evidence that is lost with each newer prompt
    strength: float = 8.0  # rollouts that the neighbours are worth at most
    prior_alpha: float = 1.0
    prior_beta: float = 1.0
    prior_strength: float = 4.0  # rollouts that a stated pass rate is worth

    def __post_init__(self) -> None:
        if self.window < 1:
            raise CurriculaError(f"in_context.window: expected >= 1, got {self.window}")
        if not 0 <= self.scale < np.inf:
            raise CurriculaError(f"in_context.scale: expected a finite number >= 0, got {self.scale}")
        if not 0 <= self.forgetting <= 1:
            raise CurriculaError(f"in_context.forgetting: expected 0..1, got {self.forgetting}")
        for key in ("strength", "prior_alpha", "prior_beta", "prior_strength"):
            if not 0 < getattr(self, key) < np.inf:
                raise CurriculaError(f"in_context.{key}: expected a finite number above 0, got {getattr(self, key)}")

    def init(self, pool: PromptPool) -> ContextState:
        width(pool, "in_context")
        return ContextState(no_references(self.window), np.array(self.scale or 0.25 * median_distance(pool)))

    def estimate(self, state: ContextState, pool: PromptPool, prompt_B: Ints) -> Estimate:
        there = filled(state.references)
        x_WF = rows(pool, state.references.prompt_W[there])
        kept_W = np.power(1.0 - self.forgetting, ages(state.references)[there])
        count_W2 = kept_W[:, None] * np.stack([state.references.success_W[there], state.references.n_W[there]], axis=1)
        success_B, n_B = each(pool, prompt_B, lambda x_BF: likeness(x_BF, x_WF, float(state.scale)) @ count_W2).T
        share_B = self.strength / np.maximum(n_B, self.strength)
        alpha_0, beta_0 = prior_counts(pool, prompt_B, self.prior_alpha, self.prior_beta, self.prior_strength)
        return Estimate(alpha_0 + share_B * success_B, beta_0 + share_B * np.maximum(n_B - success_B, 0.0))

    def update(self, state: ContextState, pool: PromptPool, feedback: Feedback) -> ContextState:
        return state._replace(references=remembered(state.references, by_prompt(feedback.outcome)))

    def carry(self, state: ContextState, old: PromptPool, new: PromptPool) -> ContextState:
        """The state in a larger pool: the newest prompts have other rows there."""
        return state._replace(references=carried_references(state.references, old, new))

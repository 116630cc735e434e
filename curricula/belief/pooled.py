"""A prompt's own counts on top of what its distribution does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.belief.beta import BetaCounts, BetaState
from curricula.evidence import by_group
from curricula.groups import means
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Floats, Ints, PromptPool

START_WEIGHT = 2.0  # rollouts that the rate of a distribution is worth before its first, as in Beta(1, 1)


class PooledState(NamedTuple):
    """12 bytes per prompt and 24 per distribution. Counts of a distribution are as of the newest policy version."""

    own: BetaState
    success_K: Floats
    failure_K: Floats
    start_K: Floats  # mean stated pass rate; 0.5 where none is stated


@register("belief", "pooled")
@dataclass(frozen=True)
class Pooled:
    """Beta posterior per prompt whose prior is the running pass rate of its distribution. Ours, after empirical Bayes.

    alpha = strength x rate_k + faded successes, beta = strength x (1 - rate_k) + faded failures; rate_k is the pass rate of all
    rollouts of the distribution, faded by the same clock on policy versions as in `beta`, and begins at the mean of the pass
    rates that the data states for it. A prompt's own evidence is part of its distribution's rate.

    Use it with many prompts and few visits each: a prompt never seen is believed to be like its siblings, as they are now.

    >>> pool = PromptPool.from_columns("abc", "xxx", prior_pass_rate=[0.2, 0.6, np.nan])
    >>> belief = Pooled(strength=10)
    >>> belief.estimate(belief.init(pool), pool, np.array([2])).alpha_B
    array([4.])
    """

    forgetting: float = 0.02  # share of the evidence that is lost per policy version
    strength: float = 4.0  # rollouts that the distribution's rate is worth

    def __post_init__(self) -> None:
        if not 0 <= self.forgetting <= 1:
            raise CurriculaError(f"pooled.forgetting: expected 0..1, got {self.forgetting}")
        if not 0 < self.strength < np.inf:
            raise CurriculaError(f"pooled.strength: expected a finite number above 0, got {self.strength}")

    def init(self, pool: PromptPool) -> PooledState:
        stated = ~np.isnan(pool.prior_pass_rate_N)
        start_K = means(pool.prior_pass_rate_N[stated], pool.distribution_N[stated], pool.n_distributions)
        zero_K = np.zeros(pool.n_distributions)
        return PooledState(self._own.init(pool), zero_K, zero_K.copy(), np.where(np.isnan(start_K), 0.5, start_K))

    def estimate(self, state: PooledState, pool: PromptPool, prompt_B: Ints) -> Estimate:
        n_K = state.success_K + state.failure_K
        rate_K = (state.success_K + START_WEIGHT * state.start_K) / (n_K + START_WEIGHT)
        rate_B = rate_K[pool.distribution_N[prompt_B]]
        own = self._own.estimate(state.own, pool, prompt_B)
        return Estimate(own.alpha_B + self.strength * rate_B, own.beta_B + self.strength * (1 - rate_B))

    def update(self, state: PooledState, pool: PromptPool, feedback: Feedback) -> PooledState:
        before = state.own.version
        own = self._own.update(state.own, pool, feedback)
        prompt_B, success_B, failure_B, version_B = by_group(feedback.outcome)
        fade = (1.0 - self.forgetting) ** (own.version - before)
        kept_B = (1.0 - self.forgetting) ** (own.version - version_B)
        arm_B, k = pool.distribution_N[prompt_B], pool.n_distributions
        success_K, failure_K = (np.bincount(arm_B, weights=kept_B * n_B, minlength=k) for n_B in (success_B, failure_B))
        return PooledState(own, fade * state.success_K + success_K, fade * state.failure_K + failure_K, state.start_K)

    @property
    def _own(self) -> BetaCounts:
        """A prompt's own fading counts, without a prior."""
        return BetaCounts(self.forgetting, prior_alpha=0.0, prior_beta=0.0, prior_strength=0.0)

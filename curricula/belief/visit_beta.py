"""Successes and failures of every prompt, fading a little at each of its own visits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.evidence import by_prompt, prior_counts
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Ints, PromptPool


class VisitCounts(NamedTuple):
    """8 bytes per prompt: evidence on top of the prior."""

    success_N: NDArray[np.float32]
    failure_N: NDArray[np.float32]


@register("belief", "visit_beta")
@dataclass(frozen=True)
class VisitBeta:
    """Beta posterior per prompt whose evidence fades at every visit of the prompt, not with the policy.

    At a visit with n rollouts and pass rate s: successes <- keep x successes + n s, failures likewise; alpha = alpha_0 +
    successes. This is alpha <- keep x alpha + (1 - keep) x alpha_0 + n s of MoPPS (arXiv 2507.04632; lambda is ``keep``, 1 by
    default) and also the running estimate of Reinforce-Ada (arXiv 2510.04996), whose counts fade without the prior: the two are
    the same rule. The released MoPPS code counts every group as 8 rollouts when n = 1, and multiplies offline counts by 3; we do
    neither. All groups of a prompt in one step are one visit. Evidence counts when it arrives, so late feedback is taken for new.

    Use it where prompts come back at very different intervals and each visit should weigh alike; otherwise `beta`.

    >>> pool = PromptPool.from_columns(["a"], ["easy"], prior_pass_rate=[0.75])
    >>> belief = VisitBeta(prior_strength=8)
    >>> belief.estimate(belief.init(pool), pool, np.array([0])).alpha_B
    array([6.])
    """

    keep: float = 1.0  # share of the evidence that outlives a visit
    prior_alpha: float = 1.0
    prior_beta: float = 1.0
    prior_strength: float = 4.0  # rollouts that a stated pass rate is worth

    def __post_init__(self) -> None:
        if not 0 <= self.keep <= 1:
            raise CurriculaError(f"visit_beta.keep: expected 0..1, got {self.keep}")
        for key in ("prior_alpha", "prior_beta", "prior_strength"):
            if not 0 < getattr(self, key) < np.inf:
                raise CurriculaError(f"visit_beta.{key}: expected a finite number above 0, got {getattr(self, key)}")

    def init(self, pool: PromptPool) -> VisitCounts:
        return VisitCounts(np.zeros(len(pool), np.float32), np.zeros(len(pool), np.float32))

    def estimate(self, state: VisitCounts, pool: PromptPool, prompt_B: Ints) -> Estimate:
        alpha_0, beta_0 = prior_counts(pool, prompt_B, self.prior_alpha, self.prior_beta, self.prior_strength)
        return Estimate(alpha_0 + state.success_N[prompt_B], beta_0 + state.failure_N[prompt_B])

    def update(self, state: VisitCounts, pool: PromptPool, feedback: Feedback) -> VisitCounts:
        seen = by_prompt(feedback.outcome)
        for count_N, n_B in ((state.success_N, seen.success_B), (state.failure_N, seen.failure_B)):
            count_N[seen.prompt_B] = self.keep * count_N[seen.prompt_B] + n_B
        return state

"""Successes and failures of every prompt, fading as the policy moves on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.evidence import by_group, prior_counts
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Floats, Ints, PromptPool

MANY = 4096  # prompts


class BetaState(NamedTuple):
    """12 bytes per prompt. Counts are as of the prompt's own stamp; they fade when they are read."""

    success_N: NDArray[np.float32]
    failure_N: NDArray[np.float32]
    stamp_N: NDArray[np.int32]  # policy version of the newest evidence
    version: NDArray[np.int64]  # () newest policy version seen anywhere


@register("belief", "beta")
@dataclass(frozen=True)
class BetaCounts:
    """Beta posterior per prompt, with exponential forgetting clocked on policy versions.

    alpha = alpha_0 + g^age x successes, beta = beta_0 + g^age x failures, g = 1 - forgetting, age in policy versions.
    Evidence counts from its own version, so feedback may be late or reordered. Fractional scores count as fractional successes.
    The discounted posterior is that of MoPPS (arXiv 2507.04632); the clock on policy versions instead of visits is ours.

    The prior of a prompt with a stated pass rate is Beta(strength x rate, strength x (1 - rate)); of any other prompt it is
    Beta(prior_alpha, prior_beta).

    >>> pool = PromptPool.from_columns(["a"], ["easy"], prior_pass_rate=[0.25])
    >>> belief = BetaCounts(prior_strength=4)
    >>> belief.estimate(belief.init(pool), pool, np.array([0])).mean_B
    array([0.25])
    """

    forgetting: float = 0.02  # share of the evidence that is lost per policy version
    prior_alpha: float = 1.0
    prior_beta: float = 1.0
    prior_strength: float = 4.0  # rollouts that a stated pass rate is worth

    def __post_init__(self) -> None:
        if not 0 <= self.forgetting <= 1:
            raise CurriculaError(f"beta.forgetting: expected 0..1, got {self.forgetting}")
        for key in ("prior_alpha", "prior_beta", "prior_strength"):
            if not 0 <= getattr(self, key) < np.inf:
                raise CurriculaError(f"beta.{key}: expected a finite number >= 0, got {getattr(self, key)}")

    def init(self, pool: PromptPool) -> BetaState:
        n = len(pool)
        return BetaState(np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.int32), np.array(0, np.int64))

    def estimate(self, state: BetaState, pool: PromptPool, prompt_B: Ints) -> Estimate:
        alpha_0, beta_0 = prior_counts(pool, prompt_B, self.prior_alpha, self.prior_beta, self.prior_strength)
        success_B, failure_B = state.success_N.take(prompt_B), state.failure_N.take(prompt_B)
        touched = np.flatnonzero(success_B + failure_B)  # the others are at their priors: most prompts, in a large pool
        seen = touched if 2 * len(touched) < len(prompt_B) else slice(None)
        kept = self._kept(state.version - state.stamp_N.take(prompt_B[seen]))
        alpha_0[seen] += kept * success_B[seen]
        beta_0[seen] += kept * failure_B[seen]
        return Estimate(alpha_0, beta_0)

    def update(self, state: BetaState, pool: PromptPool, feedback: Feedback) -> BetaState:
        prompt, n_success, n_failure, version = by_group(feedback.outcome)
        before = state.stamp_N[prompt]
        np.maximum.at(state.stamp_N, prompt, version.astype(np.int32))  # a prompt may come twice in a step (refills)
        stamp = state.stamp_N[prompt]
        old, new = self._kept(stamp - before), self._kept(stamp - version)
        for count_N, n in ((state.success_N, n_success), (state.failure_N, n_failure)):
            count_N[prompt] = old * count_N[prompt]
            np.add.at(count_N, prompt, (new * n).astype(np.float32))
        return state._replace(version=np.maximum(state.version, version.max(initial=0)))

    def _kept(self, age: Ints) -> Floats:
        if len(age) > MANY and age.max() < len(age):  # one power per age, not one per prompt
            return np.asarray(np.power(1.0 - self.forgetting, np.arange(age.max() + 1)).take(age))
        return np.power(1.0 - self.forgetting, age)

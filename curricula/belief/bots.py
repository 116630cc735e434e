"""Successes and failures of every prompt, and a share of what the others of the batch suggest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.evidence import Evidence, by_prompt, prior_counts
from curricula.groups import means
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Floats, Ints, PromptPool


class BotsState(NamedTuple):
    """12 bytes per prompt. The evidence of a prompt is what the pool was given by now plus keep^age x its own offset."""

    offset_success_N: NDArray[np.float32]  # own evidence minus what the pool was given, as of the stamp
    offset_failure_N: NDArray[np.float32]
    stamp_N: NDArray[np.int32]  # learned steps at the newest visit
    given_K: Floats  # faded pseudo rollouts that every prompt of the distribution was given so far
    given_capability_K: Floats  # the same, each times the capability of its step
    capability_K: Floats  # running; NaN = not known yet
    n_steps: NDArray[np.int64]  # () steps learned from


@register("belief", "bots")
@dataclass(frozen=True)
class Bots:
    """Beta posterior per prompt that also learns from the other prompts of each step. BOTS, arXiv 2510.26374.

    Each learned step: alpha <- (1 - forgetting) alpha + forgetting x alpha_0 + n s for prompts that came back with pass rate s,
    and + share x p~ x m for all others, beta likewise with failures; m is the mean group size of the step. p~ = f_weak +
    (f_strong - f_weak) x capability, where the columns hold pass rates under a weaker and a stronger model, and capability =
    (mean s - mean f_weak) / (mean f_strong - mean f_weak) over the step, as a running mean. Without columns p~ is the running
    pass rate of the prompt's distribution, and distributions that the step left out get no pseudo counts (ours). Where p~ misses
    the step by ``tolerance`` or more on average, the share is halved for it.

    The published update touches every prompt at every step. Both rules are linear, so here a distribution keeps two sums and a
    prompt its difference to them: the same numbers at the cost of the batch. For that, capability is clipped to [0, 1] instead of
    p~.

    Use it with large pools where a prompt comes back after many steps.

    >>> pool = PromptPool.from_columns(["a"], ["easy"])
    >>> belief = Bots()
    >>> state = belief.init(pool)._replace(given_K=np.array([3.2]), given_capability_K=np.array([3.2 * 0.6]))  # 0.2 x 16 rollouts
    >>> belief.estimate(state, pool, np.array([0])).alpha_B
    array([2.92])
    """

    forgetting: float = 0.2  # share of the evidence that is lost per learned step
    share: float = 0.2  # weight of what the others suggest
    momentum: float = 0.9  # of the running capability
    tolerance: float = 0.25  # mean error of p~ from which on it is trusted half
    weak_column: int = -1  # of the pool's features: pass rate under a weaker model; -1 = none
    strong_column: int = -1
    prior_alpha: float = 1.0
    prior_beta: float = 1.0
    prior_strength: float = 4.0  # rollouts that a stated pass rate is worth

    def __post_init__(self) -> None:
        for key in ("forgetting", "share", "momentum", "tolerance"):
            if not 0 <= getattr(self, key) <= 1:
                raise CurriculaError(f"bots.{key}: expected 0..1, got {getattr(self, key)}")
        for key in ("prior_alpha", "prior_beta", "prior_strength"):
            if not 0 < getattr(self, key) < np.inf:
                raise CurriculaError(f"bots.{key}: expected a finite number above 0, got {getattr(self, key)}")
        if min(self.weak_column, self.strong_column) < -1 or (self.weak_column < 0) != (self.strong_column < 0):
            raise CurriculaError(
                f"bots.weak_column, strong_column: expected two columns of the features, or -1 for both, "
                f"got {self.weak_column} and {self.strong_column}"
            )

    def init(self, pool: PromptPool) -> BotsState:
        self._refuse_bad_columns(pool)
        n, k = len(pool), pool.n_distributions
        zero_K = np.zeros(k)
        own = (np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.int32))
        return BotsState(*own, zero_K, zero_K.copy(), np.full(k, np.nan), np.array(0, np.int64))

    def estimate(self, state: BotsState, pool: PromptPool, prompt_B: Ints) -> Estimate:
        alpha_0, beta_0 = prior_counts(pool, prompt_B, self.prior_alpha, self.prior_beta, self.prior_strength)
        success_B, failure_B = self._evidence(state, pool, prompt_B)
        return Estimate(alpha_0 + np.maximum(success_B, 0.0), beta_0 + np.maximum(failure_B, 0.0))

    def update(self, state: BotsState, pool: PromptPool, feedback: Feedback) -> BotsState:
        seen = by_prompt(feedback.outcome)
        if not len(seen.prompt_B):
            return state
        before = self._evidence(state, pool, seen.prompt_B)
        state = self._given(state, pool, seen)
        given = self._pseudo(state, pool, seen.prompt_B)
        columns = zip((state.offset_success_N, state.offset_failure_N), before, seen[1:3], given, strict=True)
        for offset_N, had_B, n_B, given_B in columns:
            offset_N[seen.prompt_B] = (1 - self.forgetting) * had_B + n_B - given_B
        state.stamp_N[seen.prompt_B] = state.n_steps
        return state

    def _given(self, state: BotsState, pool: PromptPool, seen: Evidence) -> BotsState:
        """One more step, and what it gives to every prompt of the pool."""
        arm_B = pool.distribution_N[seen.prompt_B]
        now_K = self._capability(pool, seen)
        known_K = ~np.isnan(now_K)
        running_K = np.where(np.isnan(state.capability_K), now_K, self.momentum * state.capability_K + (1 - self.momentum) * now_K)
        weak_B, strong_B = self._anchors(pool, seen.prompt_B)
        missed_by = np.abs(weak_B + (strong_B - weak_B) * running_K[arm_B] - seen.rate_B).mean()
        share = self.share * (0.5 if missed_by >= self.tolerance else 1.0)
        new_K = np.where(known_K, share * seen.n_B.mean(), 0.0)
        return state._replace(
            given_K=(1 - self.forgetting) * state.given_K + new_K,
            given_capability_K=(1 - self.forgetting) * state.given_capability_K + new_K * np.where(known_K, running_K, 0.0),
            capability_K=np.where(known_K, running_K, state.capability_K),
            n_steps=state.n_steps + np.int64(1),
        )

    def _capability(self, pool: PromptPool, seen: Evidence) -> Floats:
        """(K,) how far the model of this step is from the weaker (0) to the stronger (1) one; NaN = the step does not say."""
        if self.weak_column < 0:
            return means(seen.rate_B, pool.distribution_N[seen.prompt_B], pool.n_distributions)
        weak_B, strong_B = self._anchors(pool, seen.prompt_B)
        way = (seen.rate_B.mean() - weak_B.mean()) / max(strong_B.mean() - weak_B.mean(), 1e-6)
        return np.full(pool.n_distributions, min(max(way, 0.0), 1.0))

    def _anchors(self, pool: PromptPool, prompt_B: Ints) -> tuple[Floats, Floats]:
        """(B,) x 2 pass rates that capabilities 0 and 1 stand for."""
        if self.weak_column < 0 or pool.features_NF is None:
            return np.zeros(len(prompt_B)), np.ones(len(prompt_B))
        rate_B2 = pool.features_NF[prompt_B][:, [self.weak_column, self.strong_column]].astype(np.float64)
        return rate_B2[:, 0], rate_B2[:, 1]

    def _evidence(self, state: BotsState, pool: PromptPool, prompt_B: Ints) -> tuple[Floats, Floats]:
        """(B,) x 2 faded successes and failures on top of the prior."""
        kept_B = np.power(1.0 - self.forgetting, state.n_steps - state.stamp_N[prompt_B])
        success_B, failure_B = self._pseudo(state, pool, prompt_B)
        return success_B + kept_B * state.offset_success_N[prompt_B], failure_B + kept_B * state.offset_failure_N[prompt_B]

    def _pseudo(self, state: BotsState, pool: PromptPool, prompt_B: Ints) -> tuple[Floats, Floats]:
        """(B,) x 2 what a prompt that never came back was given so far."""
        arm_B = pool.distribution_N[prompt_B]
        weak_B, strong_B = self._anchors(pool, prompt_B)
        success_B = weak_B * state.given_K[arm_B] + (strong_B - weak_B) * state.given_capability_K[arm_B]
        return success_B, state.given_K[arm_B] - success_B

    def _refuse_bad_columns(self, pool: PromptPool) -> None:
        if self.weak_column < 0:
            return
        features, columns = pool.features_NF, [self.weak_column, self.strong_column]
        if features is None or features.ndim != 2 or max(columns) >= features.shape[1]:
            shape = "no features" if features is None else f"features of shape {features.shape}"
            raise CurriculaError(
                f"bots: expected columns {columns} among the pool's features, got {shape}; add them or leave both -1"
            )
        rates = features[:, columns]
        if not ((rates >= 0) & (rates <= 1)).all():
            raise CurriculaError(f"bots: expected pass rates in 0..1 in columns {columns} of the pool's features")

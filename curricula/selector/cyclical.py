"""Epochs of changing size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.inclusion import by_parts, choose, proportional
from curricula.ladder import certain_then
from curricula.registry import register
from curricula.stages import Believed, Quota
from curricula.types import Bools, CurriculaError, Estimate, Feedback, Floats, Ints, PromptPool, Selection


class CyclicalState(NamedTuple):
    """4 bytes per prompt."""

    epoch_N: NDArray[np.int32]  # in which epoch of its distribution the prompt came last; -1 = never
    epoch_K: NDArray[np.int32]
    left_K: Ints  # groups that the epoch still takes
    share_K: Floats  # of the distribution, in this epoch
    rising_K: Bools  # was the epoch before smaller?


@register("selector", "cyclical")
@dataclass(frozen=True)
class Cyclical:
    """Epochs that take a small share of each distribution, then a larger one, and back, likely prompts first. arXiv 2202.05531.

    The share begins at ``least``; at the lower end, or while it rises below ``most``, it is divided by ``factor``, otherwise
    multiplied. An epoch of share n takes n x N prompts without replacement, in proportion to the score: the believed pass rate
    or E[p (1 - p)]. The paper scores once, by 1 / loss of a model trained before, in supervised learning; the belief, and
    epochs per distribution, are ours. Groups that a plan takes beyond the end of an epoch count for the next.

    >>> from itertools import accumulate
    >>> [n for n, _ in accumulate(range(5), lambda s, _: Cyclical().next_share(*s), initial=(0.25, False))]
    [0.25, 0.5, 1.0, 0.5, 0.25, 0.5]
    """

    least: float = 0.25
    most: float = 1.0
    factor: float = 0.5
    score: Literal["pass_rate", "learnability"] = "pass_rate"

    def __post_init__(self) -> None:
        if not 0 < self.least <= self.most <= 1:
            raise CurriculaError(f"cyclical: expected 0 < least <= most <= 1, got least={self.least}, most={self.most}")
        if not 0 < self.factor < 1:
            raise CurriculaError(f"cyclical.factor: expected a number between 0 and 1, got {self.factor}")

    def init(self, pool: PromptPool) -> CyclicalState:
        k = pool.n_distributions
        share_K, rising_K = np.full(k, self.least), np.zeros(k, np.bool_)
        return CyclicalState(
            np.full(len(pool), -1, np.int32), np.zeros(k, np.int32), _groups(share_K, pool.size_K), share_K, rising_K
        )

    def next_share(self, share: float, rising: bool) -> tuple[float, bool]:
        """The share of the next epoch, and whether it is larger."""
        if share <= self.least or (rising and share < self.most):
            larger = min(share / self.factor, self.most)
            return larger, larger > share
        return max(share * self.factor, self.least), False

    def select(
        self, state: CyclicalState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator
    ) -> Selection:
        def weigh(prompt_n: Ints, expected: float) -> Floats:
            came_n = state.epoch_N.take(prompt_n) == state.epoch_K[pool.distribution_N[prompt_n[0]]]

            def decide(at: Ints, n: float) -> Floats:
                asked_n = prompt_n if len(at) == len(prompt_n) else prompt_n[at]
                return proportional(by_parts(lambda part: self._scores(believed(part)), asked_n), n)

            return certain_then(came_n.view(np.int8), expected, decide)

        return choose(pool, quota, weigh, 0.0, rng)

    def update(self, state: CyclicalState, pool: PromptPool, feedback: Feedback) -> CyclicalState:
        chosen = feedback.plan.selection
        state.epoch_N[chosen.prompt_B] = state.epoch_K[chosen.distribution_B]
        left_K = state.left_K - np.bincount(chosen.distribution_B, minlength=pool.n_distributions)
        epoch_K, share_K, rising_K = state.epoch_K.copy(), state.share_K.copy(), state.rising_K.copy()
        for k in np.flatnonzero(left_K <= 0):
            while left_K[k] <= 0:
                epoch_K[k] += 1
                share_K[k], rising_K[k] = self.next_share(float(share_K[k]), bool(rising_K[k]))
                left_K[k] += _groups(share_K[k : k + 1], pool.size_K[k : k + 1])[0]
        return CyclicalState(state.epoch_N, epoch_K, left_K, share_K, rising_K)

    def _scores(self, estimate: Estimate) -> Floats:
        if self.score == "pass_rate":
            return estimate.mean_B
        total_B = estimate.alpha_B + estimate.beta_B
        return estimate.alpha_B * estimate.beta_B / (total_B * (total_B + 1))


def _groups(share_K: Floats, size_K: Ints) -> Ints:
    """(K,) groups in an epoch; at least one."""
    return np.maximum(np.round(share_K * size_K), 1).astype(np.int64)

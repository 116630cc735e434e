"""A set that grows when it has nothing more to teach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.groups import pass_rates
from curricula.growth import carried_fields, distribution_in, row_in
from curricula.inclusion import choose, top
from curricula.ladder import certain_then, pass_rate_order
from curricula.registry import register
from curricula.stages import Believed, Quota
from curricula.types import Bools, CurriculaError, Feedback, Floats, Ints, PromptPool, Selection


class SpaceState(NamedTuple):
    """10 bytes per prompt."""

    inside_N: Bools  # in the set of this pass
    came_N: Bools  # came back in this pass
    value_N: NDArray[np.float32]  # mean score of the newest group; before the first, the prior pass rate (unknown = 1/2)
    before_N: NDArray[np.float32]  # the value before that
    left_K: Ints  # prompts of the set that this pass still needs
    size_K: Ints  # of the set
    total_K: Floats  # sum of the values seen in this pass
    n_K: Ints  # how many they are
    mean_K: Floats  # mean value of the pass before; NaN in the first


@register("selector", "space")
@dataclass(frozen=True)
class Space:
    """A small set of prompts that grows when its mean score stands still, best improvers first. SPaCE, ICML 2021; ours for LLMs.

    Each distribution has its own set, at first a share ``first`` of it, the easiest by prior pass rate. When all of the set came
    back, the pass is over: if |V - V_before| <= eta |V_before|, V the mean score of the pass, the set grows by a share ``more``
    of the distribution (at least one prompt). Then all prompts are ordered anew by the change of their score between their two
    newest visits (``improvement``, or ``relative`` to the older one) or by the score itself (``absolute``); the first are the
    new set.

    The original evaluates a value function on every instance after every pass. Here a prompt outside the set keeps the value it
    had, and ``floor``, the share of each quota that is spread evenly over all open prompts, renews it. eta is the authors'; the
    shares are ours.

    >>> Space(eta=0.1).grows(before=0.50, now=0.53), Space(eta=0.1).grows(before=0.50, now=0.56)
    (True, False)
    """

    eta: float = 0.1
    first: float = 0.1
    more: float = 0.05
    order: Literal["improvement", "relative", "absolute"] = "improvement"
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.eta < np.inf:
            raise CurriculaError(f"space.eta: expected a finite number >= 0, got {self.eta}")
        for key in ("first", "more", "floor"):
            if not 0 <= getattr(self, key) <= 1:
                raise CurriculaError(f"space.{key}: expected 0..1, got {getattr(self, key)}")

    def init(self, pool: PromptPool) -> SpaceState:
        n, k = len(pool), pool.n_distributions
        value_N = np.where(np.isnan(pool.prior_pass_rate_N), 0.5, pool.prior_pass_rate_N).astype(np.float32)
        size_K = np.maximum(np.ceil(self.first * pool.size_K), 1).astype(np.int64)
        inside_N = np.zeros(n, np.bool_)
        for arm in range(k):
            member = pool.members(arm)
            inside_N[member[pass_rate_order(pool.prior_pass_rate_N[member])[: size_K[arm]]]] = True
        none_K = np.zeros(k, np.int64)
        return SpaceState(
            inside_N, np.zeros(n, np.bool_), value_N, value_N.copy(), size_K.copy(), size_K, np.zeros(k), none_K, np.full(k, np.nan)
        )

    def carry(self, state: SpaceState, old: PromptPool, new: PromptPool) -> SpaceState:
        """What is added to a distribution waits outside its set."""
        grown: SpaceState = carried_fields(state, self.init(new), old, new)
        added_N = np.isin(new.distribution_N, distribution_in(old, new))
        added_N[row_in(old, new)] = False
        grown.inside_N[added_N] = False
        return grown

    def grows(self, before: float, now: float) -> bool:
        """Has the mean score stood still? Not in the first pass, which has nothing before it (NaN)."""
        return bool(abs(now - before) <= self.eta * abs(before))

    def select(self, state: SpaceState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        """What the pass still needs, then the rest of the set, then the others."""

        def weigh(prompt_n: Ints, expected: float) -> Floats:
            rung_n = np.where(state.inside_N[prompt_n], state.came_N[prompt_n], 2).astype(np.int32)
            return certain_then(rung_n, expected, lambda at, n: top(np.zeros(len(at)), n))

        return choose(pool, quota, weigh, self.floor, rng)

    def update(self, state: SpaceState, pool: PromptPool, feedback: Feedback) -> SpaceState:
        prompt_B, arm_B = feedback.plan.selection.prompt_B, feedback.plan.selection.distribution_B
        rate_B = pass_rates(feedback.outcome)
        newest = len(prompt_B) - 1 - np.unique(prompt_B[::-1], return_index=True)[1]  # a prompt may come twice in a step (refills)
        needed = newest[state.inside_N[prompt_B[newest]] & ~state.came_N[prompt_B[newest]]]
        state.came_N[prompt_B[needed]] = True
        left_K = state.left_K - np.bincount(arm_B[needed], minlength=pool.n_distributions)
        scored = newest[np.isfinite(rate_B[newest])]
        state.before_N[prompt_B[scored]] = state.value_N[prompt_B[scored]]
        state.value_N[prompt_B[scored]] = rate_B[scored]
        told = needed[np.isfinite(rate_B[needed])]
        state = state._replace(
            left_K=left_K,
            total_K=state.total_K + np.bincount(arm_B[told], weights=rate_B[told], minlength=pool.n_distributions),
            n_K=state.n_K + np.bincount(arm_B[told], minlength=pool.n_distributions),
        )
        for k in np.flatnonzero(left_K == 0):
            state = self._next_pass(state, pool, int(k))
        return state

    def _next_pass(self, state: SpaceState, pool: PromptPool, k: int) -> SpaceState:
        """The set of the next pass: one pass over the distribution."""
        size_K, left_K = state.size_K.copy(), state.left_K.copy()
        total_K, n_K, mean_K = state.total_K.copy(), state.n_K.copy(), state.mean_K.copy()
        if n_K[k]:
            mean = total_K[k] / n_K[k]
            if self.grows(float(mean_K[k]), float(mean)):
                size_K[k] = min(size_K[k] + max(int(np.ceil(self.more * pool.size_K[k])), 1), pool.size_K[k])
            mean_K[k] = mean
        total_K[k], n_K[k], left_K[k] = 0.0, 0, size_K[k]
        member = pool.members(k)
        state.came_N[member] = False
        state.inside_N[member] = False
        state.inside_N[member[np.argsort(-self._scores(state, member), kind="stable")[: size_K[k]]]] = True
        return state._replace(size_K=size_K, left_K=left_K, total_K=total_K, n_K=n_K, mean_K=mean_K)

    def _scores(self, state: SpaceState, prompt_n: Ints) -> Floats:
        now, before = state.value_N[prompt_n].astype(np.float64), state.before_N[prompt_n].astype(np.float64)
        if self.order == "absolute":
            return now
        return now - before if self.order == "improvement" else (now - before) / np.maximum(before, 1e-3)

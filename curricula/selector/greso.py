"""Skipping prompts that taught nothing lately."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.combinators import Around
from curricula.groups import n_scored, pass_rates, score_spreads
from curricula.registry import register
from curricula.selector.uniform import UniformWithoutReplacement
from curricula.stages import Believed, Quota, Selector
from curricula.types import Bools, CurriculaError, Feedback, Floats, Ints, Outcome, PromptPool, Selection


class GresoState(NamedTuple):
    """5 bytes per prompt."""

    trace_N: NDArray[np.int32]  # newest groups in a row that were all right (> 0) or all wrong (< 0)
    seen_N: Bools
    p_easy: Floats  # () as they were before the newest step
    p_hard: Floats
    step: Ints  # () newest step learned from
    n_again: Ints  # () groups of the newest step whose prompt had come before
    n_easy: Ints  # () all right among them
    n_hard: Ints  # () all wrong among them
    inner: Any


@register("selector", "greso")
@dataclass(frozen=True)
class Greso(Around):
    """Skips prompts by chance, most surely those whose groups came back all right or all wrong for long. GRESO, arXiv 2506.02177.

    Around any selector. A prompt whose last z groups were all right is skipped with probability 1 - max(p_easy^z, floor), one
    whose groups were all wrong likewise with p_hard. After each step, p falls by ``step`` where the share of such groups reached
    its target and rises where not. All right: equal scores of at least ``easy``; all wrong: equal scores of at most ``hard``
    (the authors pay 0.1 for the format). In the released code p rests during the first epoch; here only groups of prompts that had
    come before are counted, which is the same while prompts come in epochs. Top-up sampling is left to the host's refill.

    Propensity, given the draws of the other prompts: the keep probability x the inner propensity among the open prompts. Where
    too few are kept, those whose draw was nearest to it (smallest draw / keep probability) are opened again, and the keep
    probability in the product grows accordingly, so visits weighted by 1 / propensity stay unbiased. Only where the inner selector
    has an order (the epochs of ``uniform``) can a prompt be out of turn in some draws; its weighted visits then average the
    probability that it was not.

    >>> Greso().skip_probability(np.array([0, 1, -2, 9]), p_easy=0.5, p_hard=0.9).round(4)
    array([0.  , 0.5 , 0.19, 0.99])
    """

    conditional_propensity: ClassVar[bool] = True

    inner: Selector = UniformWithoutReplacement()
    p_easy: float = 0.5  # at the start
    p_hard: float = 0.5
    target_easy: float = 1 / 12
    target_hard: float = 1 / 6
    step: float = 0.01
    least_p: float = 0.05
    most_p: float = 0.95
    floor: float = 0.01  # least probability of keeping a prompt
    easy: float = 0.98
    hard: float = 0.11

    def __post_init__(self) -> None:
        if not 0 < self.floor <= 1:
            raise CurriculaError(f"greso.floor: expected above 0 and at most 1, or a prompt is lost for ever; got {self.floor}")
        if not 0 <= self.least_p <= min(self.p_easy, self.p_hard) <= max(self.p_easy, self.p_hard) <= self.most_p <= 1:
            raise CurriculaError(
                f"greso: expected 0 <= least_p <= p_easy, p_hard <= most_p <= 1, got least_p={self.least_p}, p_easy={self.p_easy}, "
                f"p_hard={self.p_hard}, most_p={self.most_p}"
            )
        if not 0 <= self.hard < self.easy <= 1:
            raise CurriculaError(f"greso: expected 0 <= hard < easy <= 1, got hard={self.hard}, easy={self.easy}")
        if not (self.step >= 0 and 0 <= self.target_easy <= 1 and 0 <= self.target_hard <= 1):
            raise CurriculaError(
                f"greso: expected step >= 0 and targets in 0..1, got step={self.step}, target_easy={self.target_easy}, "
                f"target_hard={self.target_hard}"
            )

    def init(self, pool: PromptPool) -> GresoState:
        n = len(pool)
        p_easy, p_hard = np.array(self.p_easy), np.array(self.p_hard)
        before_any, none = np.array(-1, np.int64), np.array(0, np.int64)
        trace_N, seen_N = np.zeros(n, np.int32), np.zeros(n, np.bool_)
        return GresoState(trace_N, seen_N, p_easy, p_hard, before_any, none, none, none, self.inner.init(pool))

    def skip_probability(self, trace_n: NDArray[Any], p_easy: float, p_hard: float) -> Floats:
        """(n,) of prompts with these traces."""
        longest = int(np.abs(trace_n).max(initial=0))
        power = np.arange(longest + 1)
        by_trace = np.concatenate([np.power(p_hard, power[:0:-1]), np.power(p_easy, power)])  # a table: a power per prompt is slow
        skip_n: Floats = (1.0 - np.maximum(by_trace, self.floor))[trace_n + longest]
        return skip_n

    def bases(self, state: GresoState) -> tuple[float, float]:
        """p_easy and p_hard after the newest step, as far as it has come back."""
        return self._moved(state.p_easy, state.n_easy, state.n_again, self.target_easy), self._moved(
            state.p_hard, state.n_hard, state.n_again, self.target_hard
        )

    def select(self, state: GresoState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        keep_N = 1.0 - self.skip_probability(state.trace_N, *self.bases(state))
        ratio_N = _draws(pool, quota, rng) / keep_N
        blocked_N, limit_K = _opened(pool, quota, ratio_N)
        chosen = self.inner.select(state.inner, pool, replace(quota, blocked_N=blocked_N), believed, rng)
        kept_B = np.minimum(keep_N[chosen.prompt_B] * limit_K[chosen.distribution_B], 1.0)
        return replace(chosen, propensity_B=chosen.propensity_B * kept_B)

    def update(self, state: GresoState, pool: PromptPool, feedback: Feedback) -> GresoState:
        inner = self.inner.update(state.inner, pool, feedback)
        side_B, told_B = self._sides(feedback.outcome)
        prompt_B, step = feedback.plan.selection.prompt_B, feedback.plan.step
        again_B = told_B & state.seen_N[prompt_B]
        state.seen_N[prompt_B[told_B]] = True
        _trace(state.trace_N, prompt_B[told_B], side_B[told_B])
        counts = np.array([again_B.sum(), (side_B[again_B] > 0).sum(), (side_B[again_B] < 0).sum()], np.int64)
        if step < state.step:  # late: the traces learn from it, the shares of the newest step do not
            return state._replace(inner=inner)
        if step == state.step:
            counts += np.array([state.n_again, state.n_easy, state.n_hard])
        else:
            p_easy, p_hard = (np.array(p, np.float64) for p in self.bases(state))
            state = state._replace(p_easy=p_easy, p_hard=p_hard, step=np.array(step, np.int64))
        n_again, n_easy, n_hard = (np.array(n, np.int64) for n in counts)
        return state._replace(n_again=n_again, n_easy=n_easy, n_hard=n_hard, inner=inner)

    def _moved(self, p: Floats, n: Ints, n_again: Ints, target: float) -> float:
        if n_again == 0:
            return float(p)
        moved = p - self.step if n / n_again >= target else p + self.step
        return float(np.clip(moved, self.least_p, self.most_p))

    def _sides(self, outcome: Outcome) -> tuple[Ints, Bools]:
        """(B,) 1 all right, -1 all wrong, 0 mixed; and (B,) which groups tell: two scored rollouts or more."""
        rate_B, equal_B = pass_rates(outcome), score_spreads(outcome) <= 0
        side_B = np.where(equal_B & (rate_B >= self.easy), 1, 0) - np.where(equal_B & (rate_B <= self.hard), 1, 0)
        return side_B.astype(np.int64), n_scored(outcome) >= 2


def _draws(pool: PromptPool, quota: Quota, rng: np.random.Generator) -> Floats:
    """(N,) uniform numbers; distributions by name, prompts by id."""
    draw_N = np.ones(len(pool))
    for k in pool.name_order_K[quota.asked_K[pool.name_order_K]]:
        draw_N[pool.members(k)] = rng.random(pool.size_K[k])
    return draw_N


def _opened(pool: PromptPool, quota: Quota, ratio_N: Floats) -> tuple[Bools, Floats]:
    """(N,) prompts that are closed to the inner selector, and (K,) up to which ratio a prompt would be open, given the others.

    Of every distribution at least the expected number (rounded up) of smallest ratios is open. Given the others, a prompt is open
    up to 1, or up to the last of the others' that many smallest.
    """
    blocked_N = quota.blocked_N | (ratio_N > 1)
    limit_K = np.ones(pool.n_distributions)
    open_K = pool.size_K - np.bincount(pool.distribution_N[blocked_N], minlength=pool.n_distributions)
    need_K = np.ceil(quota.expected_K).astype(np.int64)
    for k in np.flatnonzero(quota.asked_K & (open_K <= need_K)):
        member, need = pool.members(k), need_K[k]
        free = member[~quota.blocked_N[member]]
        order = free[np.argsort(ratio_N[free])]
        blocked_N[order[:need]] = False
        limit_K[k] = ratio_N[order[need]] if len(order) > need else np.inf
    return blocked_N, limit_K


def _trace(trace_N: NDArray[np.int32], prompt_B: Ints, side_B: Ints) -> None:
    """One more group of each prompt; one that comes twice in a step (refills) is taken in the order of its groups."""
    while len(prompt_B):
        first = np.zeros(len(prompt_B), np.bool_)
        first[np.unique(prompt_B, return_index=True)[1]] = True
        prompt, side = prompt_B[first], side_B[first]
        trace_N[prompt] = np.where(np.sign(trace_N[prompt]) == side, trace_N[prompt], 0) + side
        prompt_B, side_B = prompt_B[~first], side_B[~first]

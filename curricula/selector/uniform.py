"""Every prompt of a distribution once, in random order, before any comes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.growth import row_in
from curricula.registry import register
from curricula.stages import Believed, Quota, Tell
from curricula.types import Bools, Feedback, Floats, Ints, PromptPool, Selection
from curricula.visits import Visits, inclusion, moved_visits, no_visits, rungs, visited

TAKEN = np.iinfo(np.int32).max  # more visits than any prompt has
SCARCE = 16  # below one prompt in so many, a pass over the distribution beats rejection


@register("selector", "uniform")
@dataclass(frozen=True)
class UniformWithoutReplacement:
    """Uniform among the prompts of a distribution with the fewest visits; the epoch's last plan tops up from the next epoch. Ours.

    Propensity: E[clip(n - before, 0, size)] / size over the random quota n, with ``size`` prompts equally often visited and
    ``before`` less often. While many are left they are found by rejection, in O(batch); when few are left, by one pass.
    Draws follow ``canonical_N``, so shuffling the rows of the pool permutes a plan and changes nothing else.

    >>> from curricula.curriculum import Curriculum
    >>> pool = PromptPool.from_columns("abcd", "xxxx")
    >>> Curriculum.from_recipe({"selector": {"name": "uniform"}}, pool).plan(0, n_groups=2, n_rollouts=4).selection.propensity_B
    array([0.5, 0.5])
    """

    def init(self, pool: PromptPool) -> Visits:
        return no_visits(pool.size_K)

    def carry(self, state: Visits, old: PromptPool, new: PromptPool) -> Visits:
        return moved_visits(state, new.place_N[row_in(old, new)[old.canonical_N]], new.start_K)

    def select(self, state: Visits, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        if quota.tell is not None:
            _tell(state, pool, quota, quota.tell)
        arms = _arms(state, pool, quota)
        few = np.flatnonzero(~arms.plenty)
        taken = [_reject(arms.at(np.flatnonzero(arms.plenty)), state, pool, quota, rng)]
        taken += [_scan(arms.at(np.array([i])), state, pool, quota, rng) for i in few]
        place_B, propensity_B = (np.concatenate(columns) for columns in zip(*taken, strict=True))
        prompt_B = pool.canonical_N[place_B]
        by_name = np.argsort(pool.name_order_K.argsort()[pool.distribution_N[prompt_B]], kind="stable")
        return Selection(prompt_B[by_name], pool.distribution_N[prompt_B[by_name]], propensity_B[by_name])

    def update(self, state: Visits, pool: PromptPool, feedback: Feedback) -> Visits:
        selection = feedback.plan.selection
        return visited(state, pool.start_K, pool.place_N[selection.prompt_B], selection.distribution_B)


class _Arms(NamedTuple):
    """What there is to draw from in the distributions that give a prompt, in name order."""

    start_A: Ints  # first place in the canonical order
    size_A: Ints  # prompts
    level_A: Ints  # fewest visits
    n_level_A: Ints  # unblocked prompts with that few
    expected_A: Floats
    drawn_A: Ints

    @property
    def plenty(self) -> Bools:
        """(A,) are there enough prompts at the lowest level to find them by throwing at all places?"""
        enough: Bools = (self.n_level_A >= np.ceil(self.expected_A)) & (self.n_level_A * SCARCE >= self.size_A)
        return enough

    def at(self, index: Ints) -> _Arms:
        return _Arms._make(column[index] for column in self)


def _arms(state: Visits, pool: PromptPool, quota: Quota) -> _Arms:
    k = pool.name_order_K[quota.drawn_K[pool.name_order_K] > 0]
    blocked = np.flatnonzero(quota.blocked_N)
    at_level = state.visits_N[pool.place_N[blocked]] == state.level_K[pool.distribution_N[blocked]]
    n_blocked_K = np.bincount(pool.distribution_N[blocked][at_level], minlength=pool.n_distributions)
    n_level_K = state.left_K - n_blocked_K
    whole = _Arms(pool.start_K[:-1], pool.size_K, state.level_K.astype(np.int64), n_level_K, quota.expected_K, quota.drawn_K)
    return whole.at(k)


def _tell(state: Visits, pool: PromptPool, quota: Quota, tell: Tell) -> None:
    """The chances of all prompts whose turn may come: pass after pass over the distributions that still need some, fewest visits
    first, all distributions in one."""
    arm_A = np.flatnonzero(quota.expected_K > 0)
    value_N = state.visits_N.copy()
    value_N[pool.place_N[np.flatnonzero(quota.blocked_N)]] = TAKEN
    place = np.flatnonzero(np.repeat(quota.expected_K > 0, pool.size_K))
    value, n_before_A = value_N[place], np.zeros(len(arm_A), np.int64)
    while len(arm_A):
        size_A, expected_A = pool.size_K[arm_A], quota.expected_K[arm_A]
        fewest_A = np.minimum.reduceat(value, np.cumsum(size_A) - size_A)
        here = np.flatnonzero(value == np.repeat(np.where(fewest_A == TAKEN, -1, fewest_A), size_A))
        arm = np.repeat(np.arange(len(arm_A)), size_A)[here]
        n_here_A = np.bincount(arm, minlength=len(arm_A))
        tell(pool.canonical_N[place[here]], inclusion(expected_A, n_before_A, np.maximum(n_here_A, 1))[arm])
        value[here], n_before_A = TAKEN, n_before_A + n_here_A
        going_A = (fewest_A != TAKEN) & (n_before_A < np.ceil(expected_A))
        going = np.repeat(going_A, size_A)
        arm_A, n_before_A, place, value = arm_A[going_A], n_before_A[going_A], place[going], value[going]


def _reject(arms: _Arms, state: Visits, pool: PromptPool, quota: Quota, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Distinct uniform places at the lowest level: throw at all places of a distribution, keep what fits, until enough do."""
    found, arm = np.empty(0, np.int64), np.empty(0, np.int64)
    missing_A = arms.drawn_A.copy()
    while missing_A.any():
        n_throws_A = np.ceil(1.25 * missing_A * arms.size_A / np.maximum(arms.n_level_A, 1)).astype(np.int64)
        arm_T = np.repeat(np.arange(len(missing_A)), n_throws_A)
        place_T = arms.start_A[arm_T] + rng.integers(arms.size_A[arm_T])
        fits_T = (state.visits_N[place_T] == arms.level_A[arm_T]) & ~quota.blocked_N[pool.canonical_N[place_T]]
        found, arm = np.concatenate([found, place_T[fits_T]]), np.concatenate([arm, arm_T[fits_T]])
        first = np.sort(np.unique(found, return_index=True)[1])
        found, arm = _first_of_each(found[first], arm[first], arms.drawn_A)
        missing_A = arms.drawn_A - np.bincount(arm, minlength=len(missing_A))
    return found, (arms.expected_A / np.maximum(arms.n_level_A, 1))[arm]


def _first_of_each(place: Ints, arm: Ints, drawn_A: Ints) -> tuple[Ints, Ints]:
    """At most the drawn number of places of each distribution, the earliest."""
    order = np.argsort(arm, kind="stable")
    place, arm = place[order], arm[order]
    n_A = np.bincount(arm, minlength=len(drawn_A))
    rank = np.arange(len(arm)) - (np.cumsum(n_A) - n_A)[arm]
    return place[rank < drawn_A[arm]], arm[rank < drawn_A[arm]]


def _scan(arms: _Arms, state: Visits, pool: PromptPool, quota: Quota, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """One distribution, visit count by visit count."""
    start, stop = int(arms.start_A[0]), int(arms.start_A[0] + arms.size_A[0])
    drawn, expected = int(arms.drawn_A[0]), float(arms.expected_A[0])
    places, propensities, n_before = [], [], 0
    for rung in rungs(state.visits_N[start:stop], np.flatnonzero(quota.blocked_N[pool.canonical_N[start:stop]]), drawn):
        n_taken = min(drawn - n_before, len(rung))
        places.append(start + rng.choice(rung, n_taken, replace=False))
        propensities.append(np.full(n_taken, inclusion(expected, n_before, len(rung))))
        n_before += len(rung)
    return np.concatenate(places), np.concatenate(propensities)

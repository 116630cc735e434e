"""Every prompt of a distribution once, in random order, before any comes again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.growth import row_in
from curricula.registry import register
from curricula.stages import Believed, Quota
from curricula.types import Bools, Feedback, Floats, Ints, PromptPool, Selection
from curricula.visits import Visits, inclusion, moved_visits, no_visits, rungs, visited

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
        taken = [_take(arm, rng) for arm in _arms(state, pool, quota)]
        place_B = np.concatenate([np.empty(0, np.int64), *(place for place, _ in taken)])
        prompt_B = pool.canonical_N[place_B]
        propensity_B = np.concatenate([np.empty(0), *(propensity for _, propensity in taken)])
        return Selection(prompt_B, pool.distribution_N[prompt_B], propensity_B)

    def update(self, state: Visits, pool: PromptPool, feedback: Feedback) -> Visits:
        selection = feedback.plan.selection
        return visited(state, pool.start_K, pool.place_N[selection.prompt_B], selection.distribution_B)


class _Arm(NamedTuple):
    """What there is to draw from in one distribution."""

    start: int  # its first place in the canonical order
    visits: NDArray[np.int32]  # (N_k,) view
    level: int  # fewest visits
    n_level: int  # unblocked prompts with that few
    blocked: Ints  # places inside the distribution
    expected: float
    drawn: int


def _arms(state: Visits, pool: PromptPool, quota: Quota) -> Iterable[_Arm]:
    """The distributions that give a prompt, in name order."""
    blocked = np.sort(pool.place_N[np.flatnonzero(quota.blocked_N)])
    edges = np.searchsorted(blocked, pool.start_K)
    for k in pool.name_order_K[quota.drawn_K[pool.name_order_K] > 0]:
        start, stop, level = int(pool.start_K[k]), int(pool.start_K[k + 1]), int(state.level_K[k])
        visits, inside = state.visits_N[start:stop], blocked[edges[k] : edges[k + 1]] - start
        n_level = int(state.left_K[k]) - int(np.count_nonzero(visits[inside] == level))
        yield _Arm(start, visits, level, n_level, inside, float(quota.expected_K[k]), int(quota.drawn_K[k]))


def _take(arm: _Arm, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Places in the canonical order, and propensities."""
    plenty = arm.n_level >= np.ceil(arm.expected) and arm.n_level * SCARCE >= len(arm.visits)
    if not plenty:
        return _take_by_scan(arm, rng)
    place = _reject(arm, rng)
    return arm.start + place, np.full(arm.drawn, arm.expected / arm.n_level)


def _reject(arm: _Arm, rng: np.random.Generator) -> Ints:
    """Distinct uniform places at the lowest level: throw at all places, keep what fits, until there are enough."""
    found = np.empty(0, dtype=np.int64)
    while len(found) < arm.drawn:
        n_throws = 8 + int(1.25 * (arm.drawn - len(found)) * len(arm.visits) / arm.n_level)
        found = _distinct(np.concatenate([found, _open(arm, rng.integers(len(arm.visits), size=n_throws))]))
    return found[: arm.drawn]


def _open(arm: _Arm, place: Ints) -> Ints:
    at_level: Bools = arm.visits[place] == arm.level
    place = place[at_level]
    return place[~np.isin(place, arm.blocked)] if len(arm.blocked) else place


def _distinct(place: Ints) -> Ints:
    """First occurrences, in order."""
    return place[np.sort(np.unique(place, return_index=True)[1])]


def _take_by_scan(arm: _Arm, rng: np.random.Generator) -> tuple[Ints, Floats]:
    places, propensities, n_before = [], [], 0
    for rung in rungs(arm.visits, arm.blocked, arm.drawn):
        n_taken = min(arm.drawn - n_before, len(rung))
        places.append(arm.start + rng.choice(rung, n_taken, replace=False))
        propensities.append(np.full(n_taken, inclusion(arm.expected, n_before, len(rung))))
        n_before += len(rung)
    return np.concatenate(places), np.concatenate(propensities)

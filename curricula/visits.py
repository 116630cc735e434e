"""How often each prompt was visited, kept so that the next prompts of an epoch are found without a pass over the pool."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.types import Floats, Ints


class Visits(NamedTuple):
    """4 bytes per prompt. ``visits_N`` follows the selector's own order of places, distribution by distribution."""

    visits_N: NDArray[np.int32]  # (N,) groups of this prompt that came back
    level_K: NDArray[np.int32]  # (K,) fewest visits in the distribution
    left_K: NDArray[np.int64]  # (K,) prompts with that few


def no_visits(size_K: Ints) -> Visits:
    """Nothing visited yet."""
    return Visits(np.zeros(size_K.sum(), np.int32), np.zeros(len(size_K), np.int32), size_K.copy())


def visited(state: Visits, start_K: Ints, place_B: Ints, arm_B: Ints) -> Visits:
    """One more visit to each of these places; a place may come twice."""
    first = np.unique(place_B[state.visits_N[place_B] == state.level_K[arm_B]])
    np.add.at(state.visits_N, place_B, 1)
    arm = np.searchsorted(start_K, first, side="right") - 1
    left_K = state.left_K - np.bincount(arm, minlength=len(state.left_K))
    level_K = state.level_K.copy()
    for k in np.flatnonzero(left_K == 0):  # the epoch of this distribution is over: one pass over its prompts
        visits = state.visits_N[start_K[k] : start_K[k + 1]]
        level_K[k] = visits.min()
        left_K[k] = np.count_nonzero(visits == level_K[k])
    return Visits(state.visits_N, level_K, left_K)


def moved_visits(state: Visits, place_N: Ints, start_K: Ints) -> Visits:
    """The visits in a larger pool, where old place i is ``place_N[i]``; new prompts begin at the fewest of their distribution.

    At zero, a late prompt would have to catch up with all epochs before any other came again.
    """
    visits_N = np.full(start_K[-1], np.iinfo(np.int32).max, dtype=np.int32)
    visits_N[place_N] = state.visits_N
    level_K, left_K = np.zeros(len(start_K) - 1, np.int32), np.zeros(len(start_K) - 1, np.int64)
    for k, (start, stop) in enumerate(pairwise(start_K)):
        visits = visits_N[start:stop]
        fresh = visits == np.iinfo(np.int32).max
        visits[fresh] = 0 if fresh.all() else visits.min()
        level_K[k] = visits.min()
        left_K[k] = np.count_nonzero(visits == level_K[k])
    return Visits(visits_N, level_K, left_K)


def rungs(visits: NDArray[np.integer[Any]], blocked: Ints, need: int) -> list[Ints]:
    """Unblocked places grouped by visits, fewest first, until ``need`` of them are there."""
    found: list[Ints] = []
    place = _all_but(blocked, len(visits)) if len(blocked) else None  # None = all: most calls need one rung and no list of places
    value = visits if place is None else visits[place]
    while need > 0 and len(value):
        here = value == value.min()
        found.append(np.flatnonzero(here) if place is None else place[here])
        need -= len(found[-1])
        if need > 0:
            place = np.flatnonzero(~here) if place is None else place[~here]
            value = visits[place]
    return found


def _all_but(blocked: Ints, n: int) -> Ints:
    is_open = np.ones(n, dtype=np.bool_)
    is_open[blocked] = False
    return np.flatnonzero(is_open)


def inclusion(expected: Floats | float, n_before: Ints | int, size: Ints | int) -> Floats:
    """Probability that a prompt is taken from ``size`` equals, of whom n_before others go first.

    The drawn count is the floor or the ceiling of its expectation; the count that falls to these equals is what is left of it.

    >>> float(inclusion(2.25, 2, 5)), float(inclusion(2.25, 0, 2))
    (0.05, 1.0)
    """
    if isinstance(n_before, int) and isinstance(expected, float):  # one number: plain arithmetic, ten times as fast
        whole = math.floor(expected)
        few, more = (min(max(n - n_before, 0), size) for n in (whole, whole + 1))
        return np.asarray(((1 - (expected - whole)) * few + (expected - whole) * more) / size, dtype=np.float64)
    low = np.floor(expected)
    share = expected - low
    taken = [np.clip(n - np.asarray(n_before), 0, size) for n in (low, low + 1)]
    return np.asarray(((1 - share) * taken[0] + share * taken[1]) / size, dtype=np.float64)

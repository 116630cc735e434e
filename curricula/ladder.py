"""Choosing in an order: rungs of prompts of which the first come for certain, and one rung that decides.

>>> certain_then(np.array([1, 0, 1, 2], np.int32), 2.0, lambda place, n: np.full(len(place), n / len(place)))
array([0.5, 1. , 0.5, 0. ])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curricula.types import Floats, Ints
from curricula.visits import rungs

NOTHING = np.empty(0, np.int64)


def certain_then(rung_n: NDArray[np.integer[Any]], expected: float, decide: Callable[[Ints, float], Floats]) -> Floats:
    """(n,) inclusion probabilities: lower rungs go first, and ``decide`` shares what is left of the number within the last rung."""
    found = rungs(rung_n, NOTHING, int(np.ceil(expected)))
    if len(found[0]) == len(rung_n):
        return decide(found[0], expected)
    probability_n = np.zeros(len(rung_n))
    n_certain = sum(map(len, found[:-1]))  # below the ceiling, so never above a drawn quota
    for rung in found[:-1]:
        probability_n[rung] = 1.0
    probability_n[found[-1]] = decide(found[-1], expected - n_certain)
    return probability_n


def pass_rate_order(rate_n: Floats) -> Ints:
    """(n,) places from the easiest to the hardest; an unknown pass rate counts as 1/2, equals stay in their order."""
    return np.argsort(-np.where(np.isnan(rate_n), 0.5, rate_n), kind="stable").astype(np.int64)

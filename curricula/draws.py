"""Counter-based randomness and the draw of how many prompts each distribution gives.

There is no generator in any state: what a plan draws depends on (seed, step, attempt, round, stage) and nothing else, so a resumed
run draws what the run that never stopped would have drawn.
"""

from __future__ import annotations

import zlib

import numpy as np

from curricula.types import Floats, Ints

SNAP = 1e-9  # expectations this close to a whole number are whole; float noise must not open a seat


def generator(seed: int, step: int, attempt: int, round: int, stage: str) -> np.random.Generator:
    """The generator of one decision.

    >>> float(generator(0, 7, 0, 0, "selector").random()) == float(generator(0, 7, 0, 0, "selector").random())
    True
    """
    return np.random.default_rng(np.random.SeedSequence((seed, step, attempt, round, zlib.crc32(stage.encode()))))


def draw_quota(
    probability_K: Floats, available_K: Ints, n_groups: int, rng: np.random.Generator, order_K: Ints
) -> tuple[Floats, Ints]:
    """Expected and drawn prompts per distribution: (K,) and (K,), both summing to min(n_groups, all available).

    The expectation is n_groups x probability, capped by what is available, the excess given to the others in proportion (ours).
    The draw is systematic: one uniform offset along ``order_K``, so each count is the floor or the ceiling of its expectation, the
    sum is exact, and the mean over offsets is exactly the expectation. I.i.d. draws would add multinomial noise at no gain.

    >>> draw_quota(np.array([0.5, 0.3, 0.2]), np.array([9, 9, 1]), 10, np.random.default_rng(0), np.arange(3))[0].round(3)
    array([5.625, 3.375, 1.   ])
    """
    expected = _water_fill(probability_K[order_K], available_K[order_K], n_groups)
    drawn = _round_systematically(expected, rng.random())
    expected_K, drawn_K = np.empty_like(expected), np.empty_like(drawn)
    expected_K[order_K], drawn_K[order_K] = expected, drawn
    return expected_K, drawn_K


def _water_fill(weight_K: Floats, available_K: Ints, n_groups: int) -> Floats:
    if available_K.sum() <= n_groups:
        return available_K.astype(np.float64)
    expected_K = np.zeros(len(weight_K))
    open_K = available_K > 0
    left = float(n_groups)
    while True:
        share_K = _shares(weight_K, available_K, open_K) * left
        full_K = open_K & (share_K >= available_K)
        if not full_K.any():
            return _snapped(expected_K + share_K)
        expected_K[full_K] = available_K[full_K]
        open_K &= ~full_K
        left = n_groups - expected_K.sum()


def _shares(weight_K: Floats, available_K: Ints, open_K: np.ndarray) -> Floats:
    """Open arms share by weight; by size where all open weights are zero."""
    weight = np.where(open_K, weight_K, 0.0)
    if weight.sum() <= 0.0:
        weight = np.where(open_K, available_K, 0).astype(np.float64)
    total = weight.sum()
    return weight / total if total > 0.0 else weight


def _snapped(expected_K: Floats) -> Floats:
    whole = np.round(expected_K)
    return np.where(np.abs(expected_K - whole) < SNAP, whole, expected_K)


def _round_systematically(expected_K: Floats, offset: float) -> Ints:
    whole = np.floor(expected_K)
    edge = np.cumsum(expected_K - whole)
    n_extra = np.round(edge[-1])
    if n_extra == 0:
        return whole.astype(np.int64)
    reached = np.floor(edge / edge[-1] * n_extra + offset)
    return (whole + np.diff(reached, prepend=0.0)).astype(np.int64)

"""A model of how true pass rates are spread: one Beta, fitted by moments. What it says of larger groups is a prediction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from curricula.types import Floats
from replay.subsampling import Tally

STRONGEST = 1e6  # alpha + beta where all prompts look alike


class Spread(NamedTuple):
    """p ~ Beta(alpha, beta) over prompts."""

    alpha: float
    beta: float


def fitted(groups: Tally) -> Spread | None:
    """The Beta with the mean and variance of the true pass rates, freed from binomial noise; None where all rates are 0, or all 1.

    Every group of two rollouts or more counts once. k (k - 1) / (N (N - 1)) is unbiased for p^2.
    """
    n, k = (column[groups.n_G >= 2].astype(np.float64) for column in groups)
    if len(n) == 0:
        return None
    mean, square = float((k / n).mean()), float((k * (k - 1) / (n * (n - 1))).mean())
    if not 0.0 < mean < 1.0:
        return None
    variance = square - mean * mean
    strength = STRONGEST if variance <= 0 else min(max(mean * (1 - mean) / variance - 1.0, 1e-3), STRONGEST)
    return Spread(mean * strength, (1.0 - mean) * strength)


def predicted_live(alpha: Floats | float, beta: Floats | float, n: int) -> Floats:
    """Probability that n rollouts hold a success and a failure: 1 - E[p^n] - E[(1 - p)^n].

    >>> predicted_live(1.0, 1.0, 2).round(4)  # 1 - 1/3 - 1/3
    np.float64(0.3333)
    """
    a, b = np.asarray(alpha, dtype=np.float64), np.asarray(beta, dtype=np.float64)
    right, wrong = np.ones(np.broadcast(a, b).shape), np.ones(np.broadcast(a, b).shape)
    for drawn in range(n):
        right = right * (a + drawn) / (a + b + drawn)
        wrong = wrong * (b + drawn) / (a + b + drawn)
    return np.asarray(np.maximum(1.0 - right - wrong, 0.0))

"""Paired differences with Student's t: its intervals keep their coverage at few seeds, a percentile bootstrap's do not."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from curricula.types import Floats

Word = Literal["wins", "ties", "loses"]


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def word(self) -> Word:
        """Above 0, below 0, or not told apart from it."""
        return "wins" if self.low > 0 else "loses" if self.high < 0 else "ties"


def interval(value_S: Floats, confidence: float = 0.95) -> Interval:
    """The mean of independent values (one per seed) and its t interval; unbounded for a single value.

    >>> round(interval(np.array([1.0, 2.0, 3.0])).high, 4)
    4.4841
    """
    n, mean = len(value_S), float(np.mean(value_S))
    if n < 2:
        return Interval(mean, -math.inf, math.inf)
    half = t_quantile(0.5 + confidence / 2, n - 1) * float(np.std(value_S, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def t_quantile(probability: float, degrees: int) -> float:
    """The t that Student's variable stays below with this probability (0.5 < probability < 1), by bisection.

    >>> round(t_quantile(0.975, 19), 4)
    2.093
    """
    low, high = 0.0, 1.0
    while t_cdf(high, degrees) < probability:
        high *= 2.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def t_cdf(t: float, degrees: int) -> float:
    """P(T <= t) for t >= 0: the finite sums for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    square = math.cos(angle) ** 2
    odd = degrees % 2 == 1
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(degrees // 2):
        total += term
        term *= square * ((2 * k + 2) / (2 * k + 3) if odd else (2 * k + 1) / (2 * k + 2))
    inside = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return 0.5 + inside / 2

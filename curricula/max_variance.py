"""The part of some values that varies most: one sort and one scan, for rollouts of a group and for those of a whole attempt."""

from __future__ import annotations

import numpy as np

from curricula.types import Floats, Ints

TIE = 1e-12  # variances this close are equal: rounding must not choose between them


def max_variance(value_n: Floats, m: int) -> Ints:
    """(m,) ascending places of the m values with the largest variance; all places where there are no more than m.

    The best part is always the k largest and the m - k smallest for some k, so m + 1 candidates are enough (PODS, arXiv
    2504.13818). Among equal candidates the one with the fewest large values wins, among equal values the earlier place.

    >>> max_variance(np.array([1, 0, 0.5, 0.2, 0, 1, 0.2, 0.9]), 4)
    array([0, 1, 4, 5])
    """
    n = len(value_n)
    if n <= m:
        return np.arange(n)
    if m <= 0:
        return np.zeros(0, np.int64)
    rising, falling = np.argsort(value_n, kind="stable"), np.argsort(-value_n, kind="stable")
    low_m, high_m = value_n[rising[:m]], value_n[falling[:m]]
    k_m = np.arange(m + 1)
    total_m, squares_m = (_prefix(high)[k_m] + _prefix(low)[m - k_m] for high, low in _moments(low_m, high_m))
    variance_m = squares_m / m - (total_m / m) ** 2
    k = int(np.argmax(variance_m >= variance_m.max() - TIE * max(1.0, float(np.abs(variance_m).max()))))
    return np.sort(np.concatenate((falling[:k], rising[: m - k])))


def _moments(low_m: Floats, high_m: Floats) -> list[tuple[Floats, Floats]]:
    """First and second moments about the middle of the range, where sums of squares keep their digits."""
    middle = 0.5 * (low_m[0] + high_m[0])
    return [(high_m - middle, low_m - middle), ((high_m - middle) ** 2, (low_m - middle) ** 2)]


def _prefix(value_m: Floats) -> Floats:
    return np.concatenate((np.zeros(1), np.cumsum(value_m)))

"""How much of a Beta distribution lies in an interval, in NumPy alone.

The regularised incomplete beta function by its continued fraction (the even and odd terms of DLMF 8.17.22, evaluated from the front
by Lentz's rule), on the side of the mean where it converges fast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from curricula.types import Floats

ENOUGH = 1e-14  # relative change of the fraction at which it has converged
MOST_TERMS = 20_000  # about the square root of the larger parameter is needed
TINY = 1e-300
# Lanczos' series for ln Gamma with g = 7 and nine terms: relative error near 1e-15 for positive arguments
LANCZOS_G = 7.0
LANCZOS = (
    0.99999999999980993,
    676.5203681218851,
    -1259.1392167224028,
    771.32342877765313,
    -176.61502916214059,
    12.507343278686905,
    -0.13857109526572012,
    9.9843695780195716e-6,
    1.5056327351493116e-7,
)


def beta_cdf(alpha: ArrayLike, beta: ArrayLike, x: ArrayLike) -> Floats:
    """P(Beta(alpha, beta) <= x), element by element; parameters above 0.

    >>> beta_cdf(2.0, 2.0, 0.25).round(6)
    np.float64(0.15625)
    """
    alpha, beta, x = (np.asarray(value, dtype=np.float64) for value in np.broadcast_arrays(alpha, beta, x))
    turned = x > (alpha + 1.0) / (alpha + beta + 2.0)  # past the mean: from the other end
    a, b = np.where(turned, beta, alpha), np.where(turned, alpha, beta)
    tail = _lower_tail(a, b, np.clip(np.where(turned, 1.0 - x, x), 0.0, 1.0))
    return np.where(turned, 1.0 - tail, tail)[()]


def beta_between(alpha: ArrayLike, beta: ArrayLike, low: ArrayLike, high: ArrayLike) -> Floats:
    """P(low <= Beta(alpha, beta) <= high), also where both ends lie far out in one tail.

    >>> float(beta_between(1.0, 1.0, 0.25, 0.75))
    0.5
    """
    alpha, beta, low, high = (np.asarray(value, dtype=np.float64) for value in np.broadcast_arrays(alpha, beta, low, high))
    above = low > alpha / (alpha + beta)  # above the mean, differences of the upper tail keep their digits
    a, b = np.where(above, beta, alpha), np.where(above, alpha, beta)
    near, far = np.where(above, 1.0 - high, low), np.where(above, 1.0 - low, high)
    below_far, below_near = beta_cdf(a, b, np.stack([far, near]))
    mass: Floats = np.maximum(below_far - below_near, 0.0)
    return mass


def log_gamma(z: Floats) -> Floats:
    """ln Gamma(z) for z above 0.

    >>> round(float(np.exp(log_gamma(np.array(5.0)))), 9)
    24.0
    """
    series = LANCZOS[0] + sum(c / (z + (i - 1)) for i, c in enumerate(LANCZOS[1:], start=1))
    t = z + LANCZOS_G - 0.5
    value: Floats = 0.5 * np.log(2.0 * np.pi) + (z - 0.5) * np.log(t) - t + np.log(series)
    return value


def _lower_tail(a: Floats, b: Floats, x: Floats) -> Floats:
    """I_x(a, b) for x at most about the mean."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_front = log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * np.log(x) + b * np.log1p(-x) - np.log(a)
    return np.where(x > 0, np.exp(np.where(x > 0, log_front, 0.0)) * _fraction(a, b, x), 0.0)


def _fraction(a: Floats, b: Floats, x: Floats) -> Floats:
    """1 / (1 + d1 / (1 + d2 / (1 + ...)))"""
    d = 1.0 / _off_zero(1.0 - (a + b) * x / (a + 1.0))
    c, value = np.ones_like(d), d
    for m in range(1, MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = np.ones_like(d)
        for term in (even, odd):
            d = 1.0 / _off_zero(1.0 + term * d)
            c = _off_zero(1.0 + term / c)
            step = step * d * c
        value = value * step
        if (np.abs(step - 1.0) < ENOUGH).all():
            break
    return value


def _off_zero(value: Floats) -> Floats:
    return np.where(np.abs(value) < TINY, TINY, value)

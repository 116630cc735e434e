"""A Gaussian process over one number, for scores with a known error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from curricula.types import CurriculaError, Floats

LENGTHS = np.geomspace(0.1, 2.0, 20)  # of the interval that was asked about
HEIGHTS = np.geomspace(0.1, 10.0, 13)  # of the scores' spread
JITTER = 1e-9


@dataclass(frozen=True, eq=False)
class Process:
    """Squared-exponential kernel, constant mean, one standard error per score; length and height by the largest likelihood.

    For ten points on a line this is a matrix of ten: a library for it (scikit-learn, with SciPy) would be the only use of 100 MB,
    and the one that AutoLRS used, scikit-optimize, was archived in 2024.

    >>> process = Process.of([0.0, 0.5, 1.0], [0.0, 1.0, 0.0], [0.01, 0.01, 0.01])
    >>> mean, error = process.at([0.5])
    >>> round(float(mean[0]), 2), bool(error[0] < 0.02)
    (1.0, True)
    """

    x: Floats
    centre: float
    length: float
    height: float
    factor: Floats  # Cholesky factor of the scores' covariance
    weight: Floats

    @classmethod
    def of(cls, x: ArrayLike, score: ArrayLike, error: ArrayLike) -> Process:
        """Fit; x is scaled by the caller so that 1 is about the interval's width."""
        place, y, s = (np.asarray(values, dtype=np.float64) for values in (x, score, error))
        if not (len(place) == len(y) == len(s) >= 1 and np.isfinite([*place, *y, *s]).all() and (s >= 0).all()):
            raise CurriculaError("Gaussian process: expected one finite score and one error >= 0 for every place")
        centre, spread = float(y.mean()), float(y.std()) or 1.0
        fits = [_fit(place, y - centre, s, length, height * spread) for length in LENGTHS for height in HEIGHTS]
        best = max(fits, key=lambda fit: fit[0])
        return cls(place, centre, *best[1:])

    def at(self, x: ArrayLike) -> tuple[Floats, Floats]:
        """Mean and standard error of the score without noise at other places."""
        across = _kernel(np.asarray(x, dtype=np.float64), self.x, self.length, self.height)
        explained = np.linalg.solve(self.factor, across.T)
        variance = self.height**2 - (explained**2).sum(axis=0)
        return self.centre + across @ self.weight, np.sqrt(np.maximum(variance, 0.0))


def _kernel(a: Floats, b: Floats, length: float, height: float) -> Floats:
    found: Floats = height**2 * np.exp(-0.5 * ((a[:, None] - b[None, :]) / length) ** 2)
    return found


def _fit(x: Floats, y: Floats, error: Floats, length: float, height: float) -> tuple[float, float, float, Floats, Floats]:
    """Log likelihood up to a constant, and what a prediction needs."""
    covariance = _kernel(x, x, length, height) + np.diag(error**2 + JITTER * height**2)
    factor = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    weight = np.linalg.solve(factor.T, np.linalg.solve(factor, y))
    return float(-0.5 * y @ weight - np.log(np.diag(factor)).sum()), float(length), float(height), factor, weight

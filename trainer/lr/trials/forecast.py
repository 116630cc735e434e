"""Where a falling series of losses is going, from its beginning: a exp(b t) + c with b < 0. AutoLRS (ICLR 2021)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from curricula.types import Bools, CurriculaError, Floats

FEWEST = 5  # losses
N_RATES, N_FINER = 60, 4  # grid of b, and how often it is drawn together around the best
KNOTS = 4


class Forecast(NamedTuple):
    """The fitted curve."""

    a: float
    b: float  # below 0
    c: float

    def at(self, t: ArrayLike) -> Floats:
        found: Floats = self.a * np.exp(self.b * np.asarray(t, dtype=np.float64)) + self.c
        return found


def forecast(loss_T: ArrayLike, rounds: int = 10, share: float = 0.03) -> Forecast:
    """Least squares over t = 0, 1, ..., of the losses without outliers.

    For every b the best a and c are those of a line in exp(b t), so only b is searched for, from hardly bent over the whole series
    to over after one step.

    >>> t = np.arange(40)
    >>> fitted = forecast(2.0 * np.exp(-0.1 * t) + 0.5)
    >>> round(fitted.b, 4), round(float(fitted.at(400)), 4)
    (-0.1, 0.5)
    """
    loss_T = np.asarray(loss_T, dtype=np.float64)
    if loss_T.ndim != 1 or len(loss_T) < FEWEST or not np.isfinite(loss_T).all():
        raise CurriculaError(f"forecast: expected {FEWEST} finite losses or more, got {len(np.atleast_1d(loss_T))}")
    t = np.arange(len(loss_T), dtype=np.float64)
    kept = without_outliers(loss_T, rounds, share)
    low, high = 0.1 / len(loss_T), 5.0
    best: tuple[float, Forecast] = (np.inf, Forecast(0.0, -1.0, float(loss_T.mean())))
    for _ in range(N_FINER):
        grid = np.geomspace(low, high, N_RATES)
        best = min((_line(t[kept], loss_T[kept], -rate) for rate in grid), key=lambda fit: fit[0])
        at = int(np.abs(grid + best[1].b).argmin())
        low, high = grid[max(at - 1, 0)], grid[min(at + 1, N_RATES - 1)]
    return best[1]


def without_outliers(loss_T: ArrayLike, rounds: int = 10, share: float = 0.03) -> Bools:
    """(T,) what stays: each round leaves out the ``share`` of losses that lie farthest from a smooth spline through the others.

    A round takes nothing where the share is less than one loss, and the rest is never less than half.
    """
    loss_T = np.asarray(loss_T, dtype=np.float64)
    kept: Bools = np.ones(len(loss_T), dtype=np.bool_)
    spline_TP = _spline(len(loss_T))
    for _ in range(rounds):
        n_out = int(share * kept.sum())
        if n_out == 0 or kept.sum() - n_out < max(len(loss_T) // 2, FEWEST):
            break
        smooth_T = spline_TP @ np.linalg.lstsq(spline_TP[kept], loss_T[kept], rcond=None)[0]
        far_T = np.where(kept, np.abs(loss_T - smooth_T), -1.0)
        kept[np.argsort(-far_T, kind="stable")[:n_out]] = False
    return kept


def _spline(n: int) -> Floats:
    """(n, P) a cubic spline's powers: 1, x, x^2, x^3 and (x - knot)^3 beyond each knot."""
    x = np.linspace(0.0, 1.0, n)
    knots = np.linspace(0.0, 1.0, KNOTS + 2)[1:-1]
    return np.column_stack([*(x**power for power in range(4)), *(np.maximum(x - knot, 0.0) ** 3 for knot in knots)])


def _line(t: Floats, loss: Floats, b: float) -> tuple[float, Forecast]:
    """Squared error of the best a and c for this b."""
    bent = np.column_stack([np.exp(b * t), np.ones(len(t))])
    (a, c), *_ = np.linalg.lstsq(bent, loss, rcond=None)
    return float(((bent @ np.array([a, c]) - loss) ** 2).sum()), Forecast(float(a), float(b), float(c))

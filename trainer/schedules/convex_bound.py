"""What convex theory says of a schedule, and which peak goes with it. arXiv 2501.18965, bound of arXiv 2310.07831."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from curricula.types import CurriculaError, Floats


class Bound(NamedTuple):
    """The bound at the last step with the best peak, for a distance D of 1, and gradient norms G of 1 unless given."""

    peak: float  # gamma*
    value: float  # Omega*: smaller is better


def convex_bound(multiplier_T: ArrayLike, norm_T: ArrayLike | None = None) -> Bound:
    """The best peak of a schedule and the bound on the excess loss of the last iterate of subgradient descent with it.

    Omega = D^2 / (2 S_1) + Q_1 / (2 S_1) + 1/2 sum_{k < T} eta_k / S_{k+1} x Q_k / S_k, S_k the sum of eta from k on and Q_k that
    of eta^2 G^2; with eta = gamma m it is A / gamma + gamma (B + C), so gamma* = sqrt(A / (B + C)) and Omega* = 2 sqrt(A (B + C)).

    The theory is of convex losses and SGD. Use it to rank schedules and to carry a tuned peak over to another schedule or horizon
    (`transferred_peak`), not for the value.

    >>> line = convex_bound(1 - np.arange(400) / 400)
    >>> round(line.peak, 6), round(line.value, 6)
    (0.049563, 0.10063)
    """
    m_T = np.asarray(multiplier_T, dtype=np.float64)
    g_T: Floats = np.ones(len(m_T)) if norm_T is None else np.asarray(norm_T, dtype=np.float64)
    if m_T.ndim != 1 or m_T.shape != g_T.shape or not (np.isfinite(m_T).all() and (m_T >= 0).all() and m_T.sum() > 0):
        raise CurriculaError("convex_bound: expected multipliers >= 0, not all 0, and as many gradient norms")
    sum_T = m_T[::-1].cumsum()[::-1]
    square_T = ((m_T * g_T) ** 2)[::-1].cumsum()[::-1]
    a = 1.0 / (2 * sum_T[0])
    b = square_T[0] / (2 * sum_T[0])
    ends = sum_T[1:] > 0  # behind the last rate above 0 nothing moves
    c = 0.5 * float((m_T[:-1][ends] / sum_T[1:][ends] * square_T[:-1][ends] / sum_T[:-1][ends]).sum())
    return Bound(float(np.sqrt(a / (b + c))), float(2 * np.sqrt(a * (b + c))))


def transferred_peak(peak: float, before_T: ArrayLike, after_T: ArrayLike, norm_T: ArrayLike | None = None) -> float:
    """The peak for another schedule or horizon, from one that was tuned: in proportion to the best peaks of the theory.

    With gradient norms both schedules are over the same updates.

    >>> constant, line = np.ones(400), 1 - np.arange(400) / 400
    >>> round(transferred_peak(1e-6, constant, line) * 1e6, 2)
    2.73
    """
    return peak * convex_bound(after_T, norm_T).peak / convex_bound(before_T, norm_T).peak

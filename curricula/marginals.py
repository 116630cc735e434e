"""What one more rollout is worth, and the exact way to spend rollouts where they are worth most.

V(N, p) = (1 - p^N - q^N) x p q^2 with q = 1 - p has V(1) = 0 and V(n + 1) - V(n) = p q^2 (p^n q + q^n p), which falls with n.
A sum of such functions is maximised by taking the largest marginals first (Fox 1966); the marginals of V's expectation over a
Beta posterior fall in the same way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from curricula.types import Estimate, Floats, Ints

Marginals = Callable[[int], Floats]  # n_columns -> (B, n_columns), column c: worth of rollout first + c + 1; falls along a row


def plug_in_marginals(p_B: Floats, n_columns: int) -> Floats:
    """(B, n_columns) V(n + 1, p) - V(n, p) for n = 1, 2, ...

    >>> plug_in_marginals(np.array([0.5]), 2)
    array([[0.0625 , 0.03125]])
    """
    p, q = p_B[:, None], 1.0 - p_B[:, None]
    power_p, power_q = (np.cumprod(np.repeat(x, n_columns, axis=1), axis=1) for x in (p, q))
    worth_BC: Floats = p * q * q * (power_p * q + power_q * p)
    return worth_BC


def posterior_marginals(estimate: Estimate, n_columns: int) -> Floats:
    """(B, n_columns) expectation of V(n + 1) - V(n) over p ~ Beta(a, b), for n = 1, 2, ...

    E[p^i q^j] is a product of ratios; both powers start at E[p^2 q^3] and go on by one ratio per n.

    >>> posterior_marginals(Estimate(np.array([1.0]), np.array([1.0])), 1).round(6)
    array([[0.033333]])
    """
    a, b = estimate.alpha_B[:, None], estimate.beta_B[:, None]
    total, n = a + b, np.arange(1, n_columns)
    first = (a / total) * ((a + 1) / (total + 1)) * (b / (total + 2)) * ((b + 1) / (total + 3)) * ((b + 2) / (total + 4))
    success, failure = np.repeat(first, n_columns, axis=1), np.repeat(first, n_columns, axis=1)
    success[:, 1:] *= np.cumprod((a + 1 + n) / (total + 4 + n), axis=1)
    failure[:, 1:] *= np.cumprod((b + 2 + n) / (total + 4 + n), axis=1)
    worth_BC: Floats = success + failure
    return worth_BC


def spend(marginals: Marginals, n_units: int, n_columns: int) -> Ints:
    """(B,) units per row that maximise the summed marginals, at most ``n_columns`` each.

    Few columns are tried first: where no row takes all of them, none would take a later, smaller one either.
    """
    width = min(n_columns, 16)
    while True:
        taken_B = take_largest(marginals(width), n_units)
        if width == n_columns or taken_B.max(initial=0) < width:
            return taken_B
        width = min(n_columns, 2 * width)


def take_largest(marginal_BC: Floats, n_units: int) -> Ints:
    """(B,) how many of each row's marginals are among the ``n_units`` largest; ties to lower columns, then to upper rows."""
    n_rows, n_columns = marginal_BC.shape
    if n_units >= marginal_BC.size:
        return np.full(n_rows, n_columns, dtype=np.int64)
    if n_units <= 0:
        return np.zeros(n_rows, dtype=np.int64)
    place = marginal_BC.size - n_units
    least = np.partition(marginal_BC, place, axis=None)[place]
    taken_B: Ints = np.count_nonzero(marginal_BC > least, axis=1)
    tied_rows = np.nonzero(least == marginal_BC.T)[1]
    taken_B += np.bincount(tied_rows[: n_units - taken_B.sum()], minlength=n_rows)
    return taken_B

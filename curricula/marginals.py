"""What one more rollout is worth, under several ideas of worth.

A table of marginals has a row per prompt and a column per rollout: column c holds U(c + 2) - U(c + 1), the worth of a group's
rollout number c + 2. ``value="plug_in"`` takes U at the belief's mean, ``value="posterior"`` its expectation over the Beta.

The knapsack's V(N, p) = (1 - p^N - q^N) x p q^2 with q = 1 - p has V(1) = 0 and V(n + 1) - V(n) = p q^2 (p^n q + q^n p), which
falls with n; the marginals of V's expectation over a Beta posterior fall in the same way. Its two tables are made column by column
(`Walk`), so that a solver for very many prompts can stop a row where its marginals become too small.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from curricula.types import CurriculaError, Estimate, Floats, Ints

Value = Literal["posterior", "plug_in"]
Utility = Literal["knapsack", "vip_dr_grpo", "vip_rloo", "cures", "maxrl", "v0", "cero"]


class Walk(Protocol):
    """The columns of a table of falling marginals, one after the other, for the rows that are still of interest."""

    def column(self) -> Floats:
        """(rows,) the next column."""
        ...

    def keep(self, rows: Ints) -> None:
        """Go on with these rows only."""
        ...


class PlugInWalk:
    """The knapsack at the belief's mean: p q^2 (p^n q + q^n p) for n = 1, 2, ..."""

    def __init__(self, p: Floats) -> None:
        q = 1.0 - p
        self._p, self._q, self._scale = p, q, p * q * q
        self._power_p, self._power_q = np.ones_like(p), np.ones_like(p)

    def column(self) -> Floats:
        self._power_p *= self._p
        self._power_q *= self._q
        worth = self._power_p * self._q
        worth += self._power_q * self._p
        worth *= self._scale
        return worth

    def keep(self, rows: Ints) -> None:
        self._p, self._q, self._scale = self._p[rows], self._q[rows], self._scale[rows]
        self._power_p, self._power_q = self._power_p[rows], self._power_q[rows]


class PosteriorWalk:
    """The knapsack's expectation over p ~ Beta(a, b).

    E[p^i q^j] is a product of ratios; both powers start at E[p^2 q^3] and go on by one ratio per n.
    """

    def __init__(self, a: Floats, b: Floats) -> None:
        total = a + b
        first = (a / total) * ((a + 1) / (total + 1)) * (b / (total + 2)) * ((b + 1) / (total + 3)) * ((b + 2) / (total + 4))
        self._a, self._b, self._total = a + 1, b + 2, total + 4
        self._success, self._failure = first, first.copy()
        self._n = 0

    def column(self) -> Floats:
        if self._n:
            below = self._total + self._n
            for factor, ratio in ((self._success, self._a + self._n), (self._failure, self._b + self._n)):
                ratio /= below
                factor *= ratio
        self._n += 1
        worth: Floats = self._success + self._failure
        return worth

    def keep(self, rows: Ints) -> None:
        self._a, self._b, self._total = self._a[rows], self._b[rows], self._total[rows]
        self._success, self._failure = self._success[rows], self._failure[rows]


def table(walk: Walk, n_columns: int) -> Floats:
    """(B, n_columns) the first columns of a walk."""
    return np.stack([walk.column() for _ in range(n_columns)], axis=1)


def plug_in_marginals(p_B: Floats, n_columns: int) -> Floats:
    """(B, n_columns) V(n + 1, p) - V(n, p) for n = 1, 2, ...

    >>> plug_in_marginals(np.array([0.5]), 2)
    array([[0.0625 , 0.03125]])
    """
    return table(PlugInWalk(p_B), n_columns)


def posterior_marginals(estimate: Estimate, n_columns: int) -> Floats:
    """(B, n_columns) expectation of V(n + 1) - V(n) over p ~ Beta(a, b), for n = 1, 2, ...

    >>> posterior_marginals(Estimate(np.array([1.0]), np.array([1.0])), 1).round(6)
    array([[0.033333]])
    """
    return table(PosteriorWalk(estimate.alpha_B, estimate.beta_B), n_columns)


def marginals(utility: Utility, value: Value, estimate: Estimate, given_B: Floats, n_columns: int) -> Floats:
    """(B, n_columns) U(n + 1) - U(n) for n = 1, 2, ...; ``given_B`` rollouts were spent before on each prompt (only "cero" asks).

    A belief's 0/0 reads as Beta(1, 1). Where a utility is a variance to be lowered, the first column says nothing: one rollout has
    no variance.

    >>> marginals("maxrl", "plug_in", Estimate(np.array([1.0]), np.array([3.0])), np.zeros(1), 2)  # p (1 - p)^n
    array([[0.1875  , 0.140625]])
    """
    known = informed(estimate)
    n = np.arange(1, n_columns + 1, dtype=np.float64)
    if utility == "knapsack":
        return posterior_marginals(known, n_columns) if value == "posterior" else plug_in_marginals(known.mean_B, n_columns)
    if utility == "maxrl":
        return _rates(known, value, 1, n_columns + 1)[:, 1:]
    if utility == "v0":
        power = _rates(known, value, 0, n_columns + 2)
        worth_BC: Floats = power[:, 1:2] - (n + 1) * power[:, 2:] + n * power[:, 1:-1]
        return worth_BC
    variance_B = variances(known, value)[:, None]
    if utility == "cero":
        return np.asarray(variance_B * np.log1p(1 / (CERO_SCALE + given_B[:, None] + n)))
    return np.asarray(variance_B * _variance_gains(utility, n))


CERO_SCALE = 8.0  # rollouts after which the utility log(1 + c / scale) of c rollouts begins to bend


def informed(estimate: Estimate) -> Estimate:
    """The estimate with Beta(1, 1) in place of 0/0."""
    unseen = estimate.alpha_B + estimate.beta_B == 0
    return Estimate(np.where(unseen, 1.0, estimate.alpha_B), np.where(unseen, 1.0, estimate.beta_B))


def variances(estimate: Estimate, value: Value) -> Floats:
    """(B,) p (1 - p), or its expectation ab / ((a + b) (a + b + 1)).

    >>> variances(Estimate(np.array([1.0, 3, 8]), np.array([1.0, 7, 2])), "posterior").round(6)
    array([0.166667, 0.190909, 0.145455])
    """
    total_B = estimate.alpha_B + estimate.beta_B
    more = 1.0 if value == "posterior" else 0.0
    variance_B: Floats = (estimate.alpha_B / total_B) * (estimate.beta_B / (total_B + more))
    return variance_B


def _variance_gains(utility: Utility, n: Floats) -> Floats:
    """(C,) how much the variance of a group's gradient falls from n to n + 1 rollouts, per unit of p (1 - p)."""
    if utility == "cures":  # sigma^2 / n
        gain = 1 / (n * (n + 1))
    elif utility == "vip_rloo":  # 4 sigma^2 / (n - 1)
        gain = 4 / (np.maximum(n - 1, 1) * n)
    elif utility == "vip_dr_grpo":  # 4 sigma^2 (n - 1) / n^2
        gain = 4 * ((n - 1) / n**2 - n / (n + 1) ** 2)
    else:
        raise CurriculaError(f"utility {utility!r} has no marginals")
    return np.asarray(gain)


def _rates(estimate: Estimate, value: Value, n_successes: Literal[0, 1], n_columns: int) -> Floats:
    """(B, n_columns) E[p^i q^j] for j = 0, 1, ..."""
    a, b = estimate.alpha_B[:, None], estimate.beta_B[:, None]
    first = (a / (a + b)) ** n_successes
    j = np.arange(n_columns - 1)
    step = (b + j) / (a + b + n_successes + j) if value == "posterior" else np.repeat(b / (a + b), n_columns - 1, axis=1)
    return np.asarray(first * np.cumprod(np.concatenate([np.ones_like(a), step], axis=1), axis=1))

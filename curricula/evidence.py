"""What beliefs read from a feedback, and what they hold of a prompt before there is any.

>>> pool = PromptPool.from_columns(["a", "b"], ["x", "x"], prior_pass_rate=[0.25, np.nan])
>>> prior_counts(pool, np.array([0, 1]), 1.0, 1.0, strength=4.0)
(array([1., 1.]), array([3., 1.]))
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from curricula.groups import counts
from curricula.types import Estimate, Floats, Ints, Outcome, PromptPool

PRIOR_MARGIN = 0.01  # a stated pass rate of 0 or 1 still leaves the posterior room to learn


class Evidence(NamedTuple):
    """Scored rollouts, group by group or prompt by prompt; nothing in it is empty."""

    prompt_B: Ints
    success_B: Floats  # sum of the scores
    failure_B: Floats
    version_B: Ints  # newest policy version

    @property
    def n_B(self) -> Floats:
        return self.success_B + self.failure_B

    @property
    def rate_B(self) -> Floats:
        return self.success_B / self.n_B


def by_group(outcome: Outcome) -> Evidence:
    """Every group with a scored rollout."""
    ok, b = outcome.ok_R, len(outcome.plan)
    group = outcome.group_R[ok]
    n_B = counts(group, b)
    success_B = np.bincount(group, weights=outcome.score_R[ok], minlength=b).astype(np.float64)
    version_B = np.zeros(b, dtype=np.int64)
    np.maximum.at(version_B, group, outcome.policy_version_R[ok])
    has = n_B > 0
    failure_B: Floats = n_B - success_B
    return Evidence(outcome.plan.selection.prompt_B[has], success_B[has], failure_B[has], version_B[has])


def by_prompt(outcome: Outcome) -> Evidence:
    """Every prompt with a scored rollout; the groups that it had in the step are one. In the order of its first group."""
    each = by_group(outcome)
    _, first, place = np.unique(each.prompt_B, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.argsort(order)[place]
    success_B = np.bincount(place, weights=each.success_B, minlength=len(first)).astype(np.float64)
    failure_B = np.bincount(place, weights=each.failure_B, minlength=len(first)).astype(np.float64)
    version_B = np.zeros(len(first), dtype=np.int64)
    np.maximum.at(version_B, place, each.version_B)
    return Evidence(each.prompt_B[first[order]], success_B, failure_B, version_B)


def stated_rates(pool: PromptPool, prompt_B: Ints, unknown: float = 0.5) -> Floats:
    """(B,) the stated pass rate, kept off 0 and 1; ``unknown`` where nothing is stated."""
    rate_B = np.clip(pool.prior_pass_rate_N[prompt_B], PRIOR_MARGIN, 1 - PRIOR_MARGIN)
    return np.where(np.isnan(rate_B), unknown, rate_B)


def prior_counts(pool: PromptPool, prompt_B: Ints, alpha: float, beta: float, strength: float) -> tuple[Floats, Floats]:
    """(B,) x 2 Beta(strength x rate, strength x (1 - rate)) where a pass rate is stated, Beta(alpha, beta) elsewhere."""
    if not pool.states_pass_rates:
        return np.full(len(prompt_B), float(alpha)), np.full(len(prompt_B), float(beta))
    rate_B = stated_rates(pool, prompt_B, np.nan)
    unknown = np.isnan(rate_B)
    return np.where(unknown, alpha, strength * rate_B), np.where(unknown, beta, strength * (1 - rate_B))


def worth(mean_B: Floats, n_rollouts: Floats | float) -> Estimate:
    """A pass rate that is believed as firmly as if it had been seen in this many rollouts.

    >>> worth(np.array([0.25]), 8.0).beta_B
    array([6.])
    """
    return Estimate(n_rollouts * mean_B, n_rollouts * (1.0 - mean_B))

"""Rollouts where they buy the most expected learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curricula.marginals import PlugInWalk, PosteriorWalk, Value, Walk, informed, plug_in_marginals, posterior_marginals
from curricula.registry import register
from curricula.spending import MANY, by_id, spend, spend_many
from curricula.stages import Stateless
from curricula.types import CurriculaError, Estimate, Floats, Ints, Outcome, PromptPool, Selection

CONFIDENCE = 0.9  # of the released code's cost estimate: so many rollouts make a mixed group this likely


@register("budget", "knapsack")
@dataclass(frozen=True)
class Knapsack(Stateless):
    """Maximise the summed value of N_i rollouts each, sum N_i = budget, min_n <= N_i <= max_n. Knapsack RL, arXiv 2509.25849.

    V(N, p) = (1 - p^N - (1 - p)^N) x p (1 - p)^2: the chance of a mixed group times what one success teaches. V is concave in N,
    so taking the largest marginals first is exact; ties go to the smaller group, then to the lower prompt id.

    ``value="posterior"`` (ours, default) takes the expectation of V over the belief's Beta posterior: unseen prompts and prompts at
    0/8 or 8/8 then need no special case, because their pass rate is uncertain. ``value="plug_in"`` puts the posterior mean into V.
    ``min_value="official"`` (plug-in only) reproduces the released allocator: a prompt left at min_n counts as worth 0 instead of
    V(min_n), unseen prompts get the even share, and the surplus over the cost estimate goes to prompts at p = 0. It needs a belief
    without prior, for which unseen is 0/0 (recipe ``knapsack_published``). Where the released code asserts (all prompts live and
    cheap) the surplus stays with the live prompts.

    What ``max_n`` leaves is reported as unspent. A budget below min_n for each serves the most valuable groups.

    >>> estimate = Estimate(np.array([1.0, 1.0]), np.array([1.0, 9.0]))
    >>> Knapsack(value="plug_in", max_n=8).shares(estimate, 10)
    array([5, 5])
    """

    min_n: int = 2
    max_n: int = 128
    value: Value = "posterior"
    min_value: Literal["exact", "official"] = "exact"

    def __post_init__(self) -> None:
        if not 2 <= self.min_n <= self.max_n:
            raise CurriculaError(f"knapsack: expected 2 <= min_n <= max_n, got min_n={self.min_n}, max_n={self.max_n}")
        if self.min_value == "official" and self.value != "plug_in":
            raise CurriculaError("knapsack: min_value 'official' reproduces the released code; it needs value 'plug_in'")

    def allocate(self, state: Any, pool: PromptPool, selection: Selection, estimate: Estimate, n_rollouts: int) -> Ints:
        """(B,) rollouts, decided in the order of prompt ids."""
        return by_id(pool.ids[selection.prompt_B], estimate, lambda ordered: self.shares(ordered, n_rollouts))

    def extend(self, state: Any, pool: PromptPool, outcome: Outcome, estimate: Estimate) -> None:
        return None

    def shares(self, estimate: Estimate, n_rollouts: int) -> Ints:
        """(B,) rollouts for prompts in the order of their ids."""
        served = self._served(estimate, n_rollouts // self.min_n)
        there = Estimate(estimate.alpha_B[served], estimate.beta_B[served])
        n_B = np.zeros(len(estimate.alpha_B), dtype=np.int64)
        n_B[served] = self._official(there, n_rollouts) if self.min_value == "official" else self._exact(there, n_rollouts)
        return n_B

    def marginals(self, estimate: Estimate, n_columns: int) -> Floats:
        """(B, n_columns) worth of the rollouts after the first: V(2) - V(1), V(3) - V(2), ... An unseen 0/0 reads as Beta(1, 1)."""
        known = informed(estimate)
        return posterior_marginals(known, n_columns) if self.value == "posterior" else plug_in_marginals(known.mean_B, n_columns)

    def _served(self, estimate: Estimate, n_groups: int) -> Ints:
        """Places of the prompts that get a group at all: all of them, or the most valuable ones."""
        if n_groups >= len(estimate.alpha_B):
            return np.arange(len(estimate.alpha_B))
        worth_B = self.marginals(estimate, self.min_n - 1).sum(axis=1)
        return np.sort(np.argsort(-worth_B, kind="stable")[:n_groups])

    def _exact(self, estimate: Estimate, n_rollouts: int) -> Ints:
        n_rows = len(estimate.alpha_B)
        n_extra = n_rollouts - self.min_n * n_rows
        if n_rows < MANY:
            return self.min_n + self._extra(estimate, n_extra, self.min_n - 1)
        known = informed(estimate)
        mean_B = known.mean_B

        def walk(rows: slice) -> Walk:
            return PosteriorWalk(known.alpha_B[rows], known.beta_B[rows]) if self.value == "posterior" else PlugInWalk(mean_B[rows])

        return self.min_n + spend_many(walk, n_rows, n_extra, self.min_n - 1, self.max_n - self.min_n)

    def _extra(self, estimate: Estimate, n_extra: int, n_worthless: int) -> Ints:
        """(B,) rollouts beyond min_n; the marginals before column ``n_worthless`` are no part of the objective."""

        def marginals(n_columns: int) -> Floats:
            whole = self.marginals(estimate, self.min_n - 1 + n_columns)
            beyond = whole[:, self.min_n - 1 :]
            beyond[:, :1] += whole[:, n_worthless : self.min_n - 1].sum(axis=1, keepdims=True)
            return beyond

        return spend(marginals, n_extra, self.max_n - self.min_n)

    def _official(self, estimate: Estimate, n_rollouts: int) -> Ints:
        """The released procedure: fixed shares for what is not live, the fallback for p = 0, dynamic programming for the rest."""
        unseen = estimate.alpha_B + estimate.beta_B == 0
        p_B = np.where(unseen, 0.0, estimate.alpha_B / np.where(unseen, 1.0, estimate.alpha_B + estimate.beta_B))
        live = (p_B > 0) & (p_B < 1)
        n_B = np.where(unseen, n_rollouts // max(len(p_B), 1), self.min_n)
        left = max(0, n_rollouts - int(n_B.sum()))
        surplus = max(0, left - int(self._cost(p_B[live]).sum()))
        receivers = np.flatnonzero(p_B == 0 if (p_B == 0).any() else ~live)
        if len(receivers):
            n_B[receivers] += _evenly(surplus, len(receivers))
            left -= surplus
        there = Estimate(estimate.alpha_B[live], estimate.beta_B[live])
        n_B[live] += self._extra(there, left, 0)
        capped_B: Ints = np.minimum(n_B, self.max_n)
        return capped_B

    def _cost(self, p_B: Floats) -> Floats:
        """(B,) rollouts until a live prompt shows a mixed group, as the released code estimates them."""
        cost_B: Floats = np.log(1 - CONFIDENCE) / np.log(np.maximum(p_B, 1 - p_B))
        capped_B: Floats = np.floor(np.minimum(self.max_n, cost_B))
        return capped_B


def _evenly(n_units: int, n_parts: int) -> Ints:
    """Equal parts; what does not divide goes to the first ones."""
    return n_units // n_parts + (np.arange(n_parts) < n_units % n_parts)

"""Rollouts where they buy the most of any utility, in rollouts or in tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.groups import counts
from curricula.marginals import CERO_SCALE, Utility, Value, informed, marginals, variances
from curricula.registry import register
from curricula.spending import climb, falls, program, spend, spend_within
from curricula.types import CurriculaError, Estimate, Feedback, Floats, Ints, Outcome, PromptPool, Selection, Status

LENGTH_FADES = 0.9  # of the weight of older completions, per feedback of a distribution


class Spent(NamedTuple):
    """What was spent so far, and how long completions are."""

    given_N: NDArray[np.float32]  # (N,) rollouts that came back for each prompt
    n_tokens_K: Floats  # (K,) tokens of completions, fading
    n_completions_K: Floats  # (K,) completions behind them, fading alike


@register("budget", "water_fill")
@dataclass(frozen=True)
class WaterFill:
    """Maximise the summed utility of N_i rollouts each, sum N_i = budget, min_n <= N_i <= max_n, for a utility of your choice.

    The utilities, with p from the belief (at its mean, or as an expectation over its Beta posterior: ``value``):

    - ``vip_rloo``: less 4 p (1 - p) / (n - 1); ``vip_dr_grpo``: less 4 p (1 - p) (n - 1) / n^2. The variance of a group's gradient
      for rewards of -1 and +1, VIP, arXiv 2602.01601, without its Gaussian process over prompts.
    - ``cures``: less p (1 - p) / n, arXiv 2510.01037 with gradients of equal norm (the published square-root rule is the policy
      `proportional`).
    - ``maxrl``: 1 - (1 - p)^n - p, the teacher of MaxRL, arXiv 2602.02710.
    - ``knapsack``: as the policy `knapsack`, arXiv 2509.25849.
    - ``cero``: p (1 - p) log(1 + c / 8) with c all rollouts that the prompt ever got, this plan's included. CERO, arXiv 2606.05606:
      its value and its saturating utility of the cumulative allocation. The logarithm is ours, and the dual price is found exactly
      in every plan instead of by gradient steps.
    - ``v0``: n (1 - p) (1 - (1 - p)^(n - 1)), arXiv 2602.03584. It rises for ever with n and favours hard prompts: cap max_n.

    Where marginals fall, the largest are taken first, which is exact. Where they rise (v0; vip_dr_grpo from a pair to three)
    ``solver="exact"`` takes dynamic programming and refuses plans that are too large for it; ``"greedy"`` looks one rollout ahead,
    as V0 does. Ties go to the smaller group, then to the lower prompt id.

    ``n_tokens`` above 0 is a second budget, in completion tokens per plan (ours): sum N_i c_i <= n_tokens in expectation, with c_i
    the running mean length of completions in the prompt's distribution. Until lengths are known the rollouts alone count. What
    either budget leaves is reported as unspent.

    A budget below min_n for each serves the most valuable groups.

    >>> estimate = Estimate(np.array([0.5, 0.2, 0.05, 0.9]), np.array([0.5, 0.8, 0.95, 0.1]))
    >>> WaterFill(utility="vip_rloo", value="plug_in", min_n=3, max_n=16).shares(estimate, 32)
    array([11,  9,  5,  7])
    """

    utility: Utility = "vip_rloo"
    value: Value = "posterior"
    min_n: int = 2
    max_n: int = 32
    solver: Literal["exact", "greedy"] = "exact"
    n_tokens: int = 0  # completion tokens per plan; 0 = no limit

    def __post_init__(self) -> None:
        if not 2 <= self.min_n <= self.max_n:
            raise CurriculaError(f"water_fill: expected 2 <= min_n <= max_n, got min_n={self.min_n}, max_n={self.max_n}")
        if self.n_tokens < 0:
            raise CurriculaError(f"water_fill.n_tokens: expected >= 0 (0 = no limit), got {self.n_tokens}")
        if self.n_tokens and (self.utility == "v0" or (self.utility == "vip_dr_grpo" and self.min_n < 3)):
            raise CurriculaError(
                f"water_fill: n_tokens needs a utility with falling marginals, got utility={self.utility!r}, min_n={self.min_n}; "
                "take vip_dr_grpo from min_n=3, or another utility"
            )

    def init(self, pool: PromptPool) -> Spent:
        return Spent(np.zeros(len(pool), np.float32), np.zeros(pool.n_distributions), np.zeros(pool.n_distributions))

    def update(self, state: Spent, pool: PromptPool, feedback: Feedback) -> Spent:
        outcome, selection = feedback.outcome, feedback.plan.selection
        np.add.at(state.given_N, selection.prompt_B, counts(outcome.group_R, len(feedback.plan)).astype(np.float32))
        done_R = outcome.status_R != Status.LOST
        arm_R = selection.distribution_B[outcome.group_R[done_R]]
        n_K = np.bincount(arm_R, minlength=pool.n_distributions)
        n_tokens_K = np.bincount(arm_R, weights=outcome.n_tokens_R[done_R], minlength=pool.n_distributions)
        kept_K = np.where(n_K > 0, LENGTH_FADES, 1.0)
        return Spent(state.given_N, kept_K * state.n_tokens_K + n_tokens_K, kept_K * state.n_completions_K + n_K)

    def allocate(self, state: Spent, pool: PromptPool, selection: Selection, estimate: Estimate, n_rollouts: int) -> Ints:
        """(B,) rollouts, decided in the order of prompt ids."""
        order = np.argsort(pool.ids[selection.prompt_B])
        ordered = Estimate(estimate.alpha_B[order], estimate.beta_B[order])
        cost_B = self._cost(state, selection.distribution_B[order]) if self.n_tokens else None
        n_B = np.zeros(len(selection), dtype=np.int64)
        n_B[order] = self.shares(ordered, n_rollouts, state.given_N[selection.prompt_B[order]].astype(np.float64), cost_B)
        return n_B

    def extend(self, state: Spent, pool: PromptPool, outcome: Outcome, estimate: Estimate) -> None:
        return None

    def shares(self, estimate: Estimate, n_rollouts: int, given_B: Floats | None = None, cost_B: Floats | None = None) -> Ints:
        """(B,) rollouts for prompts in the order of their ids; ``cost_B`` tokens per rollout, None = no limit in tokens."""
        given_B = np.zeros(len(estimate.alpha_B)) if given_B is None else given_B
        served = self._served(estimate, given_B, cost_B, n_rollouts // self.min_n)
        n_B = np.zeros(len(estimate.alpha_B), dtype=np.int64)
        n_columns = self.max_n - self.min_n
        n_B[served] = self.min_n
        if not len(served) or not n_columns:
            return n_B
        there, given_B = Estimate(estimate.alpha_B[served], estimate.beta_B[served]), given_B[served]

        def beyond(n_columns: int) -> Floats:
            return marginals(self.utility, self.value, there, given_B, self.min_n - 1 + n_columns)[:, self.min_n - 1 :]

        n_extra = n_rollouts - self.min_n * len(served)
        if cost_B is not None:
            left = self.n_tokens - self.min_n * float(cost_B[served].sum())
            n_B[served] += spend_within(beyond(n_columns), n_extra, cost_B[served], left)
        elif falls(beyond(min(n_columns, 16))):  # all utilities fall for good once they fall
            n_B[served] += spend(beyond, n_extra, n_columns)
        else:
            n_B[served] += (program if self.solver == "exact" else climb)(beyond(n_columns), n_extra)
        return n_B

    def _served(self, estimate: Estimate, given_B: Floats, cost_B: Floats | None, n_groups: int) -> Ints:
        """Places of the prompts that get a group at all: all of them, or those with the most worth per rollout or token."""
        affordable = n_groups >= len(estimate.alpha_B)
        price_B = np.ones(len(estimate.alpha_B)) if cost_B is None else cost_B
        limit = self.n_tokens / self.min_n if cost_B is not None else np.inf
        if affordable and price_B.sum() <= limit:
            return np.arange(len(estimate.alpha_B))
        order = np.argsort(-self._worth(estimate, given_B) / price_B, kind="stable")[:n_groups]
        return np.sort(order[np.cumsum(price_B[order]) <= limit])

    def _worth(self, estimate: Estimate, given_B: Floats) -> Floats:
        """(B,) what a group of min_n is worth; where the utility is a variance, the variance."""
        if self.utility in ("vip_rloo", "vip_dr_grpo", "cures"):
            return variances(informed(estimate), self.value)
        if self.utility == "cero":
            return np.asarray(variances(informed(estimate), self.value) * np.log1p(self.min_n / (CERO_SCALE + given_B)))
        worth_B: Floats = marginals(self.utility, self.value, estimate, given_B, self.min_n - 1).sum(axis=1)
        return worth_B

    def _cost(self, state: Spent, distribution_B: Ints) -> Floats | None:
        """(B,) tokens that a rollout costs; an unseen distribution costs the mean of the others. None: nothing was seen."""
        n_K = state.n_completions_K
        if not n_K.any():
            return None
        mean_K = np.where(n_K > 0, state.n_tokens_K / np.where(n_K > 0, n_K, 1.0), state.n_tokens_K.sum() / n_K.sum())
        cost_B: Floats = np.maximum(mean_K, 1.0)[distribution_B]
        return cost_B

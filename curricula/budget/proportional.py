"""Rollouts in proportion to a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curricula.marginals import informed
from curricula.registry import register
from curricula.spending import by_id
from curricula.stages import Stateless
from curricula.types import CurriculaError, Estimate, Floats, Ints, Outcome, PromptPool, Selection


@register("budget", "proportional")
@dataclass(frozen=True)
class Proportional(Stateless):
    """The budget in proportion to a weight of the believed pass rate p, within min_n and max_n.

    - ``sqrt_variance``: sqrt(p (1 - p)), which lowers the summed variance sum p (1 - p) / n most. CurES, arXiv 2510.01037, for
      gradients of equal norm; a belief with a prior keeps never-solved prompts alive.
    - ``inverse_sqrt``: 1 / sqrt(p + epsilon), more for hard prompts: the estimated variant of Reinforce-Ada, arXiv 2510.04996.

    N_i = clip(c x weight, min_n, max_n) with c such that the sum is the budget; what is lost by rounding down goes to the largest
    remainders, then to the lower prompt ids (ours: the released code rounds each share, and its sum may differ from the budget).
    All weights 0: even shares. A budget below min_n for each serves the largest weights. What max_n leaves is reported as unspent.

    >>> estimate = Estimate(np.array([1.0, 2, 3, 5]), np.array([5.0, 4, 3, 1]))
    >>> Proportional().shares(estimate, 32)
    array([7, 9, 9, 7])
    """

    weight: Literal["sqrt_variance", "inverse_sqrt"] = "sqrt_variance"
    min_n: int = 2
    max_n: int = 128
    epsilon: float = 1e-6  # of inverse_sqrt: keeps the weight of p = 0 finite

    def __post_init__(self) -> None:
        if not 2 <= self.min_n <= self.max_n:
            raise CurriculaError(f"proportional: expected 2 <= min_n <= max_n, got min_n={self.min_n}, max_n={self.max_n}")
        if not 0 < self.epsilon < np.inf:
            raise CurriculaError(f"proportional.epsilon: expected a finite number above 0, got {self.epsilon}")

    def allocate(self, state: Any, pool: PromptPool, selection: Selection, estimate: Estimate, n_rollouts: int) -> Ints:
        """(B,) rollouts, decided in the order of prompt ids."""
        return by_id(pool.ids[selection.prompt_B], estimate, lambda ordered: self.shares(ordered, n_rollouts))

    def extend(self, state: Any, pool: PromptPool, outcome: Outcome, estimate: Estimate) -> None:
        return None

    def shares(self, estimate: Estimate, n_rollouts: int) -> Ints:
        """(B,) rollouts for prompts in the order of their ids."""
        weight_B = self.weights(estimate)
        n_groups = n_rollouts // self.min_n
        served = np.arange(len(weight_B))
        if n_groups < len(weight_B):
            served = np.sort(np.argsort(-weight_B, kind="stable")[:n_groups])
        n_B = np.zeros(len(weight_B), dtype=np.int64)
        n_B[served] = rounded(scaled(weight_B[served], n_rollouts, (self.min_n, self.max_n)), n_rollouts)
        return n_B

    def weights(self, estimate: Estimate) -> Floats:
        """(B,) what the shares are proportional to."""
        p_B = informed(estimate).mean_B
        weight_B: Floats = np.sqrt(p_B * (1 - p_B)) if self.weight == "sqrt_variance" else 1 / np.sqrt(p_B + self.epsilon)
        return weight_B


def scaled(weight_B: Floats, total: float, bounds: tuple[int, int]) -> Floats:
    """(B,) clip(c x weight, low, high) with c such that the sum is the total, or as near as the bounds let it come.

    >>> scaled(np.array([1.0, 3.0, 20.0]), 16, (2, 10))
    array([ 2.,  4., 10.])
    """
    low, high = bounds
    if not weight_B.any():
        weight_B = np.ones_like(weight_B)
    if total >= high * len(weight_B):
        return np.full(len(weight_B), float(high))
    raised_B = np.where(weight_B > 0, weight_B, weight_B.max(initial=0) * 1e-9)  # beyond the others' bounds, weight 0 shares too
    least, most = 0.0, high / float(raised_B.min(initial=np.inf))
    for _ in range(100):
        c = 0.5 * (least + most)
        least, most = (c, most) if np.clip(c * raised_B, low, high).sum() <= total else (least, c)
    return np.clip(least * raised_B, low, high)


def rounded(share_B: Floats, total: int) -> Ints:
    """(B,) whole numbers: rounded down, then one more to the largest remainders until the total, or the shares, are spent.

    >>> rounded(np.array([2.5, 3.7, 1.8]), 8)
    array([2, 4, 2])
    """
    floor_B = np.floor(share_B + 1e-9).astype(np.int64)
    remainder_B = share_B - floor_B
    n_left = max(0, min(total - int(floor_B.sum()), int(np.count_nonzero(remainder_B > 1e-9))))
    floor_B[np.argsort(-remainder_B.round(9), kind="stable")[:n_left]] += 1
    return floor_B

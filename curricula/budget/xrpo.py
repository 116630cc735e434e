"""Rollouts where one more narrows the pass rate down most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curricula.registry import register
from curricula.rounds import by_id, piloted, pilots, tally
from curricula.spending import spend
from curricula.stages import Stateless
from curricula.types import CurriculaError, Estimate, Floats, Ints, Outcome, PromptPool, Selection

Z = 1.959964  # half-width of a 95 % interval in standard deviations


@register("budget", "xrpo")
@dataclass(frozen=True)
class Xrpo(Stateless):
    """After a pilot, each round goes where one more rollout narrows the interval of the pass rate most. XRPO, arXiv 2510.06672.

    Gain of the next rollout: h(n) - h(n + 1) plus a bonus for exploration that shrinks with the group, bonus x (sqrt(L / n) -
    sqrt(L / (n + 1))) with L = ln(1 + all rollouts so far). Both fall with n, so taking the largest gains first is exact.

    The paper's h is Student's half-width s t / sqrt(n), which is 0 for a group whose rewards are all equal: such groups, all-wrong
    ones included, would count as certain. Ours is 1.96 standard deviations of the Beta posterior, with Beta(1, 1) before the pilot:
    h(n) = 1.96 sqrt(m (1 - m) / (n + 3)) at posterior mean m. The form of the bonus is ours too (the paper's could not be checked).
    Its seeding of all-wrong prompts and its sharpened advantages are no part of a budget.

    >>> gains(np.array([2.0, 0.0]), np.array([2.0, 4.0]), 2).round(4)
    array([[0.0239, 0.0198],
           [0.0178, 0.0148]])
    """

    n_init: int = 4
    rounds: int = 3  # the first one included; each further one spends an equal part of what is left
    bonus: float = 0.1
    max_n: int = 64

    def __post_init__(self) -> None:
        if self.n_init < 2 or self.rounds < 1:
            raise CurriculaError(f"xrpo: expected n_init >= 2 and rounds >= 1, got n_init={self.n_init}, rounds={self.rounds}")
        if self.max_n < self.n_init:
            raise CurriculaError(f"xrpo.max_n: expected >= n_init={self.n_init}, got {self.max_n}")
        if not 0 <= self.bonus < np.inf:
            raise CurriculaError(f"xrpo.bonus: expected a finite number >= 0, got {self.bonus}")

    def allocate(self, state: Any, pool: PromptPool, selection: Selection, estimate: Estimate, n_rollouts: int) -> Ints:
        return pilots(pool, selection, self.n_init, n_rollouts)

    def extend(self, state: Any, pool: PromptPool, outcome: Outcome, estimate: Estimate) -> Ints | None:
        plan = outcome.plan
        n_rounds_left = self.rounds - 1 - plan.round
        if n_rounds_left <= 0:
            return None
        order = by_id(pool, plan.selection)
        order = order[piloted(outcome)[order]]
        n_B = np.zeros(len(plan), dtype=np.int64)
        success_B, failure_B = (count_B[order] for count_B in tally(outcome))
        so_far_B = plan.n_rollouts_B[order]

        def worth(n_columns: int) -> Floats:
            gain_BC = gains(success_B, failure_B, n_columns) + self._bonus(so_far_B, n_columns)
            gain_BC[so_far_B[:, None] + np.arange(n_columns) >= self.max_n] = -1.0  # full
            return gain_BC

        n_room_B = np.maximum(self.max_n - so_far_B, 0)
        n_units = min(-(-plan.n_unspent // n_rounds_left), int(n_room_B.sum()))
        n_B[order] = np.minimum(spend(worth, n_units, int(n_room_B.max(initial=0))), n_room_B)
        return n_B

    def _bonus(self, so_far_B: Ints, n_columns: int) -> Floats:
        """(B, n_columns) what exploration adds to the gain of the next rollouts."""
        n_BC = so_far_B[:, None] + np.arange(n_columns)
        bonus_BC: Floats = self.bonus * np.sqrt(np.log1p(so_far_B.sum())) * (1 / np.sqrt(n_BC) - 1 / np.sqrt(n_BC + 1))
        return bonus_BC


def gains(success_B: Floats, failure_B: Floats, n_columns: int) -> Floats:
    """(B, n_columns) how much each of the next rollouts narrows the half-width, at an unchanged mean."""
    n_B = success_B + failure_B
    mean_B = (success_B + 1) / (n_B + 2)
    n_BC = n_B[:, None] + np.arange(n_columns + 1)
    gain_BC: Floats = -np.diff(Z * np.sqrt((mean_B * (1 - mean_B))[:, None] / (n_BC + 3)), axis=1)
    return gain_BC

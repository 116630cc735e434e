"""Rounds of rollouts for every group until it has shown enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curricula.registry import register
from curricula.rounds import dealt, piloted, pilots, tally
from curricula.stages import Stateless
from curricula.types import Bools, CurriculaError, Estimate, Floats, Ints, Outcome, PromptPool, Selection


@register("budget", "reinforce_ada")
@dataclass(frozen=True)
class ReinforceAda(Stateless):
    """Further rounds for the groups that have not yet shown enough successes and failures. Reinforce-Ada, arXiv 2510.04996.

    Every round gives ``n_per_round`` rollouts to each group that is still active. A group retires when it has ``n_positive``
    successes (``exit="positive"``), or these and ``n_negative`` failures (``exit="balanced"``). A success is a score above
    ``threshold``. Published: 8 per round, at most 4 rounds, balanced with 2 and 2 or positive with 1; with half the round and twice
    as many rounds (ours) a budget of 8 per prompt already leaves something to decide.

    The published method has no cap on a step; here the plan's budget is one. Where it does not reach, active groups get the same
    number each, then the lowest prompt ids one more (ours). What all groups together do not need is carried over to later steps.
    Its selection of n / 2 successes and n / 2 failures for the update is a matter of down-sampling, its estimated variant is the
    policy `proportional` with ``weight="inverse_sqrt"``.

    >>> ReinforceAda().is_done(np.array([0.0, 1.0, 2.0, 8.0]), np.array([16.0, 15.0, 14.0, 0.0]))
    array([False, False,  True, False])
    """

    n_per_round: int = 4
    rounds: int = 8  # the first one included
    exit: Literal["balanced", "positive"] = "balanced"
    n_positive: int = 2
    n_negative: int = 2
    threshold: float = 0.7

    def __post_init__(self) -> None:
        if self.n_per_round < 2 or self.rounds < 1:
            raise CurriculaError(
                f"reinforce_ada: expected n_per_round >= 2 and rounds >= 1, got n_per_round={self.n_per_round} and "
                f"rounds={self.rounds}"
            )
        if self.n_positive < 0 or self.n_negative < 0:
            raise CurriculaError(
                f"reinforce_ada: expected n_positive, n_negative >= 0, got {self.n_positive} and {self.n_negative}"
            )
        if not 0 <= self.threshold < 1:
            raise CurriculaError(f"reinforce_ada.threshold: expected a score in [0, 1), got {self.threshold}")

    def allocate(self, state: Any, pool: PromptPool, selection: Selection, estimate: Estimate, n_rollouts: int) -> Ints:
        return pilots(pool, selection, self.n_per_round, n_rollouts)

    def extend(self, state: Any, pool: PromptPool, outcome: Outcome, estimate: Estimate) -> Ints | None:
        if outcome.plan.round + 1 >= self.rounds:
            return None
        active_B = piloted(outcome) & ~self.is_done(*tally(outcome, self.threshold))
        return dealt(pool, outcome.plan.selection, np.where(active_B, self.n_per_round, 0), outcome.plan.n_unspent)

    def is_done(self, success_B: Floats, failure_B: Floats) -> Bools:
        """(B,) has the group shown enough?"""
        done_B: Bools = success_B >= self.n_positive
        return done_B if self.exit == "positive" else done_B & (failure_B >= self.n_negative)

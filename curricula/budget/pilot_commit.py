"""A pilot for every group, the large rest for those of middling pass rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curricula.groups import n_scored, pass_rates
from curricula.registry import register
from curricula.rounds import dealt, pilots
from curricula.stages import Stateless
from curricula.types import Bools, CurriculaError, Estimate, Floats, Ints, Outcome, PromptPool, Selection


@register("budget", "pilot_commit")
@dataclass(frozen=True)
class PilotCommit(Stateless):
    """A pilot for every group, then the rest where its pass rate is neither high nor low. Pilot-Commit, arXiv 2605.26606.

    Pass rate above ``high``: skip; below ``low``: defer; else commit ``n_commit`` more rollouts. Published: pilots of 16, 48 more,
    from three times the prompts that are trained on. The same proportions with pilots of 4 (ours) suit budgets of about 8 per
    prompt. Deferred and skipped prompts keep what their pilots showed in the belief, and come again when the selector says so; the
    published queue of deferred prompts is not part of a budget. Where the budget does not reach, committed groups get the same
    number each.

    >>> PilotCommit().commits(np.array([0.0, 0.125, 0.5, 0.75, 1.0]))
    array([False,  True,  True,  True, False])
    """

    n_pilot: int = 4
    n_commit: int = 12
    low: float = 0.125
    high: float = 0.75

    def __post_init__(self) -> None:
        if self.n_pilot < 2 or self.n_commit < 1:
            raise CurriculaError(
                f"pilot_commit: expected n_pilot >= 2 and n_commit >= 1, got n_pilot={self.n_pilot}, n_commit={self.n_commit}"
            )
        if not 0 <= self.low <= self.high <= 1:
            raise CurriculaError(f"pilot_commit: expected 0 <= low <= high <= 1, got low={self.low}, high={self.high}")

    def allocate(self, state: Any, pool: PromptPool, selection: Selection, estimate: Estimate, n_rollouts: int) -> Ints:
        return pilots(pool, selection, self.n_pilot, n_rollouts)

    def extend(self, state: Any, pool: PromptPool, outcome: Outcome, estimate: Estimate) -> Ints | None:
        if outcome.plan.round:
            return None
        rate_B = np.where(n_scored(outcome) > 0, pass_rates(outcome), -1.0)  # a pilot without a score says nothing: defer
        return dealt(pool, outcome.plan.selection, np.where(self.commits(rate_B), self.n_commit, 0), outcome.plan.n_unspent)

    def commits(self, rate_B: Floats) -> Bools:
        """(B,) does a pilot of this pass rate get the rest?"""
        inside_B: Bools = (rate_B >= self.low) & (rate_B <= self.high)
        return inside_B

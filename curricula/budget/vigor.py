"""Rounds for ever fewer groups: those whose rewards vary most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curricula.groups import sample_variances, scored
from curricula.registry import register
from curricula.rounds import dealt, piloted, pilots, ranked
from curricula.stages import Stateless
from curricula.types import CurriculaError, Estimate, Ints, Outcome, PromptPool, Selection


@register("budget", "vigor")
@dataclass(frozen=True)
class Vigor(Stateless):
    """Every round serves the share of groups whose rewards vary most, with as many more rollouts each. VIGOR, arXiv 2607.22002.

    All groups start with ``n_init`` rollouts. Round t gives the best ``fraction``^t of them n_init / fraction^t more, so that every
    round costs about the same (in the paper: expansion factor x fraction = 1). Ranked by the unbiased variance of the scores so
    far; groups without any variance are left out, and a group need not have been in the round before (both ours). Where the
    budget does not reach, the last round deals the same to each.

    >>> [Vigor(n_init=4, fraction=0.5).round_of(t, 64) for t in (1, 2)]
    [(32, 8), (16, 16)]
    """

    n_init: int = 4
    rounds: int = 3  # the first one included
    fraction: float = 0.5

    def __post_init__(self) -> None:
        if self.n_init < 2 or self.rounds < 1:
            raise CurriculaError(f"vigor: expected n_init >= 2 and rounds >= 1, got n_init={self.n_init}, rounds={self.rounds}")
        if not 0 < self.fraction < 1:
            raise CurriculaError(f"vigor.fraction: expected a share in (0, 1), got {self.fraction}")

    def allocate(self, state: Any, pool: PromptPool, selection: Selection, estimate: Estimate, n_rollouts: int) -> Ints:
        return pilots(pool, selection, self.n_init, n_rollouts)

    def extend(self, state: Any, pool: PromptPool, outcome: Outcome, estimate: Estimate) -> Ints | None:
        plan = outcome.plan
        if plan.round + 1 >= self.rounds:
            return None
        n_groups, n_more = self.round_of(plan.round + 1, int(piloted(outcome).sum()))
        variance_B = np.nan_to_num(sample_variances(*scored(outcome), len(plan)))
        best = ranked(pool, plan.selection, np.where(piloted(outcome), variance_B, 0.0))[:n_groups]
        wanted_B = np.zeros(len(plan), dtype=np.int64)
        wanted_B[best[variance_B[best] > 0]] = n_more
        return dealt(pool, plan.selection, wanted_B, plan.n_unspent)

    def round_of(self, t: int, n_groups: int) -> tuple[int, int]:
        """Groups in round t, of so many in the first, and rollouts for each of them."""
        share: float = self.fraction**t
        return int(np.ceil(n_groups * share)), round(min(self.n_init / share, 1e6))

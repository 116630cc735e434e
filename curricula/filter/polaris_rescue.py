"""The places of dead groups given to live ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curricula.groups import learnability, score_spreads
from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import CurriculaError, Floats, Ints, Outcome, PromptPool, Reason, Refill, Verdict
from curricula.verdicts import verdict


@register("filter", "polaris_rescue")
@dataclass(frozen=True)
class Rescue(Stateless):
    """Leave out groups with equal rewards and let others count twice in their places. From POLARIS; the choice is ours.

    A copy is a weight: a group that stands for two or three places gets weight 2 or 3. Copies go round the live groups, those
    with the largest variance first and equals by group id, until each dead group has one. POLARIS draws them at random, but a
    filter has no randomness here. Unless more than ``least`` of the groups are alive, nothing is copied.

    POLARIS copies rollouts, so the mean over tokens runs over all places; here it runs over the live groups alone. The update is
    therefore larger by places / live groups, which Adam's normalisation takes back and a plain step size does not.

    >>> Rescue().copies(np.array([0.5, 0.9, 0.7]), np.array([1, 2, 3]), n_dead=2)
    array([1., 2., 2.])
    """

    least: float = 1 / 3  # share of the groups

    def __post_init__(self) -> None:
        if not 0 <= self.least < 1:
            raise CurriculaError(f"polaris_rescue.least: expected a share in [0, 1), got {self.least}")

    def judge(self, state: Any, pool: PromptPool, outcome: Outcome) -> Verdict:
        reason_B = np.where(score_spreads(outcome) > 0, Reason.KEPT, Reason.ALL_EQUAL).astype(np.uint8)
        judged = verdict(outcome, reason_B, Refill.NONE)
        live = np.flatnonzero(judged.kept_B)
        weight_B = np.ones(len(judged.kept_B))
        if len(live) > self.least * len(judged.kept_B):
            n_dead = len(judged.kept_B) - len(live)
            weight_B[live] = self.copies(learnability(outcome)[live], outcome.plan.group_B[live], n_dead)
        return replace(judged, weight_B=weight_B)

    def copies(self, signal_n: Floats, group_n: Ints, n_dead: int) -> Floats:
        """(n,) places that each live group fills, its own included."""
        rounds, left = divmod(n_dead, len(signal_n))
        copies_n = np.full(len(signal_n), 1.0 + rounds)
        copies_n[np.lexsort((group_n, -signal_n))[:left]] += 1
        return copies_n

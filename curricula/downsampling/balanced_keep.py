"""Of each group as many correct as wrong rollouts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curricula.draws import generator
from curricula.groups import counts
from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import Bools, CurriculaError, Floats, Ints, Outcome, PromptPool, Verdict


@register("downsampling", "balanced_keep")
@dataclass(frozen=True)
class BalancedKeep(Stateless):
    """Of each group train on ``n_kept`` rollouts, half of them correct and half wrong. Reinforce-Ada, arXiv 2510.04996.

    Where one side has too few, the other fills up; the odd one of an odd number is a wrong one. Correct is a score above
    ``threshold``. The baseline stays the mean over everything that was drawn. The recommended setting divides by no deviation
    (``learner.advantage: dr_grpo``). The released code takes the first of each side to arrive, and short answers arrive first;
    here the choice is random, drawn from the step and the attempt alone, so a judgement can be repeated.

    >>> from curricula.curriculum import Curriculum
    >>> from curricula.testing import answer, small_pool
    >>> curriculum = Curriculum.from_recipe({"downsampling": {"name": "balanced_keep", "n_kept": 4}}, small_pool())
    >>> outcome = answer(curriculum, curriculum.plan(0, n_groups=1, n_rollouts=16), lambda prompt, r: float(r in (3, 9)))
    >>> np.sort(outcome.reward_R[curriculum.judge(outcome).carries_gradient_R])
    array([0., 0., 1., 1.])
    """

    n_kept: int = 8
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.n_kept < 2:
            raise CurriculaError(f"balanced_keep.n_kept: expected >= 2 rollouts per group, got {self.n_kept}")
        if not 0 <= self.threshold < 1:
            raise CurriculaError(f"balanced_keep.threshold: expected a score in [0, 1), got {self.threshold}")

    def thin(self, state: Any, pool: PromptPool, outcome: Outcome, verdict: Verdict) -> Verdict:
        plan, group_R = outcome.plan, outcome.group_R
        correct_R = verdict.carries_gradient_R & (outcome.score_R > self.threshold)
        wrong_R = verdict.carries_gradient_R & ~correct_R
        n_correct_B, n_wrong_B = (counts(group_R[side_R], len(plan)) for side_R in (correct_R, wrong_R))
        keep_correct_B = np.minimum(n_correct_B, np.maximum(self.n_kept // 2, self.n_kept - n_wrong_B))
        keep_wrong_B = np.minimum(n_wrong_B, self.n_kept - keep_correct_B)
        lot_R = generator(0, plan.step, plan.attempt, 0, "downsampling").random(len(group_R))
        carries_R = _drawn(correct_R, group_R, lot_R, keep_correct_B) | _drawn(wrong_R, group_R, lot_R, keep_wrong_B)
        return replace(verdict, carries_gradient_R=carries_R)


def _drawn(side_R: Bools, group_R: Ints, lot_R: Floats, keep_B: Ints) -> Bools:
    """(R,) the rollouts of a side with the lowest lots, ``keep_B`` of each group."""
    rollout = np.flatnonzero(side_R)
    rollout = rollout[np.lexsort((lot_R[rollout], group_R[rollout]))]
    group_r = group_R[rollout]
    rank_r = np.arange(len(rollout)) - np.searchsorted(group_r, group_r)
    drawn_R = np.zeros(len(group_R), dtype=np.bool_)
    drawn_R[rollout[rank_r < keep_B[group_r]]] = True
    return drawn_R

"""What a recipe's budget, stopping rules and filter do to logged groups: fair parts of them, as many rollouts as it asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from curricula import Curriculum
from curricula.draws import generator
from curricula.groups import counts, n_scored, score_spreads
from curricula.types import Bools, Ints, Outcome


class Spent(NamedTuple):
    """What a recipe spends on one decision's groups."""

    told_B: Bools
    rollouts_B: Ints
    tokens_B: Ints
    live_B: Bools
    kept_B: Bools
    gradient_B: Ints
    rounds: int


def spend(curriculum: Curriculum, logged: Outcome, budget: int) -> Spent:
    """Budget, stopping rules and filter of a recipe on logged groups, with the logged rollouts in random order."""
    plan = curriculum.plan_for(logged.plan.selection, logged.plan.step, budget, logged.plan.attempt)
    order_R, rank_R = _shuffled(curriculum.seed, logged)
    has_B = logged.plan.n_rollouts_B
    told_B, rounds = plan.n_rollouts_B <= has_B, 1
    outcome = _first(logged, order_R, rank_R, plan.n_rollouts_B)
    outcome = replace(outcome, plan=plan)
    while (more := curriculum.extend(outcome)) is not None:
        plan, rounds = plan.joined(more), rounds + 1
        told_B &= plan.n_rollouts_B <= has_B
        before = len(outcome.group_R)
        outcome = replace(_first(logged, order_R, rank_R, plan.n_rollouts_B), plan=plan)
        if len(outcome.group_R) == before:  # nothing is left to give: the rule would go on asking
            break
    verdict = curriculum.judge(outcome)
    n_groups, group_R = len(plan), outcome.group_R
    return Spent(
        told_B=told_B,
        rollouts_B=plan.n_rollouts_B,
        tokens_B=np.bincount(group_R, weights=outcome.n_tokens_R, minlength=n_groups).astype(np.int64),
        live_B=told_B & (n_scored(outcome) >= 2) & (score_spreads(outcome) > 0),
        kept_B=told_B & verdict.kept_B,
        gradient_B=np.where(told_B, counts(group_R[verdict.carries_gradient_R], n_groups), 0),
        rounds=rounds,
    )


def _shuffled(seed: int, logged: Outcome) -> tuple[Ints, Ints]:
    """The rollouts group by group, in random order inside each, and the place of each inside its group."""
    rng = generator(seed, logged.plan.step, logged.plan.attempt, 0, "replay")
    order_R = np.lexsort((rng.random(len(logged.group_R)), logged.group_R))
    group_R = logged.group_R[order_R]
    first_B = np.searchsorted(group_R, np.arange(len(logged.plan)))
    return order_R, np.arange(len(group_R)) - first_B[group_R]


def _first(logged: Outcome, order_R: Ints, rank_R: Ints, n_B: Ints) -> Outcome:
    """The outcome with the first n rollouts of every group."""
    return logged.take(order_R[rank_R < n_B[logged.group_R[order_R]]])

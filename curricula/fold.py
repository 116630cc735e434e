"""Feedback in canonical order: what is learned does not depend on how results were packaged, ordered or repeated.

All feedbacks of one step that arrive together become one, with its groups by id and the rollouts of a group by value. Groups
that were learned from before, groups that come too late, and groups without a single rollout (not back yet) are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curricula.ledger import Ledger, is_fresh, plan_id, record, settle
from curricula.types import Feedback, Ints, Outcome, Selection, Verdict


def fold(ledger: Ledger, feedbacks: Sequence[Feedback]) -> tuple[Ledger, list[Feedback]]:
    """The books afterwards, and what is to be learned, oldest step first."""
    fresh = []
    ordered = sorted(feedbacks, key=lambda feedback: plan_id(feedback.plan))
    for _, same in groupby(ordered, key=_kind):
        together = list(same)
        for feedback in together:
            ledger = settle(ledger, feedback.plan)
        ledger, learned = _learn_once(ledger, join(together))
        fresh.append(learned)
    return ledger, [feedback for feedback in fresh if len(feedback.plan)]


def _kind(feedback: Feedback) -> tuple[int, tuple[float, float], bool, int]:
    """What feedbacks must share to become one."""
    outcome = feedback.outcome
    return feedback.plan.step, outcome.reward_range, feedback.advantage_R is None, outcome.cut_score_RS.shape[1]


def _learn_once(ledger: Ledger, feedback: Feedback) -> tuple[Ledger, Feedback]:
    group_B = feedback.plan.group_B
    back_B = np.bincount(feedback.outcome.group_R, minlength=len(group_B)) > 0
    fresh_B, late_B = is_fresh(ledger, group_B)
    first_B = np.zeros(len(group_B), dtype=np.bool_)
    first_B[_first_by_id(group_B, back_B & fresh_B)] = True
    ledger = ledger._replace(
        n_late=ledger.n_late + np.count_nonzero(back_B & late_B),
        n_repeated=ledger.n_repeated + np.count_nonzero(back_B & ~late_B & ~first_B),
    )
    learned = take_groups(feedback, _first_by_id(group_B, first_B))
    return record(ledger, learned.plan.selection.prompt_B, learned.plan.group_B), learned


def _first_by_id(group_B: Ints, wanted_B: np.ndarray) -> Ints:
    """Places of the wanted groups by ascending id, the first of each id."""
    place = np.flatnonzero(wanted_B)
    return place[np.unique(group_B[place], return_index=True)[1]]


def take_groups(feedback: Feedback, place: Ints) -> Feedback:
    """The feedback of these groups alone, in this order, rollouts of a group by their numbers (see `_by_value`)."""
    plan, outcome, verdict = feedback.plan, feedback.outcome, feedback.verdict
    new_place_B = np.full(len(plan), -1, dtype=np.int64)
    new_place_B[place] = np.arange(len(place))
    new_group_R = new_place_B[outcome.group_R]
    rollout = _by_value(feedback, new_group_R)
    plan = replace(
        plan,
        selection=Selection(*(column[place] for column in _of_selection(plan.selection))),
        n_rollouts_B=plan.n_rollouts_B[place],
        group_B=plan.group_B[place],
        max_tokens_B=plan.max_tokens_B[place],
        greedy_B=plan.greedy_B[place],
        max_turns_B=plan.max_turns_B[place],
        stated_tokens_B=plan.stated_tokens_B[place],
    )
    reward, status, n_tokens, version, turns, cut_score = (column[rollout] for column in _of_outcome(outcome))
    baseline = outcome.baseline_B[place]
    return Feedback(
        Outcome(plan, new_group_R[rollout], reward, status, n_tokens, version, outcome.reward_range, baseline, turns, cut_score),
        replace(
            verdict,
            kept_B=verdict.kept_B[place],
            reason_B=verdict.reason_B[place],
            carries_gradient_R=verdict.carries_gradient_R[rollout],
            weight_B=verdict.weight_B[place],
        ),
        None if feedback.advantage_R is None else feedback.advantage_R[rollout],
    )


def join(feedbacks: Sequence[Feedback]) -> Feedback:
    """Feedbacks of one step as one; its plan has the identity and the probabilities of the first."""
    if len(feedbacks) == 1:
        return feedbacks[0]
    plans, outcomes, verdicts = [f.plan for f in feedbacks], [f.outcome for f in feedbacks], [f.verdict for f in feedbacks]
    plan = replace(
        plans[0],
        selection=Selection(*_stacked([_of_selection(plan.selection) for plan in plans])),
        n_rollouts_B=np.concatenate([plan.n_rollouts_B for plan in plans]),
        group_B=np.concatenate([plan.group_B for plan in plans]),
        max_tokens_B=np.concatenate([plan.max_tokens_B for plan in plans]),
        greedy_B=np.concatenate([plan.greedy_B for plan in plans]),
        max_turns_B=np.concatenate([plan.max_turns_B for plan in plans]),
        stated_tokens_B=np.concatenate([plan.stated_tokens_B for plan in plans]),
    )
    offsets = np.cumsum([0, *(len(plan) for plan in plans[:-1])])
    group_R = np.concatenate([outcome.group_R + offset for outcome, offset in zip(outcomes, offsets, strict=True)])
    reward, status, n_tokens, version, turns, cut_score = _stacked([_of_outcome(outcome) for outcome in outcomes])
    kept, reason, carries, weight = _stacked([(v.kept_B, v.reason_B, v.carries_gradient_R, v.weight_B) for v in verdicts])
    baseline_B = np.concatenate([outcome.baseline_B for outcome in outcomes])
    advantages = [f.advantage_R for f in feedbacks if f.advantage_R is not None]
    return Feedback(
        Outcome(plan, group_R, reward, status, n_tokens, version, outcomes[0].reward_range, baseline_B, turns, cut_score),
        Verdict(kept, reason, carries, verdicts[0].refill, weight, verdicts[0].renormalise, verdicts[0].refill_margin),
        np.concatenate(advantages) if advantages else None,
    )


def _by_value(feedback: Feedback, group_R: Ints) -> Ints:
    """Rollouts of the taken groups in canonical order; those with a negative group are left out."""
    reward, status, n_tokens, version, turns, cut_score = _of_outcome(feedback.outcome)
    advantage = () if feedback.advantage_R is None else (feedback.advantage_R,)
    order: Ints = np.lexsort((*advantage, *cut_score.T, turns, version, n_tokens, status, reward, group_R))  # the last key first
    return order[np.count_nonzero(group_R < 0) :]


def _of_selection(selection: Selection) -> tuple[NDArray[Any], ...]:
    return selection.prompt_B, selection.distribution_B, selection.propensity_B


def _of_outcome(outcome: Outcome) -> tuple[NDArray[Any], ...]:
    columns = (outcome.reward_R, outcome.status_R, outcome.n_tokens_R, outcome.policy_version_R)
    return *columns, outcome.n_turns_R, outcome.cut_score_RS


def _stacked(records: Sequence[tuple[NDArray[Any], ...]]) -> list[NDArray[Any]]:
    return [np.concatenate(columns) for columns in zip(*records, strict=True)]

"""Whom a growing pool adds children to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from curricula import CurriculaError, PromptPool
from curricula.growth import children
from curricula.stuck import Stuck, attempted, depth_N, no_attempts
from curricula.types import Estimate, Feedback, Outcome, Reason, RolloutPlan, Selection, Status, Verdict, group_ids

POOL = PromptPool.from_columns("abcdef", "xxxyyy")


def feedback(step: int, rewards: dict[int, list[float]], attempt: int = 0, low: float = 0.0) -> Feedback:
    """Groups by row; NaN is a rollout whose verifier timed out."""
    row = np.array(list(rewards))
    n_B = np.array([len(reward) for reward in rewards.values()])
    reward_R = np.concatenate(list(rewards.values()))
    selection = Selection(row, POOL.distribution_N[row], np.ones(len(row)))
    plan = RolloutPlan(step, attempt, 0, selection, n_B, group_ids(step, attempt, len(row)), np.full(2, 0.5))
    status_R = np.where(np.isnan(reward_R), Status.TIMEOUT, Status.OK)
    blank = np.zeros(len(reward_R), np.int64)
    outcome = Outcome(plan, np.repeat(np.arange(len(row)), n_B), reward_R, status_R, blank + 5, blank, (low, 1.0))
    return Feedback(outcome, Verdict(np.ones(len(row), np.bool_), np.full(len(row), Reason.KEPT), outcome.ok_R))


def believing(mean: Any) -> Any:
    return lambda row: Estimate(np.asarray(mean)[row], 1 - np.asarray(mean)[row])


def rows(rule: Stuck, state: Any, mean: Any = (0.5,) * 6, pool: PromptPool = POOL, most: int = 9, most_depth: int = 3) -> list[int]:
    found: list[int] = rule.rows(state, pool, believing(mean), most, most_depth).tolist()
    return found


def test_failures_in_a_row_are_counted_up_to_the_latest_success() -> None:
    nan = float("nan")
    state = no_attempts(POOL)
    state = attempted(state, [feedback(0, {0: [0, 0], 1: [0, 1], 2: [nan, nan], 3: [nan, 0]})])
    state = attempted(state, [feedback(1, {1: [0]}, attempt=1), feedback(1, {0: [0], 3: [1]})])
    assert state.n_groups_N.tolist() == [2, 2, 0, 2, 0, 0]
    assert state.n_failed_N.tolist() == [2, 1, 0, 0, 0, 0], "a group without a scored rollout is none"
    assert rows(Stuck(all_wrong=1), state) == [0, 1]
    assert rows(Stuck(all_wrong=2), state) == [0]
    assert rows(Stuck(all_wrong=0), state, (0.5, 0.5, 0.5, 0.1, 0.5, 0.5)) == [3, 0, 1]


def test_attempts_of_a_step_count_in_their_order() -> None:
    late_first = attempted(no_attempts(POOL), [feedback(0, {0: [0]}, attempt=1), feedback(0, {0: [1]})])
    assert late_first.n_failed_N[0] == 1


def test_the_lowest_reward_is_no_success_whatever_it_is() -> None:
    state = attempted(no_attempts(POOL), [feedback(0, {0: [-1, -1], 1: [-1, 0]}, low=-1.0)])
    assert state.n_failed_N.tolist()[:2] == [1, 0]


def test_the_believed_rate_decides_and_orders() -> None:
    state = attempted(no_attempts(POOL), [feedback(0, {i: [0.0] for i in range(6)})])
    mean = (0.3, 0.1, 0.2, 0.05, 0.1, 0.9)
    assert rows(Stuck(below=0.2), state, mean) == [3, 1, 4, 2]
    assert rows(Stuck(below=0.2), state, mean, most=2) == [3, 1]
    assert rows(Stuck(visits=2), state, mean) == []


def test_relabelling_rows_permutes_the_answer() -> None:
    order = np.array([4, 2, 0, 5, 1, 3])
    other = PromptPool(POOL.ids[order], POOL.distribution_N[order], POOL.distribution_names)
    mean = np.array([0.3, 0.1, 0.2, 0.1, 0.1, 0.9])
    state = attempted(no_attempts(POOL), [feedback(0, {i: [0.0] for i in range(6)})])
    moved = type(state)(*(value[order] for value in state))
    ours = [str(POOL.ids[row]) for row in rows(Stuck(), state, mean)]
    assert ours == [str(other.ids[row]) for row in rows(Stuck(), moved, mean[order], other)]


def test_generations_end_and_closed_prompts_are_left_out() -> None:
    grown = children(POOL, ["a1"], ["a"], np.full(6, 0.5))
    grown = children(grown, ["a11"], ["a1"], np.full(7, 0.5))
    assert depth_N(grown).tolist() == [0] * 6 + [1, 2]
    state = no_attempts(grown)
    state.n_groups_N[:] = state.n_failed_N[:] = 1
    state.closed_N[[1, 2, 3]] = True
    assert rows(Stuck(), state, (0.5,) * 8, grown, most_depth=2) == [0, 6, 4, 5]


@pytest.mark.parametrize(
    ("keys", "message"), [({"all_wrong": -1}, "all_wrong >= 0"), ({"visits": 0}, "visits >= 1"), ({"below": 2}, "below")]
)
def test_bad_rules_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        Stuck(**keys)

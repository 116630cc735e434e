"""Greedy completions: who gets one, what it costs, and that nobody learns from it as if it were a rollout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, Feedback, Outcome, PromptPool
from curricula.budget.even import Even
from curricula.budget.remax import Remax
from curricula.conflicts import ConflictWarning
from curricula.fold import fold
from curricula.ledger import empty_ledger
from curricula.paced import Paced
from curricula.recipes import read
from curricula.registry import build, names
from curricula.testing import answer, feedback_of
from curricula.types import Bools, Ints

REMAX = {"budget": "remax"}
CAPPED = {"budget": {"name": "remax", "inner": {"name": "knapsack", "max_n": 3}}}
INNER = [name for name in names("budget") if name != "remax"]


def make_pool(n: int = 40) -> PromptPool:
    return PromptPool.from_columns([f"{i % 2}/{i // 2:02d}" for i in range(n)], [str(i % 2) for i in range(n)])


def curriculum_with(budget: Any) -> Curriculum:
    return Curriculum(make_pool(), replace(read("uniform")[0], budget=budget))


def learn(curriculum: Curriculum, plan: Any) -> None:
    curriculum.update(feedback_of(curriculum, answer(curriculum, plan)))


def unspent(curriculum: Curriculum) -> int:
    return int(curriculum.state_dict()["ledger.unspent"])


def test_every_group_gets_one_and_the_rest_goes_to_the_inner_policy() -> None:
    plan = Curriculum.from_recipe("remax", make_pool()).plan(0, 4, 20)
    assert plan.n_rollouts_B.tolist() == [4, 4, 4, 4]
    assert plan.greedy_B.tolist() == [True] * 4
    assert (plan.n_rollouts, plan.n_completions, plan.n_unspent) == (16, 20, 0)


@pytest.mark.parametrize(
    ("n", "rollouts", "left"),
    [
        (2, [], 2),
        (3, [2], 0),
        (5, [3], 1),
        (7, [2, 3], 0),
        (8, [2, 3], 1),
        (9, [2, 2, 2], 0),
        (12, [2] * 4, 0),
        (13, [2, 2, 2, 3], 0),
    ],
)
def test_a_small_budget_serves_fewer_groups_and_each_of_them_whole(n: int, rollouts: list[int], left: int) -> None:
    plan = Curriculum.from_recipe(REMAX, make_pool()).plan(0, 4, n)
    assert sorted(plan.n_rollouts_B[plan.n_rollouts_B > 0].tolist()) == rollouts
    assert plan.greedy_B.tolist() == (plan.n_rollouts_B > 0).tolist()
    assert plan.n_unspent == left


@pytest.mark.parametrize("inner", INNER)
def test_around_any_policy_all_rounds_together_keep_the_budget(inner: str) -> None:
    curriculum = Curriculum.from_recipe({"budget": {"name": "remax", "inner": inner}}, make_pool())
    for step, n_rollouts in enumerate([0, 1, 2, 3, 4, 8, 17, 64, 700, 50, 9]):
        plan = curriculum.plan(step, 6, n_rollouts)
        budget = n_rollouts + plan.n_carried
        first = plan
        while True:
            assert plan.n_completions + plan.n_unspent == budget
            assert plan.n_unspent >= 0
            assert plan.greedy_B.tolist() == first.greedy_B.tolist() == (plan.n_rollouts_B > 0).tolist()
            outcome = answer(curriculum, plan)
            more = curriculum.extend(outcome)
            if more is None:
                break
            assert not more.greedy_B.any(), "asked for in the first round alone"
            plan = plan.joined(more)
        curriculum.update(Feedback(outcome, curriculum.judge(outcome)))


def test_unspent_rollouts_are_carried_and_pay_for_greedy_completions_too() -> None:
    curriculum = Curriculum.from_recipe(CAPPED, make_pool())
    first = curriculum.plan(0, 4, 20)
    assert (first.n_rollouts, first.n_completions, first.n_unspent) == (12, 16, 4)
    learn(curriculum, first)
    assert unspent(curriculum) == 4
    second = curriculum.plan(1, 9, 20)
    assert (second.n_carried, second.n_rollouts, second.n_completions, second.n_unspent) == (4, 16, 24, 0)
    learn(curriculum, second)
    assert unspent(curriculum) == 0


@pytest.mark.parametrize("n_ahead", [0, 1, 2])
def test_books_balance_with_plans_in_flight(n_ahead: int) -> None:
    curriculum = Curriculum.from_recipe(CAPPED, make_pool())
    rng, in_flight, spent, all_spent = np.random.default_rng(0), [], 0, 0
    for step in range(40):
        plan = curriculum.plan(step, int(rng.integers(1, 12)), 20)
        in_flight.append(plan)
        all_spent += plan.n_completions
        assert all_spent <= 20 * (step + 1)
        if len(in_flight) > n_ahead:
            done = in_flight.pop(0)
            learn(curriculum, done)
            spent += done.n_completions
            assert spent + unspent(curriculum) == 20 * (done.step + 1)


def test_refills_bring_their_own_budget_and_ask_as_well() -> None:
    curriculum = Curriculum.from_recipe(CAPPED, make_pool())
    learn(curriculum, curriculum.plan(0, 4, 20))
    refill = curriculum.plan(1, 2, 7, attempt=1)
    assert (refill.n_rollouts, refill.n_completions, refill.n_carried, refill.n_unspent) == (5, 7, 0, 0)


@dataclass(frozen=True)
class LateForAll(Even):
    """Two rollouts for the first group, then two for every group."""

    def allocate(self, state: Any, pool: Any, selection: Any, estimate: Any, n_rollouts: int) -> Ints:
        return np.where(np.arange(len(selection)) == 0, 2, 0)

    def extend(self, state: Any, pool: Any, outcome: Outcome, estimate: Any) -> Any:
        return None if outcome.plan.round else np.full(len(outcome.plan), 2)


def test_a_group_without_a_greedy_completion_gets_no_later_round() -> None:
    curriculum = curriculum_with(Remax(inner=LateForAll()))
    plan = curriculum.plan(0, 3, 20)
    assert plan.greedy_B.tolist() == [True, False, False]
    more = curriculum.extend(answer(curriculum, plan))
    assert more is not None
    assert more.n_rollouts_B.tolist() == [2, 0, 0]
    assert more.n_unspent == 20 - 3 - 2


@dataclass(frozen=True)
class EveryKth(Even):
    """Even, and a greedy completion for every k-th group."""

    k: int = 1

    def baselines(self, state: Any, pool: Any, selection: Any, n_B: Ints) -> Bools:
        return np.asarray(np.arange(len(n_B)) % self.k == 0)

    def allocate(self, state: Any, pool: Any, selection: Any, estimate: Any, n_rollouts: int) -> Ints:
        return super().allocate(state, pool, selection, estimate, n_rollouts - len(selection))


def test_policies_that_do_not_ask_get_none_and_pacings_pass_the_question_on() -> None:
    assert not Curriculum.from_recipe("uniform", make_pool()).plan(0, 4, 20).greedy_B.any()
    linear = {"pacing": "linear", "first": 4, "last": 2, "steps": 2}
    silent = Curriculum.from_recipe({"budget": {"name": "knapsack", "max_n": linear}}, make_pool())
    assert not silent.plan(0, 4, 20).greedy_B.any()
    inside = Curriculum.from_recipe({"budget": {"name": "remax", "inner": {"name": "knapsack", "max_n": linear}}}, make_pool())
    assert inside.plan(0, 4, 40).n_rollouts_B.tolist() == [4] * 4
    learn(inside, inside.plan(0, 4, 40))
    learn(inside, inside.plan(1, 4, 40))
    assert inside.plan(2, 4, 40).n_rollouts_B.tolist() == [2] * 4, "the inner policy learns"
    paced = curriculum_with(Paced(EveryKth(), (("k", build("pacing", {"name": "linear", "first": 3, "last": 1, "steps": 2})),)))
    asked = []
    for step in range(3):
        asked.append(paced.plan(step, 4, 20).greedy_B.tolist())
        learn(paced, paced.plan(step, 4, 20))
    assert asked == [[True, False, False, True], [True, False, True, False], [True] * 4]


@dataclass(frozen=True)
class Wrong(Even):
    """Asks for greedy completions in ways that are refused."""

    how: str = "dear"

    def allocate(self, state: Any, pool: Any, selection: Any, estimate: Any, n_rollouts: int) -> Ints:
        n_B = super().allocate(state, pool, selection, estimate, n_rollouts)
        return np.where(np.arange(len(n_B)) == 0, 0, n_B) if self.how == "empty" else n_B

    def baselines(self, state: Any, pool: Any, selection: Any, n_B: Ints) -> Any:
        asked_B = np.ones(len(n_B), np.bool_)
        return {"dear": asked_B, "empty": asked_B, "short": asked_B[:-1], "numbers": asked_B.astype(int)}[self.how]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("dear", r"12 rollouts and 3 greedy completions are more than the budget of 12"),
        ("empty", r"true only where a group has rollouts; got \[ True  True  True\]"),
        ("short", r"expected 3 times true or false"),
        ("numbers", r"expected 3 times true or false.*got \[1 1 1\]"),
    ],
)
def test_bad_answers_are_refused(how: str, message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        curriculum_with(Wrong(how=how)).plan(0, 3, 12)


def test_an_outcome_holds_the_raw_reward_or_nothing() -> None:
    curriculum = Curriculum.from_recipe("remax", make_pool())
    outcome = answer(curriculum, curriculum.plan(0, 3, 12))
    assert np.isnan(outcome.baseline_B).all()
    wide = replace(outcome, reward_range=(-1.0, 1.0), baseline_B=np.array([-1.0, np.nan, 1.0]))
    assert wide.baseline_B.tolist()[::2] == [-1.0, 1.0]
    assert not wide.baseline_B.flags.writeable
    for bad in (1.5, -0.5, np.inf, -np.inf):
        with pytest.raises(CurriculaError, match=r"step 0: the greedy completion of group 1 has reward .*expected a number in \[0"):
            replace(outcome, baseline_B=np.array([0.0, bad, 1.0]))
    with pytest.raises(CurriculaError, match=r"baseline_B: expected shape \(3,\)"):
        replace(outcome, baseline_B=np.zeros(2))


def test_a_baseline_follows_its_group_through_packaging_and_order() -> None:
    curriculum = curriculum_with(EveryKth(k=2))
    plan, refill = curriculum.plan(0, 5, 20), curriculum.plan(0, 3, 9, attempt=1)
    first = replace(answer(curriculum, plan), baseline_B=np.array([0.1, np.nan, 0.3, np.nan, 0.5]))
    second = replace(answer(curriculum, refill), baseline_B=np.array([0.6, np.nan, 0.8]))
    parcels = [feedback_of(curriculum, outcome) for outcome in (second, first, first)]  # late ones first, one of them twice
    (learned,) = fold(empty_ledger(40), parcels)[1]
    assert learned.plan.group_B.tolist() == [*plan.group_B, *refill.group_B]
    np.testing.assert_array_equal(learned.outcome.baseline_B, [0.1, np.nan, 0.3, np.nan, 0.5, 0.6, np.nan, 0.8])
    assert learned.plan.greedy_B.tolist() == [True, False, True, False, True, True, False, True]


def test_a_group_of_which_only_the_greedy_completion_is_back_is_not_back() -> None:
    curriculum = Curriculum.from_recipe("remax", make_pool())
    plan = curriculum.plan(0, 2, 8)
    none: Any = np.empty(0)
    curriculum.update(feedback_of(curriculum, Outcome(plan, none, none, none, none, none, baseline_B=np.ones(2))))
    assert curriculum.metrics()["n_seen_prompts"] == 0
    learn(curriculum, plan)
    assert curriculum.metrics()["n_seen_prompts"] == 2


@pytest.mark.parametrize("belief", names("belief"))
def test_no_belief_counts_it_as_a_sample(belief: str) -> None:
    plain, informed = (Curriculum.from_recipe({"budget": "remax", "belief": belief}, make_pool()) for _ in range(2))
    for step in range(3):
        outcome = answer(plain, plain.plan(step, 6, 30))
        plain.update(feedback_of(plain, outcome))
        informed.update(feedback_of(informed, replace(outcome, baseline_B=np.ones(6))))
    one, other = plain.state_dict(), informed.state_dict()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_a_filter_that_drops_what_remax_can_use_is_named() -> None:
    with pytest.warns(ConflictWarning, match="'nonzero_variance' together with 'remax'"):
        Curriculum.from_recipe({"budget": "remax", "filter": "nonzero_variance"}, make_pool())


def test_the_inner_policys_state_grows_with_the_pool() -> None:
    linear = {"pacing": "linear", "first": 4, "last": 2, "steps": 2}
    curriculum = Curriculum.from_recipe({"budget": {"name": "remax", "inner": {"name": "knapsack", "max_n": linear}}}, make_pool())
    for step in range(2):
        learn(curriculum, curriculum.plan(step, 4, 40))
    curriculum.grow(make_pool(60))
    assert curriculum.plan(2, 4, 40).n_rollouts_B.tolist() == [2] * 4

"""The one stateful object: budgets over time, late and repeated feedback, checkpoints, and what it says when something is wrong."""

import io
from dataclasses import replace

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, Feedback, PromptPool, Reason, Stages, build
from curricula.budget.even import Even
from curricula.ledger import MEMORY_STEPS
from curricula.recipes import read
from curricula.testing import answer, feedback_of

CAPPED = {"budget": {"name": "knapsack", "max_n": 3}}  # leaves what three rollouts each do not use


def make_pool(n=40, k=2):
    return PromptPool.from_columns([f"{i % k}/{i // k:02d}" for i in range(n)], [str(i % k) for i in range(n)])


def learn(curriculum, plan):
    curriculum.update(feedback_of(curriculum, answer(curriculum, plan)))


def unspent(curriculum):
    return int(curriculum.state_dict()["ledger.unspent"])


def test_unspent_rollouts_are_carried_to_the_next_step():
    curriculum = Curriculum.from_recipe(CAPPED, make_pool())
    first = curriculum.plan(0, 4, 20)
    assert (first.n_rollouts, first.n_carried, first.n_unspent) == (12, 0, 8)
    learn(curriculum, first)
    second = curriculum.plan(1, 9, 20)
    assert (second.n_rollouts, second.n_carried, second.n_unspent) == (27, 8, 1)
    learn(curriculum, second)
    assert unspent(curriculum) == 1


@pytest.mark.parametrize("n_ahead", [0, 1, 2])
def test_books_balance_however_many_plans_are_in_flight(n_ahead):
    """At every moment: rollouts spent + in hand = rollouts granted; and no more is ever spent than was granted."""
    curriculum = Curriculum.from_recipe(CAPPED, make_pool())
    rng, in_flight, spent, granted, all_spent = np.random.default_rng(0), [], 0, 0, 0
    for step in range(40):
        plan = curriculum.plan(step, int(rng.integers(1, 14)), 20)
        in_flight.append(plan)
        all_spent += plan.n_rollouts
        assert all_spent <= 20 * (step + 1)
        if len(in_flight) > n_ahead:
            done = in_flight.pop(0)
            learn(curriculum, done)
            spent, granted = spent + done.n_rollouts, granted + 20
            assert spent + unspent(curriculum) == granted


def test_two_plans_before_the_first_update_spend_nothing_twice():
    curriculum = Curriculum.from_recipe(CAPPED, make_pool())
    plans = [curriculum.plan(step, 4, 20) for step in (0, 1)]
    for plan in plans:
        learn(curriculum, plan)
    assert unspent(curriculum) == 16
    learn(curriculum, plans[0])
    assert unspent(curriculum) == 16


def test_refills_bring_their_own_budget():
    curriculum = Curriculum.from_recipe(CAPPED, make_pool())
    learn(curriculum, curriculum.plan(0, 4, 20))
    refill = curriculum.plan(1, 2, 6, attempt=1)
    assert (refill.n_rollouts, refill.n_carried) == (6, 0)
    assert set(refill.group_B) & set(curriculum.plan(1, 2, 6).group_B) == set()


def test_a_debt_is_paid_back():
    """Going from synchronous to one step ahead, two plans claim the same rollouts; the next ones pay."""
    curriculum = Curriculum.from_recipe(CAPPED, make_pool())
    learn(curriculum, curriculum.plan(0, 4, 20))
    both = [curriculum.plan(step, 14, 20) for step in (1, 2)]
    assert [plan.n_carried for plan in both] == [8, 8]
    for plan in both:
        learn(curriculum, plan)
    assert unspent(curriculum) == -8
    after = curriculum.plan(3, 4, 20)
    assert after.n_rollouts + after.n_unspent == 12


def test_excluded_prompts_and_an_exhausted_pool():
    curriculum = Curriculum.from_recipe("uniform", make_pool(6))
    assert set(curriculum.plan(0, 3, 6, exclude=[0, 1, 2]).selection.prompt_B) == {3, 4, 5}
    assert len(curriculum.plan(0, 9, 40, exclude=np.array([0]))) == 5
    with pytest.raises(CurriculaError, match=r"exclude names rows outside 0\.\.5"):
        curriculum.plan(0, 3, 6, exclude=[6])


def test_old_groups_are_counted_and_not_learned_from():
    curriculum = Curriculum.from_recipe("uniform", make_pool())
    late = curriculum.plan(0, 2, 4)
    learn(curriculum, curriculum.plan(MEMORY_STEPS, 2, 4))
    before = curriculum.state_dict()
    learn(curriculum, late)
    assert curriculum.metrics()["n_late_groups"] == 2
    np.testing.assert_array_equal(before["belief.success_N"], curriculum.state_dict()["belief.success_N"])


def test_memory_of_groups_is_bounded():
    curriculum = Curriculum.from_recipe("uniform", make_pool())
    for step in range(3 * MEMORY_STEPS):
        learn(curriculum, curriculum.plan(step, 2, 4))
    assert len(curriculum.state_dict()["ledger.group"]) == 2 * MEMORY_STEPS


def test_a_group_that_is_not_back_yet_may_come_later():
    curriculum = Curriculum.from_recipe("uniform", make_pool())
    outcome = answer(curriculum, curriculum.plan(0, 2, 8))
    for group in (0, 1):
        here = outcome.group_R == group
        part = replace(
            outcome,
            group_R=outcome.group_R[here],
            reward_R=outcome.reward_R[here],
            status_R=outcome.status_R[here],
            n_tokens_R=outcome.n_tokens_R[here],
            policy_version_R=outcome.policy_version_R[here],
            n_turns_R=outcome.n_turns_R[here],
        )
        verdict = curriculum.judge(part)
        assert verdict.reason_B[1 - group] == Reason.TOO_FEW
        curriculum.update(Feedback(part, verdict))
    assert curriculum.metrics()["n_seen_prompts"] == 2


def test_rejected_groups_teach_as_well():
    curriculum = Curriculum.from_recipe("difficulty_band", make_pool())
    outcome = answer(curriculum, curriculum.plan(0, 2, 8), reward=lambda prompt, r: 0.0)
    verdict = curriculum.judge(outcome)
    assert not verdict.kept_B.any()
    curriculum.update(Feedback(outcome, verdict))
    assert (curriculum.estimate(outcome.plan.selection.prompt_B).mean_B < 0.5).all()


def test_exploration_is_a_floor():
    curriculum = Curriculum.from_recipe({"distribution": {"name": "fixed", "weights": {"0": 1}}, "exploration": 0.1}, make_pool())
    np.testing.assert_allclose(curriculum.probabilities(), [0.95, 0.05])


def test_metrics_name_every_distribution():
    metrics = Curriculum.from_recipe("dump_ucb", make_pool(k=4)).metrics()
    assert metrics["effective_distributions"] == pytest.approx(4)
    assert [metrics[f"probability/{k}"] for k in range(4)] == pytest.approx([0.25] * 4)


class Pilot(Even):
    """Two rollouts each, then the rest in a second round."""

    def allocate(self, state, pool, selection, estimate, n_rollouts):
        return np.full(len(selection), 2)

    def extend(self, state, pool, outcome, estimate):
        return (
            None if outcome.plan.round else super().allocate(state, pool, outcome.plan.selection, estimate, outcome.plan.n_unspent)
        )


def test_a_second_round_spends_what_the_first_left():
    pool = make_pool()
    stages, _ = read("uniform")
    curriculum = Curriculum(pool, replace(stages, budget=Pilot()))
    plan = curriculum.plan(0, 4, 30)
    more = curriculum.extend(answer(curriculum, plan))
    assert (plan.n_rollouts, plan.n_unspent, more.n_rollouts, more.n_unspent, more.round) == (8, 22, 22, 0, 1)
    whole = plan.joined(more)
    assert whole.n_rollouts == 30
    assert curriculum.extend(answer(curriculum, whole)) is None
    learn(curriculum, whole)
    assert unspent(curriculum) == 0
    with pytest.raises(CurriculaError, match="join it with the plan it extends"):
        plan.joined(curriculum.plan(1, 4, 30))


def saved(curriculum):
    file = io.BytesIO()
    np.savez(file, **curriculum.state_dict())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (PromptPool.from_columns("abcxy", "zzzzz"), "data set changed.*2 prompt.s. were added and 1 removed.*now 5, then 4"),
        (PromptPool.from_columns("dcba", "zzzz"), "the same prompts are in another order"),
        (PromptPool.from_columns("abcd", "zzzy"), "the same prompts are in another order or in other distributions"),
    ],
)
def test_a_changed_data_set_is_told(pool, message):
    state = saved(Curriculum.from_recipe("uniform", PromptPool.from_columns("abcd", "zzzz")))
    with pytest.raises(CurriculaError, match=message):
        Curriculum.from_recipe("uniform", pool).load_state_dict(state)


@pytest.mark.parametrize(
    ("recipe", "seed", "message"),
    [
        ({"distribution": {"name": "sec", "tau": 0.5}}, 0, "distribution was sec .*0.4.* and is now sec .*0.5"),
        ("dump_ucb", 0, "distribution was sec .* and is now dump_ucb"),
        ("sec", 1, "seed was 0 and is now 1"),
        ({"distribution": "sec", "exploration": 0.5}, 0, "exploration was 0.02 and is now 0.5"),
    ],
)
def test_a_changed_recipe_is_told(recipe, seed, message):
    state = saved(Curriculum.from_recipe("sec", make_pool()))
    with pytest.raises(CurriculaError, match=message):
        Curriculum.from_recipe(recipe, make_pool(), seed).load_state_dict(state)


def test_a_state_of_another_format_is_told():
    curriculum = Curriculum.from_recipe("sec", make_pool())
    with pytest.raises(CurriculaError, match="format 99, expected 1"):
        curriculum.load_state_dict({**saved(curriculum), "meta.version": np.array(99)})


@pytest.mark.parametrize("numbers", [{"step": -1}, {"n_groups": -1}, {"n_rollouts": -1}, {"attempt": -1}])
def test_negative_numbers_are_refused(numbers):
    with pytest.raises(CurriculaError, match="expected numbers >= 0"):
        Curriculum.from_recipe("uniform", make_pool()).plan(**{"step": 0, "n_groups": 1, "n_rollouts": 2, **numbers})


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(CurriculaError, match="seed"):
        Curriculum.from_recipe("uniform", make_pool(), seed)


class Broken(Even):
    def probabilities(self, state, pool):
        return np.array([np.nan, 1.0])


def test_a_distribution_that_returns_no_probabilities_is_named():
    stages, _ = read("uniform")
    curriculum = Curriculum(make_pool(), replace(stages, distribution=Broken()))
    with pytest.raises(CurriculaError, match=r"Broken.*expected 2 probabilities, finite"):
        curriculum.plan(0, 2, 4)


def test_an_arm_that_always_teaches_takes_over():
    """Two hundred steps in which only one distribution has mixed groups."""
    for recipe in ("dump_ucb", "sec"):
        curriculum = Curriculum.from_recipe(recipe, make_pool(60, 3))
        for step in range(200):
            plan = curriculum.plan(step, 6, 24)
            outcome = answer(curriculum, plan, reward=lambda prompt, r: float(prompt.startswith("1") and r % 2))
            curriculum.update(feedback_of(curriculum, outcome))
        assert curriculum.probabilities().argmax() == 1
        assert curriculum.probabilities()[1] > 0.75


def test_stages_may_be_put_together_by_hand():
    stages = Stages(
        *(
            build(stage, name)
            for stage, name in (
                ("belief", "beta"),
                ("distribution", "sec"),
                ("selector", "uniform"),
                ("budget", "even"),
                ("shaping", "raw"),
                ("filter", "keep_all"),
                ("downsampling", "none"),
            )
        )
    )
    assert len(Curriculum(make_pool(), stages, seed=3).plan(0, 2, 8)) == 2


def test_a_step_spends_at_most_twice_its_own_budget_however_much_was_saved():
    curriculum = Curriculum.from_recipe({"budget": {"name": "speed", "n_init": 2, "n_cont": 2}}, make_pool(60, 3))
    for step in range(6):
        plan = curriculum.plan(step, 4, 64)
        assert plan.n_carried <= 64
        outcome = answer(curriculum, plan, reward=lambda prompt, r: 1.0)
        curriculum.update(feedback_of(curriculum, outcome))
    assert unspent(curriculum) == 6 * (64 - 8)
    assert curriculum.plan(6, 4, 64).n_carried == 64

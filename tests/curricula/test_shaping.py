"""Shaping against the fixtures of section 14; BRPO's pure functions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, Feedback, build
from curricula.budget_split import budget_advantages, budget_probabilities, budget_returns, summary_advantages
from curricula.filter.keep_all import KeepAll
from curricula.fold import join, take_groups
from curricula.registry import names
from curricula.shaping.hapo import Shortest, ShortestSoFar
from curricula.shaping.length_budget import LengthBudget
from curricula.shaping.multi_attempt import MultiAttempt
from curricula.shaping.overlong import Overlong
from curricula.shaping.raw import Raw
from curricula.testing import answer, feedback_of, small_pool
from curricula.types import Cuts, Outcome, PromptPool


def of_lengths(groups, rewards, lengths, **more):
    return replace(groups(rewards, **more), n_tokens_R=np.asarray(lengths))


class TestLengthBudget:
    def test_triangle_of_the_specification(self):
        triangle_R = LengthBudget(budget=100).triangle(np.array([0, 50, 100, 150, 200, 201, 5000]))
        assert triangle_R.tolist() == [0, 0.5, 1, 0.5, 0, 0, 0]

    def test_reward_is_the_weighted_sum_and_wrong_answers_get_it_too_unless_gated(self, groups):
        outcome = of_lengths(groups, [[1, 0, 1, None]], [50, 100, 300, 100])
        shaped_R = LengthBudget(budget=100, correct_weight=0.6, length_weight=0.3).shape(None, None, outcome)
        assert shaped_R[:3] == pytest.approx([0.75, 0.3, 0.6])
        assert np.isnan(shaped_R[3])
        gated = LengthBudget(budget=100, correct_weight=0.6, length_weight=0.3, gated=True).shape(None, None, outcome)
        assert gated[:3] == pytest.approx([0.75, 0.0, 0.6])

    def test_fixture_budgets_reach_reward_and_limit_when_enforced(self):
        limits = [
            LengthBudget(budget=b, enforce=True).limit(None, None, np.arange(2)).tolist() for b in (256, 179.2, 125.44, 87.808, 0.2)
        ]
        assert limits == [[256, 256], [179, 179], [125, 125], [87, 87], [1, 1]]
        assert LengthBudget().limit(None, None, np.arange(2)).tolist() == [0, 0]
        assert LengthBudget(budget=179.2).triangle(np.array([179])) == pytest.approx(179 / 179.2)

    def test_a_pacing_drives_the_budget_of_plans_and_rewards(self):
        budget = {"pacing": "linear", "first": 256, "last": 56, "steps": 2}
        shaping = {"name": "length_budget", "budget": budget, "enforce": True}
        curriculum = Curriculum.from_recipe({"shaping": shaping}, small_pool())
        limits, shaped = [], []
        for step in range(3):
            outcome = answer(curriculum, curriculum.plan(step, 2, 8))
            outcome = replace(outcome, n_tokens_R=np.full(8, 56), reward_R=np.zeros(8))
            limits.append(int(outcome.plan.max_tokens_B[0]))
            shaped.append(float(curriculum.shape(outcome)[0]))
            curriculum.update(feedback_of(curriculum, outcome))
        assert limits == [256, 156, 56]
        assert shaped == pytest.approx([0.3 * 56 / 256, 0.3 * 56 / 156, 0.3])

    def test_plans_state_the_budget_through_rounds_and_learning(self):
        budget = {"pacing": "exponential_steps", "first": 256, "factor": 0.7, "every": 1, "least": 1}
        recipe = {"shaping": {"name": "length_budget", "budget": budget}, "budget": "speed"}
        curriculum = Curriculum.from_recipe(recipe, small_pool())
        stated = []
        for step in range(3):
            plan = curriculum.plan(step, 6, 48)
            outcome = answer(curriculum, plan)
            more = curriculum.extend(outcome)
            assert more is not None
            assert more.stated_tokens_B.tolist() == plan.joined(more).stated_tokens_B.tolist() == plan.stated_tokens_B.tolist()
            stated.append(plan.stated_tokens_B.tolist())
            curriculum.update(feedback_of(curriculum, outcome))
        assert stated == [[256] * 6, [179] * 6, [125] * 6]
        assert plan.max_tokens_B.tolist() == [0] * 6, "stated, not enforced"
        whole = feedback_of(curriculum, outcome)
        mixed = replace(whole, outcome=replace(outcome, plan=replace(plan, stated_tokens_B=np.arange(6))))
        parts = [take_groups(mixed, np.array(places)) for places in ([4, 1], [0, 2, 3, 5])]
        assert join(parts).plan.stated_tokens_B.tolist() == [4, 1, 0, 2, 3, 5]

    def test_other_shaping_states_none(self):
        for name in ("raw", "overlong", "hapo", "multi_attempt"):
            assert Curriculum.from_recipe({"shaping": name}, small_pool()).plan(0, 6, 24).stated_tokens_B.tolist() == [0] * 6

    def test_negative_budgets_are_refused(self):
        class Owing(Raw):
            def stated_tokens(self, state, pool, prompt_B):
                return np.full(len(prompt_B), -1)

        stages = replace(Curriculum.from_recipe("uniform", small_pool()).stages, shaping=Owing())
        with pytest.raises(CurriculaError, match=r"expected 6 token budgets >= 0, got \[-1"):
            Curriculum(small_pool(), stages).plan(0, 6, 24)


class TestHapo:
    def test_fixture(self):
        lengths, known = np.array([25, 50, 100, 150, 250]), np.full(5, 100.0)
        correct = ShortestSoFar().bonus(lengths, known, np.ones(5, np.bool_))
        wrong = ShortestSoFar().bonus(lengths, known, np.zeros(5, np.bool_))
        assert correct == pytest.approx([0.923879533, 0.707106781, 0.0, -0.7, -0.7], abs=1e-9)
        assert wrong == pytest.approx([0.0, 0.0, 0.0, -0.707106781, -1.0], abs=1e-9)

    def test_history_begins_with_the_first_correct_answer_and_follows_the_shortest(self, groups):
        pool = PromptPool.from_columns("abc", "xxx")
        policy = ShortestSoFar(weight=0.5)
        state = policy.init(pool)
        first = of_lengths(groups, [[1, 0, None], [0, 0]], [80, 10, 5, 20, 30], pool=pool, prompts=[2, 0])
        assert policy.shape(state, pool, first)[:2].tolist() == [1.0, 0.0], "no history: the raw score"
        state = policy.update(state, pool, feedback(first))
        assert state.tokens_N.tolist() == [0, 0, 80], "wrong and unscored answers set no mark, however short"
        longer = of_lengths(groups, [[1, 0]], [120, 160], pool=pool, prompts=[2], step=1)
        assert policy.shape(state, pool, longer) == pytest.approx([1 - 0.5 * 0.7, -0.5])
        state = policy.update(state, pool, feedback(longer))
        assert state.tokens_N.tolist() == [0, 0, 80]
        shorter = of_lengths(groups, [[1, 1]], [60, 40], pool=pool, prompts=[2], step=2)
        assert policy.update(state, pool, feedback(shorter)).tokens_N.tolist() == [0, 0, 40]

    def test_a_correct_answer_is_always_worth_more_than_a_wrong_one(self):
        lengths = np.arange(1, 500)
        correct = 1 + ShortestSoFar().bonus(lengths, np.full(499, 100.0), np.ones(499, np.bool_))
        wrong = ShortestSoFar().bonus(lengths, np.full(499, 100.0), np.zeros(499, np.bool_))
        assert correct.min() > wrong.max()

    def test_forgetting_lets_the_mark_grow_at_each_visit_alone(self, groups):
        pool = PromptPool.from_columns("ab", "xx")
        policy = ShortestSoFar(forgetting=0.5)
        state = Shortest(np.array([10.0, 40.0], np.float32))
        visit = of_lengths(groups, [[1, 0]], [70, 5], pool=pool, prompts=[1])
        state = policy.update(state, pool, feedback(visit))
        assert state.tokens_N.tolist() == [10, 60]
        for step in range(3):
            state = policy.update(state, pool, feedback(replace(visit, n_tokens_R=np.array([70 - step, 5]))))
        assert state.tokens_N.tolist() == [10, 68]


class TestOverlong:
    def test_penalty_grows_over_the_cache(self, groups):
        outcome = of_lengths(groups, [[1, 1, 1, 1, 0]], [10, 80, 85, 100, 130])
        assert Overlong(max_tokens=100, cache=20, factor=1.0).shape(None, None, outcome).tolist() == [1, 1, 0.75, 0, -1]

    def test_is_dapos_on_rewards_of_minus_one_and_one(self, groups):
        outcome = of_lengths(groups, [[1, -1, 1]], [16384, 18432, 20480], reward_range=(-1.0, 1.0))
        shaped_R = Overlong().shape(None, None, outcome)
        published = np.array([1.0, -1 - 0.5, 1 - 1.0])
        assert shaped_R == pytest.approx((published + 1) / 2)


class TestMultiAttempt:
    def test_a_right_answer_counts_whichever_attempt_it_was_and_less_with_a_discount(self, groups):
        outcome = replace(groups([[1, 1, 1, 0, 0, None]]), n_turns_R=np.array([1, 2, 4, 1, 4, 2]))
        assert MultiAttempt().shape(None, None, outcome)[:5].tolist() == [1, 1, 1, -0.5, -0.5]
        shaped_R = MultiAttempt(discount=0.5, penalty=0.25).shape(None, None, outcome)
        assert shaped_R[:5].tolist() == [1, 0.5, 0.125, -0.25, -0.25]
        assert np.isnan(shaped_R[5])

    def test_right_is_above_half_of_the_reward_range(self, groups):
        outcome = groups([[-1, 0, 0.1, 1]], reward_range=(-1.0, 1.0))
        assert MultiAttempt().shape(None, None, outcome).tolist() == [-0.5, -0.5, 1, 1]

    def test_the_number_is_drawn_uniformly_once_per_group(self):
        curriculum = Curriculum.from_recipe("multi_attempt", small_pool())
        drawn = np.concatenate([curriculum.plan(step, 6, 24).max_turns_B for step in range(500)])
        share = np.bincount(drawn, minlength=6) / len(drawn)
        assert share[0] == 0
        assert share[1:] == pytest.approx(np.full(5, 0.2), abs=5 * (0.16 / len(drawn)) ** 0.5)
        assert (drawn[0::6] != drawn[1::6]).any(), "groups of a plan draw each for itself"

    def test_the_draw_follows_seed_step_attempt_and_prompt_not_rows(self):
        one, other = (Curriculum.from_recipe("multi_attempt", small_pool(order), seed=5) for order in (None, list(range(23))[::-1]))
        plans = [(c.pool, c.plan(3, 6, 24, attempt=1)) for c in (one, other)]
        by_id = [dict(zip(pool.ids[p.selection.prompt_B].tolist(), p.max_turns_B.tolist(), strict=True)) for pool, p in plans]
        assert by_id[0] == by_id[1]
        assert one.plan(3, 6, 24, attempt=1).max_turns_B.tolist() == plans[0][1].max_turns_B.tolist()
        others = [Curriculum.from_recipe("multi_attempt", small_pool(), seed=seed).plan(3, 6, 24) for seed in range(10)]
        assert len({tuple(plan.max_turns_B.tolist()) for plan in others}) > 5

    def test_fixed_gives_all_and_a_pacing_drives_the_most(self):
        most = {"pacing": "linear", "first": 4, "last": 2, "steps": 2}
        curriculum = Curriculum.from_recipe(
            {"shaping": {"name": "multi_attempt", "max_attempts": most, "draw": "fixed"}}, small_pool()
        )
        turns = []
        for step in range(3):
            plan = curriculum.plan(step, 2, 8)
            turns.append(plan.max_turns_B.tolist())
            curriculum.update(feedback_of(curriculum, answer(curriculum, plan)))
        assert turns == [[4, 4], [3, 3], [2, 2]]

    def test_further_rounds_and_learning_keep_the_number(self):
        budget = {"name": "speed"}
        curriculum = Curriculum.from_recipe({"shaping": "multi_attempt", "budget": budget}, small_pool())
        plan = curriculum.plan(0, 6, 48)
        more = curriculum.extend(answer(curriculum, plan))
        assert more is not None
        assert more.max_turns_B.tolist() == plan.max_turns_B.tolist() == plan.joined(more).max_turns_B.tolist()
        outcome = answer(curriculum, plan)
        whole = feedback_of(curriculum, replace(outcome, n_turns_R=1 + np.arange(len(outcome.group_R)) % 3))
        parts = [take_groups(whole, np.array(places)) for places in ([4, 1], [0, 2, 3, 5])]
        assert parts[0].plan.max_turns_B.tolist() == plan.max_turns_B[[4, 1]].tolist()
        joined = take_groups(join(parts), np.argsort(join(parts).plan.group_B))
        same = take_groups(whole, np.arange(6))
        assert joined.plan.max_turns_B.tolist() == same.plan.max_turns_B.tolist()
        assert joined.outcome.n_turns_R.tolist() == same.outcome.n_turns_R.tolist()
        assert sorted(same.outcome.n_turns_R[same.outcome.group_R == 2]) == sorted(whole.outcome.n_turns_R[outcome.group_R == 2])

    def test_other_shaping_leaves_one_attempt_each(self):
        for name in ("raw", "overlong", "hapo", "length_budget"):
            plan = Curriculum.from_recipe({"shaping": name}, small_pool()).plan(0, 6, 24)
            assert plan.max_turns_B.tolist() == [1] * 6
            assert Outcome(plan, [0], [1.0], [0], [3], [0]).n_turns_R.tolist() == [1]

    def test_numbers_below_one_are_refused(self):
        class Never(Raw):
            def turns(self, state, pool, prompt_B, rng):
                return np.zeros(len(prompt_B), np.int64)

        stages = replace(Curriculum.from_recipe("uniform", small_pool()).stages, shaping=Never())
        with pytest.raises(CurriculaError, match=r"expected 6 numbers of turns >= 1, got \[0 0"):
            Curriculum(small_pool(), stages).plan(0, 6, 24)


def feedback(outcome):
    return Feedback(outcome, KeepAll().judge(None, None, outcome))


@pytest.mark.parametrize("name", names("shaping"))
def test_shaping_is_pure_finite_and_leaves_raw_rewards_alone(name):
    """At the edges of double precision too; rollouts without a reward get none."""
    for low, high in ((0.0, 1.0), (-8e307, 8e307), (0.0, 1e-300)):
        curriculum = Curriculum.from_recipe({"shaping": name}, small_pool())
        for step in range(3):
            outcome = answer(curriculum, curriculum.plan(step, 4, 16))
            reward_R = np.resize([low, high, np.nan], 16)
            status_R = np.where(np.isnan(reward_R), 1, 0).astype(np.uint8)
            extreme = replace(
                outcome, reward_R=reward_R, status_R=status_R, reward_range=(low, high), n_tokens_R=np.resize([0, 10**9], 16)
            )
            before = extreme.reward_R.copy()
            one, two = curriculum.shape(extreme), curriculum.shape(extreme)
            np.testing.assert_array_equal(one, two)
            np.testing.assert_array_equal(np.isnan(one), np.isnan(reward_R))
            np.testing.assert_array_equal(extreme.reward_R, before)
            curriculum.update(feedback_of(curriculum, extreme))


class TestBudgetSplitPolicy:
    TABLE = np.array([(0, 0, 1, 1), (0, 1, 1, 1), (0, 0, 0, 0), (0, 0, 0, 1)], dtype=np.float64)
    EXPECTED = np.array(
        [
            (0.125, 0.2188, 0.3438, 0.0960),
            (0.375, 0.4688, 0.1771, 0.0424),
            (-0.375, -0.2812, -0.1562, -0.0469),
            (-0.125, -0.0312, 0.0938, 0.2031),
        ]
    )

    def outcome(self, curriculum, table_RS=None):
        """A plan of one group of four and one of nobody, with the specification's table."""
        plan = curriculum.plan(0, 2, 8)
        table_RS = self.TABLE if table_RS is None else table_RS
        n = len(table_RS)
        return Outcome(plan, [0] * n, table_RS[:, -1], [0] * n, [9] * n, [0] * n, cut_score_RS=table_RS)

    def test_vector_of_the_specification_through_the_curriculum(self):
        curriculum = Curriculum.from_recipe("anytime_reasoner", small_pool())
        outcome = self.outcome(curriculum)
        assert outcome.plan.cuts == Cuts((2000, 4000, 6000, 8000), 4, 128)
        assert outcome.plan.max_tokens_B.tolist() == [8000, 8000]
        assert curriculum.credit(outcome, curriculum.judge(outcome)) == pytest.approx(self.EXPECTED, abs=6e-5)
        assert curriculum.shape(outcome).tolist() == [0.5, 0.75, 0, 0.25]

    def test_kinds_and_the_pacing_of_the_last_share(self):
        budgets = {"name": "budget_split", "budgets": [1, 3]}
        shares = {
            kind: build("shaping", {**budgets, "kind": kind}).probability_S.tolist() for kind in ("uniform", "linear", "base")
        }
        assert shares == {"uniform": [0.5, 0.5], "linear": [0.25, 0.75], "base": [0, 1]}
        last = {"pacing": "linear", "first": 1, "last": 0, "steps": 2}
        curriculum = Curriculum.from_recipe({"shaping": {**budgets, "last_share": last, "n_summaries": 2}}, small_pool())
        rewards = []
        for step in range(3):
            plan = curriculum.plan(step, 2, 4)
            assert plan.cuts == Cuts((1, 3), 2, 128)
            table_RS = np.tile([[1.0, 0.0]], (4, 1))
            outcome = replace(answer(curriculum, plan), cut_score_RS=table_RS)
            rewards.append(curriculum.shape(outcome)[0])
            curriculum.update(feedback_of(curriculum, outcome))
        assert rewards == [0, 0.25, 0.5]

    def test_each_group_is_compared_with_itself_and_unknown_rows_with_nobody(self):
        curriculum = Curriculum.from_recipe("anytime_reasoner", small_pool())
        plan = curriculum.plan(0, 3, 12)
        unknown, alone = np.array([[0.5, np.nan, 1, 1]]), np.array([[0.0, 1, 1, 1]])
        table_RS = np.concatenate([self.TABLE, unknown, alone, self.TABLE[::-1]])
        group_R = [0] * 5 + [1] + [2] * 4
        outcome = Outcome(plan, group_R, table_RS[:, -1], [0] * 10, [9] * 10, [0] * 10, cut_score_RS=table_RS)
        credit_RS = curriculum.credit(outcome, curriculum.judge(outcome))
        assert credit_RS[:4] == pytest.approx(self.EXPECTED, abs=6e-5)
        assert credit_RS[6:] == pytest.approx(self.EXPECTED[::-1], abs=6e-5)
        assert not credit_RS[4:6].any()
        assert curriculum.shape(outcome)[4] == 1, "the own score, where a cut's is unknown"

    def test_a_verdict_that_renormalises_compares_those_that_carry_gradient(self):
        curriculum = Curriculum.from_recipe("anytime_reasoner", small_pool())
        outcome = self.outcome(curriculum)
        carries_R = np.array([True, False, True, False])
        verdict = replace(curriculum.judge(outcome), carries_gradient_R=carries_R, renormalise=True)
        credit_RS = curriculum.credit(outcome, verdict)
        alone = self.outcome(curriculum, self.TABLE[carries_R])
        np.testing.assert_array_equal(credit_RS[carries_R], curriculum.credit(alone, curriculum.judge(alone)))
        assert not credit_RS[~carries_R].any()

    def test_equal_rows_of_thirds_leave_no_rounding_behind(self):
        curriculum = Curriculum.from_recipe("anytime_reasoner", small_pool())
        for n in (2, 3, 7):
            outcome = self.outcome(curriculum, np.full((n, 4), 1 / 3))
            assert not curriculum.credit(outcome, curriculum.judge(outcome)).any()
        assert not summary_advantages(np.full(3, 0.1)).any()

    def test_without_a_table_the_own_score_counts_at_every_budget(self):
        curriculum = Curriculum.from_recipe("anytime_reasoner", small_pool())
        outcome = replace(self.outcome(curriculum), cut_score_RS=None)
        same = self.outcome(curriculum, np.repeat(self.TABLE[:, -1:], 4, axis=1))
        verdict = curriculum.judge(outcome)
        np.testing.assert_array_equal(curriculum.credit(outcome, verdict), curriculum.credit(same, verdict))
        assert curriculum.shape(outcome).tolist() == outcome.score_R.tolist()

    def test_beliefs_read_raw_rewards_and_learning_keeps_the_table(self):
        curriculum = Curriculum.from_recipe("anytime_reasoner", small_pool())
        plan = curriculum.plan(0, 4, 16)
        table_RS = np.random.default_rng(0).random((16, 4)).round(2)
        whole = feedback_of(curriculum, replace(answer(curriculum, plan), cut_score_RS=table_RS))
        parts = [take_groups(whole, np.array(places)) for places in ([3, 1], [0, 2])]
        joined, same = take_groups(join(parts), np.argsort(join(parts).plan.group_B)), take_groups(whole, np.arange(4))
        np.testing.assert_array_equal(joined.outcome.cut_score_RS, same.outcome.cut_score_RS)
        assert joined.plan.cuts == plan.cuts
        assert sorted(map(tuple, same.outcome.cut_score_RS)) == sorted(map(tuple, table_RS))
        other = Curriculum.from_recipe("uniform", small_pool())
        for one in (curriculum, other):
            one.update(feedback_of(one, replace(whole.outcome, cut_score_RS=table_RS)))
        np.testing.assert_array_equal(curriculum.estimate(np.arange(23)).mean_B, other.estimate(np.arange(23)).mean_B)

    def test_other_shaping_has_no_cuts_and_no_credit(self):
        for name in ("raw", "overlong", "hapo", "length_budget", "multi_attempt"):
            curriculum = Curriculum.from_recipe({"shaping": name}, small_pool())
            outcome = answer(curriculum, curriculum.plan(0, 6, 24))
            assert len(outcome.plan.cuts) == 0
            assert outcome.cut_score_RS.shape == (24, 0)
            assert curriculum.credit(outcome, curriculum.judge(outcome)).shape == (24, 0)

    def test_bad_tables_and_bad_credit_are_refused(self):
        curriculum = Curriculum.from_recipe("anytime_reasoner", small_pool())
        with pytest.raises(CurriculaError, match=r"expected cut scores of shape \(4, 4\), .* got \(4, 3\)"):
            self.outcome(curriculum, self.TABLE[:, :3])
        with pytest.raises(CurriculaError, match=r"must lie in \[0, 1\]"):
            replace(self.outcome(curriculum), cut_score_RS=self.TABLE * 2)
        with pytest.raises(
            CurriculaError, match=r"scores at \(2000, 4000, 6000, 8000\) tokens, the policy's budgets are \(1, 2, 3, 4\)"
        ):
            build("shaping", {"name": "budget_split", "budgets": [1, 2, 3, 4]}).shape(None, None, self.outcome(curriculum))

        class Wide(Raw):
            def credit(self, state, pool, outcome, peers_R):
                return np.ones((len(outcome.group_R), 3))

        odd = Curriculum(small_pool(), replace(curriculum.stages, shaping=Wide()))
        outcome = answer(odd, odd.plan(0, 2, 8))
        with pytest.raises(CurriculaError, match=r"expected finite credit of shape \(8, 0\)"):
            odd.credit(outcome, odd.judge(outcome))


class TestBudgetSplit:
    SCORES = np.array([(0, 0, 1, 1), (0, 1, 1, 1), (0, 0, 0, 0), (0, 0, 0, 1)], dtype=np.float64)

    def test_vector_of_the_specification(self):
        expected = [
            (0.125, 0.2188, 0.3438, 0.0960),
            (0.375, 0.4688, 0.1771, 0.0424),
            (-0.375, -0.2812, -0.1562, -0.0469),
            (-0.125, -0.0312, 0.0938, 0.2031),
        ]
        assert budget_advantages(self.SCORES, np.full(4, 0.25)) == pytest.approx(np.array(expected), abs=6e-5)

    def test_all_weight_on_the_last_budget_is_plain_group_advantage_at_first(self):
        last = budget_probabilities(np.array([10, 20, 30, 40]), "base")
        assert last.tolist() == [0, 0, 0, 1]
        assert budget_returns(self.SCORES, last) == pytest.approx(np.repeat(self.SCORES[:, 3:], 4, axis=1))
        assert budget_advantages(self.SCORES, last)[:, 0] == pytest.approx(self.SCORES[:, 3] - 0.75)

    def test_many_budgets_do_not_overflow(self):
        scores = np.tile([[1.0], [0.0]], (1, 3000))
        found = budget_advantages(scores, np.full(3000, 1 / 3000))
        assert np.isfinite(found).all()
        assert found[:, 0] == pytest.approx([0.5, -0.5])

    def test_summaries_are_compared_behind_the_same_cut(self):
        found = summary_advantages(np.array([[[1.0, 0.0], [1.0, 1.0]]]))
        assert found.tolist() == [[[0.5, -0.5], [0.0, 0.0]]]

    def test_mistakes_are_named(self):
        with pytest.raises(CurriculaError, match=r"rising budgets > 0, got \[2 1\]"):
            budget_probabilities(np.array([2, 1]))
        with pytest.raises(CurriculaError, match=r"\(completions, 3 budgets\), got shape \(4, 4\)"):
            budget_returns(self.SCORES, np.ones(3) / 3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "length_budget", "budget": -1}, r"length_budget\.budget: expected .* got -1"),
        ({"name": "length_budget", "length_weight": -0.1}, r"length_budget\.length_weight: expected .* got -0\.1"),
        ({"name": "hapo", "weight": -1.0}, r"hapo\.weight: expected .* got -1\.0"),
        ({"name": "hapo", "forgetting": float("inf")}, r"hapo\.forgetting: expected .* got inf"),
        ({"name": "overlong", "cache": 0}, r"overlong: expected .* got cache=0"),
        ({"name": "multi_attempt", "max_attempts": 0}, r"multi_attempt\.max_attempts: expected .* got 0"),
        ({"name": "multi_attempt", "discount": 0.0}, r"multi_attempt\.discount: expected .* got 0\.0"),
        ({"name": "multi_attempt", "penalty": -1.0}, r"multi_attempt\.penalty: expected .* got -1\.0"),
        ({"name": "budget_split", "budgets": [4, 2]}, r"budget_split\.budgets: expected rising .* got \(4, 2\)"),
        ({"name": "budget_split", "budgets": []}, r"budget_split\.budgets: expected rising .* got \(\)"),
        ({"name": "budget_split", "n_summaries": 0}, r"budget_split\.n_summaries: expected .* got 0"),
        ({"name": "budget_split", "summary_tokens": 0}, r"budget_split\.summary_tokens: expected .* got 0"),
        ({"name": "budget_split", "last_share": 1.5}, r"budget_split\.last_share: expected .* got 1\.5"),
        ({"name": "overlong", "factor": -1.0}, r"overlong\.factor: expected .* got -1\.0"),
    ],
)
def test_mistakes_are_named(spec, message):
    with pytest.raises(CurriculaError, match=message):
        build("shaping", spec)

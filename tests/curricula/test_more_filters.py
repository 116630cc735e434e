"""Filters by relative variance, automatic band, weights, rescue and gate; VCRL's memory. Fixtures: section 14 of the spec."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, Feedback, Reason, Refill, build
from curricula.filter.advantage_gate import AdvantageGate
from curricula.filter.auto_band import AutoBand
from curricula.filter.polaris_rescue import Rescue
from curricula.filter.soft_weights import SoftWeights
from curricula.filter.vcrl import RelativeVariance
from curricula.groups import relative_variances
from curricula.selector.vcrl_replay import PriorityReplay
from curricula.testing import answer, feedback_of, small_pool
from curricula.types import PromptPool, Verdict


def binary(*counts, n=8):
    """A group of n with k correct for each k."""
    return [[1] * k + [0] * (n - k) for k in counts]


def reasons(verdict):
    return [Reason(code).name for code in verdict.reason_B]


def test_scalerl_is_a_setting_of_nonzero_variance(groups):
    policy = build("filter", {"name": "nonzero_variance", "refill": "none"})
    verdict = policy.judge(None, None, groups(binary(0, 1, 8)))
    assert verdict.kept_B.tolist() == [False, True, False]
    assert verdict.refill is Refill.NONE


class TestVcrl:
    @pytest.mark.parametrize(
        ("n", "expected"),
        [
            (8, [0.0, 0.4375, 0.75, 0.9375, 1.0, 0.9375, 0.75, 0.4375, 0.0]),
            (5, [0.0, 0.666666667, 1.0, 1.0, 0.666666667, 0.0]),
        ],
    )
    def test_fixture(self, groups, n, expected):
        assert relative_variances(groups(binary(*range(n + 1), n=n))) == pytest.approx(expected, abs=1e-6)

    def test_is_a_share_for_any_scores_and_undefined_for_less_than_two(self, groups):
        share_B = relative_variances(groups([[0.2, 0.9, 0.4], [1], [None, None], [0, 1], [0.3, 0.3]], reward_range=(0.0, 1.0)))
        assert share_B[0] == pytest.approx(np.var([0.2, 0.9, 0.4]) / np.var([0, 0, 1]))
        assert np.isnan(share_B[1:3]).all()
        assert share_B[3:].tolist() == [1.0, 0.0]

    def test_kappa_keeps_what_the_specification_says(self, groups):
        outcome = groups(binary(*range(9)))
        verdict = RelativeVariance().judge(None, None, outcome)
        assert np.flatnonzero(verdict.kept_B).tolist() == [3, 4, 5]
        assert reasons(verdict)[:3] == ["ALL_EQUAL", "TOO_HARD", "TOO_HARD"]
        assert reasons(verdict)[6:] == ["TOO_EASY", "TOO_EASY", "ALL_EQUAL"]
        assert np.flatnonzero(RelativeVariance(kappa=0.75).judge(None, None, outcome).kept_B).tolist() == [2, 3, 4, 5, 6]
        assert np.flatnonzero(RelativeVariance(kappa=0.0).judge(None, None, outcome).kept_B).tolist() == list(range(1, 8))

    def test_the_memory_moves_as_in_the_fixture(self):
        policy, priority = PriorityReplay(), np.array(0.9375)
        for v, expected in zip([0.75, 0.4375, 0], [0.91875, 0.870625, 0.7835625], strict=True):
            priority = policy.moved(priority, v)
            assert float(priority) == pytest.approx(expected, abs=1e-9)

    def test_a_prompt_enters_moves_leaves_and_enters_again(self, groups):
        pool = PromptPool.from_columns("abc", "xxx")
        policy = PriorityReplay()
        state = policy.init(pool)
        judge = RelativeVariance(kappa=0.8)
        seen = []
        for k in (3, 2, 1, 4):  # good; returns twice; good again
            outcome = groups(binary(k, 1), pool, prompts=[1, 2])
            state = policy.update(state, pool, Feedback(outcome, judge.judge(None, None, outcome)))
            seen.append((float(state.priority_N[1]), int(state.replays_N[1])))
        assert seen == [(0.9375, 0), (pytest.approx(0.91875), 1), (0.0, 0), (1.0, 0)]
        assert state.priority_N[[0, 2]].tolist() == [0, 0], "never seen, and never good"

    def test_surplus_groups_are_remembered(self, groups):
        pool = PromptPool.from_columns("ab", "xx")
        outcome = groups(binary(4, 4), pool)
        verdict = Verdict(np.zeros(2, np.bool_), np.array([Reason.SURPLUS, Reason.TOO_HARD]), np.zeros(16, np.bool_))
        state = PriorityReplay().update(PriorityReplay().init(pool), pool, Feedback(outcome, verdict))
        assert state.priority_N.tolist() == [1.0, 0.0]

    def test_remembered_prompts_get_their_share_of_the_plans(self):
        pool = PromptPool.from_columns([f"{i:03d}" for i in range(100)], ["x"] * 100)
        curriculum = Curriculum.from_recipe({"selector": {"name": "vcrl_replay", "share": 0.5}}, pool)
        curriculum._state["selector"].priority_N[:3] = [0.9, 0.8, 0.1]
        selection = curriculum.plan(0, 4, 16).selection
        known = selection.propensity_B[np.argsort(selection.prompt_B)][:2]
        assert {0, 1} <= set(selection.prompt_B.tolist())
        assert known == pytest.approx([1.0, 1.0])
        assert np.sort(selection.propensity_B)[:2] == pytest.approx(2 / 98)


class TestAutoBand:
    def learned(self, groups, policy, counts, n=16):
        outcome = groups(binary(*counts, n=n))
        return policy.update(policy.init(None), None, Feedback(outcome, policy.judge(policy.init(None), None, outcome)))

    def test_is_dapos_rule_until_it_has_data(self, groups):
        policy = AutoBand()
        verdict = policy.judge(policy.init(None), None, groups(binary(0, 1, 15, 16, n=16)))
        assert verdict.kept_B.tolist() == [False, True, True, False]

    @pytest.mark.parametrize(("overhead", "kept"), [(10, [8]), (5, [7, 8, 9]), (2.5, [5, 6, 7, 8, 9, 10, 11]), (1.0, range(1, 16))])
    def test_the_tightest_band_that_costs_no_more(self, groups, overhead, kept):
        """Ten groups: one at 8 of 16, one at distance 1, two at distance 3, six with equal rewards."""
        policy = AutoBand(overhead=overhead)
        state = self.learned(groups, policy, [8, 7, 5, 11, 0, 0, 0, 16, 16, 16])
        verdict = policy.judge(state, None, groups(binary(*range(17), n=16)))
        assert np.flatnonzero(verdict.kept_B).tolist() == list(kept)

    def test_overhead_comes_out_on_the_pool_of_the_specification(self, groups):
        """p in {0, .1, .5, .9, 1} alike, 16 rollouts: DAPO's rule costs 1.9 groups per kept one; asked for 3, the band costs 3."""
        rng = np.random.default_rng(0)
        k = rng.binomial(16, rng.choice([0, 0.1, 0.5, 0.9, 1.0], 4000))
        policy = AutoBand(overhead=3.0, memory=1e9)
        band = policy.width(self.learned(groups, policy, k.tolist()))
        chance = [np.mean([comb(16, j) * p**j * (1 - p) ** (16 - j) for p in (0, 0.1, 0.5, 0.9, 1)]) for j in range(17)]

        def cost(width):
            return 1 / sum(chance[j] for j in range(1, 16) if abs(j / 16 - 0.5) <= width + 1e-9)

        assert 2.5 < cost(band) < 3.1
        assert cost(band - 1 / 16) > 3.1, "one step tighter would cost more than asked for"

    def test_old_groups_fade(self, groups):
        policy = AutoBand(overhead=2.0, memory=4.0)
        state = self.learned(groups, policy, [8] * 8)
        assert policy.width(state) == 1 / 128
        outcome = groups(binary(*[2] * 16, n=16))
        state = policy.update(state, None, Feedback(outcome, policy.judge(state, None, outcome)))
        assert policy.width(state) == 0.375
        assert float(state.weight) == pytest.approx(8 * 0.75**16 + 16)

    def test_a_skewed_centre(self, groups):
        policy = AutoBand(overhead=10, centre=0.25)
        state = self.learned(groups, policy, [4, 8, 0, 0, 0, 0, 0, 0, 0, 0])
        assert np.flatnonzero(policy.judge(state, None, groups(binary(*range(17), n=16))).kept_B).tolist() == [4]


class TestSoftWeights:
    def test_weights_are_four_p_one_minus_p(self, groups):
        verdict = SoftWeights().judge(None, None, groups([*binary(0, 1, 4, 6, 8), [0.5, 0.5]]))
        assert verdict.weight_B[1:4].tolist() == [0.4375, 1.0, 0.75]
        assert verdict.kept_B.tolist() == [False, True, True, True, False, False]
        assert verdict.refill is Refill.NONE

    @pytest.mark.parametrize(
        ("s", "p", "divergence"),
        [(1, 0.1, 0.058565), (1, 0.3, 0.115735), (1, 0.9, 0.034702), (10, 0.1, 6.697823), (10, 0.5, 4.306898)],
    )
    def test_divergences_of_the_specification(self, s, p, divergence):
        at_half = {1: 0.120115, 10: 4.306898}[s]
        weight = SoftWeights(kl_strength=s).weights(np.array([p, 0.5]))
        assert weight[0] / weight[1] == pytest.approx(divergence / at_half, rel=2e-5)

    @pytest.mark.parametrize(("s", "peak"), [(1, 0.4180), (2, 0.3435), (5, 0.1932), (10, 0.0999), (100, 0.01), (700, 1 / 700)])
    def test_the_peak_is_one_and_where_the_specification_says(self, s, peak):
        rate = np.linspace(0, 1, 100_001)
        weight = SoftWeights(kl_strength=s).weights(rate)
        assert weight.max() == pytest.approx(1.0, abs=1e-4)
        assert rate[weight.argmax()] == pytest.approx(peak, abs=1e-4)
        assert weight[[0, -1]] == pytest.approx([0, 0], abs=1e-6)

    def test_both_branches_meet(self):
        rate = np.linspace(0, 1, 11)
        assert SoftWeights(kl_strength=1.1e-3).weights(rate) == pytest.approx(SoftWeights().weights(rate), abs=1e-3)


class TestRescue:
    def test_dead_groups_are_replaced_by_the_live_ones_with_most_variance(self, groups):
        verdict = Rescue().judge(None, None, groups(binary(0, 1, 4, 3, 8)))
        assert verdict.kept_B.tolist() == [False, True, True, True, False]
        assert verdict.weight_B[1:4].tolist() == [1, 2, 2]
        assert verdict.weight_B[verdict.kept_B].sum() == 5, "every place is filled"
        assert verdict.refill is Refill.NONE

    def test_equals_go_by_group_id_and_copies_go_round(self, groups):
        outcome = groups(binary(4, 4, 0, 0, 0))
        assert Rescue().judge(None, None, outcome).weight_B[:2].tolist() == [3, 2]
        turned = replace(outcome, plan=replace(outcome.plan, group_B=outcome.plan.group_B[::-1]))
        assert Rescue().judge(None, None, turned).weight_B[:2].tolist() == [2, 3]

    def test_only_when_more_than_a_third_is_alive(self, groups):
        assert Rescue().judge(None, None, groups(binary(4, 0, 0))).weight_B.tolist() == [1, 1, 1]
        assert Rescue(least=0.3).judge(None, None, groups(binary(4, 0, 0))).weight_B[0] == 3
        assert Rescue().judge(None, None, groups(binary(0, 0))).weight_B.tolist() == [1, 1]


class TestAdvantageGate:
    def test_by_default_equal_rewards_are_rejected(self, groups):
        verdict = AdvantageGate().judge(None, None, groups([*binary(0, 1, 8), [0.3] * 7, [0.1, 0.1, 0.1]]))
        assert verdict.kept_B.tolist() == [False, True, False, False, False]
        assert reasons(verdict)[3] == "ALL_EQUAL"

    def test_all_advantages_must_lie_in_the_range(self, groups):
        near = AdvantageGate(low=-0.1, high=0.1).judge(None, None, groups([[0.4, 0.5, 0.6], [0.4, 0.5, 0.7], [0.8, 0.9]]))
        assert near.kept_B.tolist() == [False, True, False]
        one_sided = AdvantageGate(low=-1, high=0.3).judge(None, None, groups(binary(2, 5, 6)))
        assert one_sided.kept_B.tolist() == [True, True, False]
        assert reasons(one_sided)[2] == "TOO_EASY"
        other = AdvantageGate(low=-0.3, high=1).judge(None, None, groups(binary(2, 3, 6)))
        assert reasons(other) == ["TOO_HARD", "KEPT", "KEPT"]


@pytest.mark.parametrize("name", ["vcrl", "auto_band", "soft_weights", "polaris_rescue", "advantage_gate"])
def test_groups_without_two_scored_rollouts_are_too_few(name, groups):
    policy = build("filter", name)
    verdict = policy.judge(policy.init(small_pool()), None, groups([[1, None], [None, None], [1, 0, None]]))
    assert reasons(verdict) == ["TOO_FEW", "TOO_FEW", "KEPT"]
    assert verdict.carries_gradient_R.tolist() == [False] * 4 + [True, True, False]


def test_weights_travel_through_a_curriculum_and_its_feedback():
    curriculum = Curriculum.from_recipe({"filter": "soft_weights"}, small_pool())
    outcome = answer(curriculum, curriculum.plan(0, 3, 24), lambda prompt, r: float(r < 2))
    assert feedback_of(curriculum, outcome).verdict.weight_B == pytest.approx([0.75] * 3)


@pytest.mark.parametrize(
    ("stage", "spec", "message"),
    [
        ("filter", {"name": "vcrl", "kappa": 1.5}, r"vcrl\.kappa: expected .* got 1\.5"),
        ("filter", {"name": "vcrl", "refill": "replay"}, "expected one of 'resample', 'none', got 'replay'"),
        ("filter", {"name": "auto_band", "overhead": 0.5}, r"auto_band\.overhead: expected .* got 0\.5"),
        ("filter", {"name": "auto_band", "centre": 1.0}, r"auto_band\.centre: expected .* got 1\.0"),
        ("filter", {"name": "auto_band", "memory": 0.0}, r"auto_band\.memory: expected .* got 0\.0"),
        ("filter", {"name": "soft_weights", "kl_strength": -1.0}, r"soft_weights\.kl_strength: expected .* got -1\.0"),
        ("filter", {"name": "polaris_rescue", "least": 1.0}, r"polaris_rescue\.least: expected .* got 1\.0"),
        ("filter", {"name": "advantage_gate", "low": 0.5}, r"advantage_gate: expected .* got low=0\.5, high=0\.0"),
        ("selector", {"name": "vcrl_replay", "share": 1.0}, r"vcrl_replay\.share: expected .* got 1\.0"),
        ("selector", {"name": "vcrl_replay", "decay": 2.0}, r"vcrl_replay\.decay: expected .* got 2\.0"),
        ("selector", {"name": "vcrl_replay", "replays": 0}, r"vcrl_replay\.replays: expected .* got 0"),
    ],
)
def test_mistakes_are_named(stage, spec, message):
    with pytest.raises(CurriculaError, match=message):
        build(stage, spec)

"""Down-sampling against the fixtures of section 14, brute force, and what the learner makes of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, Feedback, build
from curricula.downsampling.balanced_keep import BalancedKeep
from curricula.downsampling.d3s import PooledDownsampling, pooled_advantages
from curricula.downsampling.pods import Pods
from curricula.filter.keep_all import KeepAll
from curricula.filter.nonzero_variance import NonZeroVariance
from curricula.max_variance import max_variance
from curricula.testing import answer, small_pool
from trainer.advantages import group_advantages

PODS = [1, 0, 0.5, 0.2, 0, 1, 0.2, 0.9]


def thinned(policy, outcome, judge=None):
    return policy.thin(None, None, outcome, (judge or KeepAll()).judge(None, None, outcome))


def taken(policy, outcome, judge=None):
    """Scores of the rollouts that carry gradient, group by group."""
    carries_R = thinned(policy, outcome, judge).carries_gradient_R
    return [outcome.score_R[carries_R & (outcome.group_R == b)].tolist() for b in range(len(outcome.plan))]


class TestKernel:
    def test_fixture_pods(self):
        chosen = max_variance(np.array(PODS), 4)
        assert chosen.tolist() == [0, 1, 4, 5]
        assert np.var(np.array(PODS)[chosen], ddof=1) == pytest.approx(0.333333333, abs=1e-9)

    @pytest.mark.parametrize("seed", range(30))
    def test_equals_brute_force(self, seed):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 10))
        value_n = [rng.random(n), rng.integers(0, 3, n) / 2, rng.normal(1e3, 1e-3, n), rng.random(n) ** 4][seed % 4]
        for m in range(1, n + 1):
            chosen = max_variance(value_n, m)
            assert len(set(chosen.tolist())) == m
            assert np.var(value_n[chosen]) == pytest.approx(
                max(np.var(value_n[list(c)]) for c in combinations(range(n), m)), rel=1e-6
            )

    def test_one_right_answer_of_eight_and_edges(self):
        assert max_variance(np.array([1.0, *[0] * 7]), 4).tolist() == [0, 1, 2, 3]
        assert max_variance(np.zeros(5), 2).tolist() == [0, 1]
        assert max_variance(np.arange(3.0), 5).tolist() == [0, 1, 2]
        assert max_variance(np.zeros(0), 3).tolist() == []

    def test_equal_values_are_taken_by_place_and_rounding_does_not_choose(self):
        assert max_variance(np.array([0.1, 0.3, 0.1, 0.3, 0.1, 0.3]), 2).tolist() == [0, 1]
        assert max_variance(np.full(6, 0.1), 3).tolist() == [0, 1, 2]


class TestPods:
    def test_fixture_with_its_renormalised_advantages(self, groups):
        verdict = thinned(Pods(n_kept=4), groups([PODS, [1, 0, 0, 0, 0, 0, 0, 0]]))
        assert np.flatnonzero(verdict.carries_gradient_R).tolist() == [0, 1, 4, 5, 8, 9, 10, 11]
        assert verdict.renormalise
        kept = np.array(PODS)[[0, 1, 4, 5]]
        advantage = (kept - kept.mean()) / (kept.std(ddof=1) + 1e-4)  # the released code's epsilon
        assert np.abs(advantage) == pytest.approx(np.full(4, 0.86587543), abs=1e-6)

    def test_the_learner_renormalises_on_the_subset_with_its_own_epsilon(self, groups):
        outcome = groups([PODS])
        carries_R = thinned(Pods(n_kept=4), outcome).carries_gradient_R
        alone = group_advantages("grpo", outcome.reward_R, outcome.group_R, carries_R, 1)[carries_R]
        assert alone == pytest.approx([0.8660239, -0.8660239, -0.8660239, 0.8660239], abs=1e-6)
        assert not thinned(Pods(n_kept=4, renormalise=False), outcome).renormalise

    def test_groups_are_independent_small_ones_stay_whole_and_rejected_ones_stay_out(self, groups):
        outcome = groups([[0, 1, 0], PODS, [1, 1, 1, 1, 1], [0.5, None, 0, 0, 0, 1]])
        assert taken(Pods(n_kept=4), outcome, NonZeroVariance()) == [[0, 1, 0], [1, 0, 0, 1], [], [0, 0, 0, 1]]

    def test_interleaved_rollouts_belong_to_their_groups(self, groups):
        outcome = groups([PODS, PODS[::-1]])
        order = np.arange(16).reshape(2, 8).T.ravel()
        mixed = replace(outcome, group_R=outcome.group_R[order], reward_R=outcome.reward_R[order], status_R=outcome.status_R[order])
        assert [sorted(group) for group in taken(Pods(n_kept=4), mixed)] == [[0, 0, 1, 1]] * 2


class TestD3s:
    GROUPS = ([1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1])

    def test_fixture(self, groups):
        outcome = groups(self.GROUPS)
        advantage_R = pooled_advantages(outcome)
        expected = [1.732047, *[-0.577349] * 3, *[0.999998] * 2, *[-0.999998] * 2, *[0] * 4]
        assert advantage_R == pytest.approx(expected, abs=1e-6)
        assert advantage_R.var() == pytest.approx(0.666664, abs=1e-6)
        carries_R = thinned(PooledDownsampling(share=4 / 12), outcome).carries_gradient_R
        assert np.sort(advantage_R[carries_R])[::-1] == pytest.approx([1.732047, 0.999998, -0.999998, -0.999998], abs=1e-6)
        assert advantage_R[carries_R].var() == pytest.approx(1.46650007, abs=1e-6)

    def test_equals_brute_force_over_the_pool(self, groups):
        outcome = groups(self.GROUPS)
        advantage_R = pooled_advantages(outcome)
        for n in range(2, 9):
            carries_R = thinned(PooledDownsampling(share=n / 12), outcome).carries_gradient_R
            best = max(np.var(advantage_R[list(c)]) for c in combinations(range(12), n))
            assert carries_R.sum() == n
            assert advantage_R[carries_R].var() == pytest.approx(best)

    def test_advantages_stay_those_of_whole_groups(self, groups):
        verdict = thinned(PooledDownsampling(share=4 / 12), groups(self.GROUPS))
        assert not verdict.renormalise
        assert verdict.kept_B.all()

    def test_the_share_is_of_what_the_filter_kept_and_scored(self, groups):
        outcome = groups([[1, 0, None, 0], [1, 1, 1, 1], [0, 1, 0, 1]])
        assert thinned(PooledDownsampling(share=1.0), outcome, NonZeroVariance()).carries_gradient_R.sum() == 7
        assert [len(group) for group in taken(PooledDownsampling(share=4 / 7), outcome, NonZeroVariance())] in (
            [1, 0, 3],
            [2, 0, 2],
        )

    def test_a_pacing_raises_the_share_as_in_the_paper(self):
        share = {"pacing": "linear", "first": 0.25, "last": 1.0, "steps": 2}
        curriculum = Curriculum.from_recipe({"downsampling": {"name": "d3s", "share": share}}, small_pool())
        shares = []
        for step in range(4):
            outcome = answer(curriculum, curriculum.plan(step, 4, 32), lambda prompt, r: float(r % 2))
            verdict = curriculum.judge(outcome)
            shares.append(verdict.carries_gradient_R.mean())
            curriculum.update(Feedback(outcome, verdict))
        assert shares == pytest.approx([0.25, 0.625, 1.0, 1.0], abs=1 / 32)


class TestBalancedKeep:
    def test_two_correct_of_sixteen(self, groups):
        outcome = groups([[1, *[0] * 7, 1, *[0] * 7]])
        policy = BalancedKeep(n_kept=4)
        assert sorted(taken(policy, outcome)[0]) == [0, 0, 1, 1]
        carries_R = thinned(policy, outcome).carries_gradient_R
        whole = group_advantages("dr_grpo", outcome.reward_R, outcome.group_R, outcome.ok_R, 1)[carries_R]
        assert sorted(whole) == pytest.approx([-0.125, -0.125, 0.875, 0.875])
        std = np.array([1.0] * 2 + [0.0] * 14).std(ddof=1)
        assert 0.875 / (std + 1e-6) == pytest.approx(2.561738, abs=1e-4), "with the deviation, as the specification says"

    @pytest.mark.parametrize(
        ("n_correct", "n_wrong", "n_kept", "expected"),
        [(8, 8, 8, (4, 4)), (1, 15, 8, (1, 7)), (15, 1, 8, (7, 1)), (8, 8, 5, (2, 3)), (3, 2, 8, (3, 2)), (16, 0, 4, (4, 0))],
    )
    def test_the_other_side_fills_up(self, groups, n_correct, n_wrong, n_kept, expected):
        (scores,) = taken(BalancedKeep(n_kept=n_kept), groups([[1] * n_correct + [0] * n_wrong]))
        assert (scores.count(1), scores.count(0)) == expected

    def test_the_choice_does_not_prefer_those_who_came_first(self, groups):
        """Position 0 of 8 correct rollouts is kept half of the time, as is position 7; and a second look sees the same."""
        hits = np.zeros(16)
        policy = BalancedKeep(n_kept=8)
        for step in range(400):
            outcome = groups([[1] * 8 + [0] * 8], step=step)
            carries_R = thinned(policy, outcome).carries_gradient_R
            assert (carries_R == thinned(policy, outcome).carries_gradient_R).all()
            hits += carries_R
        assert np.abs(hits / 400 - 0.5).max() < 5 * 0.5 / np.sqrt(400)

    def test_unscored_and_rejected_rollouts_stay_out(self, groups):
        outcome = groups([[1, None, 0, 0, None, 1], [1] * 6])
        verdict = thinned(BalancedKeep(n_kept=2), outcome, NonZeroVariance())
        assert sorted(taken(BalancedKeep(n_kept=2), outcome, NonZeroVariance())[0]) == [0, 1]
        assert not verdict.carries_gradient_R[6:].any()
        assert not verdict.renormalise


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "pods", "n_kept": 1}, r"pods\.n_kept: expected >= 2 .* got 1"),
        ({"name": "d3s", "share": 0.0}, r"d3s\.share: expected .* got 0\.0"),
        ({"name": "balanced_keep", "n_kept": 0}, r"balanced_keep\.n_kept: expected >= 2 .* got 0"),
        ({"name": "balanced_keep", "threshold": 1.0}, r"balanced_keep\.threshold: expected .* got 1\.0"),
    ],
)
def test_mistakes_are_named(spec, message):
    with pytest.raises(CurriculaError, match=message):
        build("downsampling", spec)

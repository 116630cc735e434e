"""Vectors of the published estimators, ragged groups, and what has no advantage."""

import numpy as np
import pytest

from curricula.types import CurriculaError
from trainer.advantages import KINDS, group_advantages, lacks_peers


def one_group(kind, rewards):
    n = len(rewards)
    return group_advantages(kind, np.array(rewards, float), np.zeros(n, int), np.ones(n, bool), 1)


@pytest.mark.parametrize(
    ("kind", "rewards", "expected"),
    [
        ("grpo", [1, 0, 0, 0], [1.499997, -0.499999, -0.499999, -0.499999]),
        ("dr_grpo", [1, 0, 0, 0], [0.75, -0.25, -0.25, -0.25]),
        ("rloo", [1, 0, 0, 0], [1, -1 / 3, -1 / 3, -1 / 3]),
        ("grpo", [1, 1, 0, 0], [0.866024, 0.866024, -0.866024, -0.866024]),
        ("grpo", [0.1, 0, 0, 0], [1.49997, -0.49999, -0.49999, -0.49999]),
    ],
)
def test_published_vectors(kind, rewards, expected):
    np.testing.assert_allclose(one_group(kind, rewards), expected, atol=1.5e-6 if rewards[0] == 1 else 6e-6)


@pytest.mark.parametrize(
    ("size", "correct", "expected"),
    [(8, 1, 0.618717), (8, 2, 0.810091), (8, 4, 0.935413), (16, 1, 0.468748), (16, 4, 0.838524), (16, 8, 0.968244)],
)
def test_mean_absolute_advantage(size, correct, expected):
    assert np.abs(one_group("grpo", [1] * correct + [0] * (size - correct))).mean() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_rewards_give_exactly_zero(kind):
    assert (one_group(kind, [0.1] * 3) == 0).all()  # 0.1 * 3 / 3 is not 0.1 in floating point
    assert (one_group(kind, [-1e30] * 5) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_ragged_shuffled_groups_equal_groups_alone(kind):
    rng = np.random.default_rng(0)
    group_R = np.repeat(np.arange(6), [2, 9, 1, 4, 0, 7])
    reward_R, scored_R = rng.random(len(group_R)), rng.random(len(group_R)) < 0.8
    order = rng.permutation(len(group_R))
    whole = np.empty(len(order))
    whole[order] = group_advantages(kind, reward_R[order], group_R[order], scored_R[order], 6)
    for g in range(6):
        mine = group_R == g
        alone = group_advantages(kind, reward_R[mine], np.zeros(mine.sum(), int), scored_R[mine], 1)
        np.testing.assert_allclose(whole[mine], alone, rtol=1e-12)


def test_unscored_rollouts_stay_out_of_the_group_and_get_zero():
    reward_R = np.array([1.0, np.nan, 0.0, 1.0, np.nan])
    group_R = np.array([0, 0, 0, 1, 1])
    scored_R = np.isfinite(reward_R)
    advantage_R = group_advantages("dr_grpo", reward_R, group_R, scored_R, 3)
    assert advantage_R.tolist() == [0.5, 0, -0.5, 0, 0]
    assert lacks_peers(group_R, scored_R, 3).tolist() == [False, True, False, True, True]


def test_no_rollout_at_all():
    none = np.zeros(0)
    assert len(group_advantages("grpo", none, none.astype(int), none.astype(bool), 0)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_scored_reward_is_refused(bad):
    with pytest.raises(CurriculaError, match=r"rollout 1 of group 0 is scored but its reward is .*give rollouts without a reward"):
        one_group("grpo", [1.0, bad])


def test_unknown_kind_is_refused_with_a_suggestion():
    with pytest.raises(CurriculaError, match="did you mean 'rloo'"):
        one_group("rlo", [1.0, 0.0])

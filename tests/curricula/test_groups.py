from math import comb

import numpy as np
import pytest

from curricula import Feedback
from curricula.filter.keep_all import KeepAll
from curricula.groups import learnability, mean_abs_advantages, n_scored, normalised_advantages, pass_rates, score_spreads


def feedback(outcome):
    return Feedback(outcome, KeepAll().judge(None, None, outcome))


def test_advantages_of_the_spec(groups):
    a = normalised_advantages(groups([[1, 0, 0, 0], [1, 1, 0, 0], [0.1, 0, 0, 0]]))
    np.testing.assert_allclose(a[:4], [1.499997] + [-0.499999] * 3, atol=1e-6)
    np.testing.assert_allclose(a[4:8], [0.866024, 0.866024, -0.866024, -0.866024], atol=1e-6)
    np.testing.assert_allclose(a[8:], [1.49997] + [-0.49999] * 3, atol=1e-5)


@pytest.mark.parametrize(
    ("n", "k", "value"), [(8, 1, 0.618717), (8, 2, 0.810091), (8, 4, 0.935413), (16, 1, 0.468748), (16, 8, 0.968244)]
)
def test_mean_abs_advantage_of_the_spec(groups, n, k, value):
    assert mean_abs_advantages(feedback(groups([[1] * k + [0] * (n - k)])))[0] == pytest.approx(value, abs=2e-6)


def test_advantage_does_not_depend_on_a_shifted_reward_range(groups):
    plain = normalised_advantages(groups([[1, 0, 0, 1]]))
    shifted = normalised_advantages(groups([[2, -3, -3, 2]], reward_range=(-3.0, 3.0)))
    np.testing.assert_allclose(plain, shifted, atol=1e-5)


def test_host_advantages_are_used_where_given(groups):
    outcome = groups([[1, 0], [1, 1]])
    given = Feedback(outcome, KeepAll().judge(None, None, outcome), np.array([0.5, -0.5, np.nan, 0.0]))
    np.testing.assert_allclose(mean_abs_advantages(given), [0.5, 0.0])


@pytest.mark.parametrize("n", [2, 4, 16])
def test_learnability_is_unbiased_whatever_the_group_size(groups, n):
    """E[4 k (N - k) / (N (N - 1))] = 4 p (1 - p), by summing over the binomial."""
    p = 0.1
    values = learnability(groups([[1] * k + [0] * (n - k) for k in range(n + 1)]))
    chance = [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    assert np.dot(values, chance) == pytest.approx(4 * p * (1 - p))


def test_unscored_rollouts_and_small_groups(groups):
    outcome = groups([[1, None, 0], [None, None], [1, None], [0.5, 0.5]])
    assert n_scored(outcome).tolist() == [2, 0, 1, 2]
    np.testing.assert_array_equal(pass_rates(outcome), [0.5, np.nan, 1.0, 0.5])
    np.testing.assert_array_equal(learnability(outcome), [2.0, np.nan, np.nan, 0.0])
    np.testing.assert_array_equal(score_spreads(outcome), [1.0, -np.inf, 0.0, 0.0])

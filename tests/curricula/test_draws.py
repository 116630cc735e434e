import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curricula.draws import draw_quota, generator

arms = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40)), min_size=1, max_size=8)


@given(arms, st.integers(0, 120), st.integers(0, 2**32))
@settings(deadline=None, max_examples=300)
def test_counts_are_whole_sum_exactly_and_stay_within_bounds(arms, n_groups, seed):
    weight, available = (np.array(column) for column in zip(*arms, strict=True))
    probability = weight / weight.sum() if weight.sum() > 0 else np.full(len(weight), 1 / len(weight))
    expected, drawn = draw_quota(probability, available, n_groups, np.random.default_rng(seed), np.arange(len(weight)))
    assert drawn.sum() == min(n_groups, available.sum())
    assert expected.sum() == pytest.approx(min(n_groups, available.sum()))
    assert (drawn >= 0).all()
    assert (drawn <= available).all()
    assert ((drawn == np.floor(expected)) | (drawn == np.ceil(expected))).all()


def test_mean_over_offsets_is_the_expectation():
    probability, available = np.array([0.53, 0.31, 0.11, 0.05]), np.array([3, 50, 50, 50])
    draws = np.array([draw_quota(probability, available, 10, np.random.default_rng(s), np.arange(4))[1] for s in range(4000)])
    expected = draw_quota(probability, available, 10, np.random.default_rng(0), np.arange(4))[0]
    assert expected[0] == 3
    np.testing.assert_allclose(expected[1:] / expected[1:].sum(), probability[1:] / probability[1:].sum())
    sigma = draws.std(axis=0) / np.sqrt(4000) + 1e-12
    assert (np.abs(draws.mean(axis=0) - expected) <= 5 * sigma).all()


def test_the_walk_follows_the_given_order():
    probability, available = np.array([0.26, 0.37, 0.37]), np.array([90, 90, 90])
    turned = np.array([2, 0, 1])
    for seed in range(50):
        one = draw_quota(probability, available, 7, np.random.default_rng(seed), np.arange(3))[1]
        other = draw_quota(probability[turned], available[turned], 7, np.random.default_rng(seed), np.argsort(turned))[1]
        assert (one[turned] == other).all()


def test_every_word_of_the_key_matters():
    keys = [(0, 0, 0, 0, "a"), (1, 0, 0, 0, "a"), (0, 1, 0, 0, "a"), (0, 0, 1, 0, "a"), (0, 0, 0, 1, "a"), (0, 0, 0, 0, "b")]
    assert len({generator(*key).random() for key in keys}) == len(keys)
    assert generator(*keys[1]).random() == generator(*keys[1]).random()

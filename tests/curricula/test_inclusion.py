"""Inclusion probabilities that sum to what is expected, and draws that keep to them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curricula import CurriculaError, PromptPool, inclusion
from curricula.inclusion import boltzmann, choose, choose_among_candidates, open_arms, proportional, sampled_arms, systematic, top
from curricula.stages import Quota


class FixedOffset:
    """A generator whose every uniform number is this one."""

    def __init__(self, value):
        self.value = value

    def random(self):
        return self.value


def marginals(probability, n_offsets=4000):
    """(n,) how often each place comes over evenly spaced offsets and the quota's own draw of floor or ceiling."""
    total = sum(probability)
    share = total - np.floor(total)
    frequency = np.zeros(len(probability))
    for drawn, weight in ((int(np.floor(total)), 1 - share), (int(np.floor(total)) + 1, share)):
        for offset in (np.arange(n_offsets) + 0.5) / n_offsets if weight > 1e-9 else ():
            place = systematic(np.asarray(probability), drawn, FixedOffset(offset))
            assert len(place) == drawn == len(set(place.tolist()))
            frequency[place] += weight / n_offsets
    return frequency


@pytest.mark.parametrize(
    "probability",
    [
        [0.5, 0.25, 0.25],
        [0.2, 0.9, 0.4, 0.75],
        [1.0, 0.1, 1.0, 0.15],
        [0.3],
        [1.0],
        [1.0, 1.0, 1.0],
        [0.0, 0.7, 0.0, 0.6, 0.0],
        [1 / 3] * 6,
        [0.1] * 30,
    ],
)
def test_systematic_draws_have_the_stated_marginals_and_the_drawn_count(probability):
    np.testing.assert_allclose(marginals(probability), probability, atol=1e-3)


def test_what_has_probability_zero_never_comes_even_at_the_ruler_s_end():
    for offset in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        assert systematic(np.array([0.0, 1.0, 1.0, 0.0]), 2, FixedOffset(offset)).tolist() == [1, 2]
        short = np.array([0.0, *[0.1] * 10, 0.0, 0.0]) * (1 - 1e-12)  # a sum that rounding left below one
        assert systematic(short, 1, FixedOffset(offset))[0] in range(1, 11)


def test_rounding_never_yields_a_prompt_twice():
    probability = np.ones(1000) * (1 + 1e-15)
    for offset in (0.0, 1e-16, np.nextafter(1.0, 0.0)):
        assert systematic(probability, 1000, FixedOffset(offset)).tolist() == list(range(1000))


def test_a_sum_that_does_not_fit_the_count_is_refused():
    for probability, drawn in (([0.5, 0.5], 2), ([0.9, 0.9, 0.9], 1), ([np.nan, 0.5], 1), ([0.0, 0.0], 1)):
        with pytest.raises(CurriculaError, match=f"the {drawn} prompts to draw"):
            systematic(np.array(probability), drawn, np.random.default_rng(0))


def test_top_gives_the_fraction_to_the_next_in_rank():
    np.testing.assert_allclose(top(np.array([3.0, 1.0, 2.0, 0.0]), 2.25), [1, 0.25, 1, 0])
    np.testing.assert_allclose(top(np.array([3.0, 1.0, 2.0, 0.0]), 0.25), [0.25, 0, 0, 0])


def test_equal_scores_share_alike_and_nan_comes_last():
    np.testing.assert_allclose(top(np.array([1.0, 2.0, 1.0, 1.0]), 2.5), [0.5, 1, 0.5, 0.5])
    np.testing.assert_allclose(top(np.array([np.nan, 2.0, np.nan]), 2.0), [0.5, 1, 0.5])
    np.testing.assert_allclose(top(np.array([np.nan, -np.inf]), 1.0), [0.5, 0.5])
    np.testing.assert_allclose(boltzmann(np.array([np.nan, 2.0, np.nan]), 1.0, 2.0), [0.5, 1, 0.5])
    np.testing.assert_allclose(boltzmann(np.array([np.nan, np.nan]), 1.0, 1.5), [0.75, 0.75])


def test_proportional_caps_at_one_and_goes_on_with_the_rest():
    """6 of 10 with 3 expected is certain; the others share 2 in proportion 3 : 1, where the 3 is certain too."""
    np.testing.assert_allclose(proportional(np.array([6.0, 3.0, 0.5, 0.5]), 3.0), [1, 1, 0.5, 0.5])
    np.testing.assert_allclose(proportional(np.array([1.0, 2.0, 1.0]), 1.0), [0.25, 0.5, 0.25])
    np.testing.assert_allclose(proportional(np.array([8.0, 3.0, 2.0, 1.0]), 2.5), [1, 0.75, 0.5, 0.25])


def test_too_few_positive_weights_leave_the_rest_to_the_others():
    np.testing.assert_allclose(proportional(np.array([0.0, 5.0, 0.0, -1.0, np.nan]), 3.0), [0.5, 1, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(proportional(np.zeros(4), 1.0), 0.25)
    np.testing.assert_allclose(proportional(np.array([0.0, 5.0]), 0.5), [0, 0.5])  # one is enough: no others needed


def test_extreme_weights():
    np.testing.assert_allclose(proportional(np.array([1e308] * 4), 2.0), 0.5)  # their sum is not a double
    np.testing.assert_allclose(proportional(np.array([5e-324] * 4), 2.0), 0.5)
    np.testing.assert_allclose(proportional(np.array([1e300, 3e-20, 1e-20]), 2.0), [1, 0.75, 0.25])
    np.testing.assert_allclose(boltzmann(np.array([1e308, -1e308, 0.0]), 1e-4, 2.0), [1, 0, 1])
    np.testing.assert_allclose(boltzmann(np.array([np.inf, 0.0, 0.0]), 1.0, 2.0), [1, 0.5, 0.5])


def test_boltzmann_is_a_softmax_where_nothing_is_certain():
    score = np.array([0.3, 0.1, 0.9])
    np.testing.assert_allclose(boltzmann(score, 0.5, 1.0), np.exp(score / 0.5) / np.exp(score / 0.5).sum())


def test_a_small_temperature_keeps_the_order_beyond_the_first():
    """exp(-1000) is zero: counted from the largest score the second and the third would be equals."""
    np.testing.assert_allclose(boltzmann(np.array([0.0, -3.0, -1.0, -2.0]), 1e-3, 2.5), [1, 0, 1, 0.5], atol=1e-12)


def weights():
    return st.lists(st.one_of(st.floats(0, 10), st.sampled_from([0.0, 1e-12, 1e6, 1.0])), min_size=1, max_size=30)


@given(weights(), st.floats(0.01, 1.0), st.sampled_from([1e-3, 0.1, 1.0, 50.0]))
@settings(deadline=None, max_examples=300)
def test_probabilities_sum_to_the_expected_number(weight, share, temperature):
    weight_n, expected = np.array(weight), share * len(weight)
    by_weight = proportional(weight_n, expected)
    for probability in (by_weight, top(weight_n, expected), boltzmann(weight_n, temperature, expected)):
        assert probability.min() >= 0
        assert probability.max() <= 1 + 1e-12
        assert probability.sum() == pytest.approx(expected, rel=1e-9)
    below = (by_weight > 0) & (by_weight < 1 - 1e-9) & (weight_n > 1e-200)  # one factor for all that are neither certain nor out
    if below.sum() > 1 and np.count_nonzero(weight_n) > expected:
        np.testing.assert_allclose(by_weight[below] / weight_n[below], (by_weight[below] / weight_n[below])[0], rtol=1e-6)
        certain = by_weight >= 1 - 1e-9
        assert not certain.any() or weight_n[certain].min() >= weight_n[below].max()


@given(weights(), st.floats(0.01, 1.0))
@settings(deadline=None, max_examples=100)
def test_a_tiny_temperature_is_top(weight, share):
    weight_n, expected = np.round(weight), share * len(weight)
    np.testing.assert_allclose(boltzmann(weight_n, 1e-3, expected), top(weight_n, expected), atol=1e-9)


def pool_of(sizes):
    names = [chr(97 + k) for k, n in enumerate(sizes) for _ in range(n)]
    return PromptPool.from_columns([f"{name}/{i:03d}" for i, name in enumerate(names)], names)


def test_choose_mixes_in_the_floor_and_leaves_out_what_is_blocked():
    pool, blocked = pool_of([5, 4]), np.zeros(9, bool)
    blocked[0] = True
    quota = Quota(np.array([2, 1]), np.array([2.0, 1.0]), blocked)
    seen = set()
    for seed in range(200):
        picked = choose(pool, quota, lambda prompt_n, n: top(-prompt_n, n), 0.2, np.random.default_rng(seed))
        assert picked.distribution_B.tolist() == [0, 0, 1]
        assert 0 not in picked.prompt_B
        seen |= set(picked.prompt_B.tolist())
        said = dict(zip(picked.prompt_B.tolist(), picked.propensity_B.tolist(), strict=True))
        expected = {1: 0.9, 2: 0.9, 3: 0.1, 4: 0.1, 5: 0.85, 6: 0.05, 7: 0.05, 8: 0.05}
        assert said == pytest.approx({i: expected[i] for i in said})
    assert seen == set(range(1, 9))


def test_nothing_to_draw_and_everything_taken():
    pool = pool_of([3])
    nothing = Quota(np.array([0]), np.array([0.0]), np.ones(3, bool))
    assert len(choose(pool, nothing, lambda prompt_n, n: top(-prompt_n, n), 0.1, np.random.default_rng(0))) == 0
    everything = Quota(np.array([3]), np.array([3.0]), np.zeros(3, bool))
    for weigh in (top, proportional, lambda w, n: boltzmann(w, 1e-3, n)):
        picked = choose(pool, everything, lambda p, n, w=weigh: w(p.astype(float), n), 0.1, np.random.default_rng(0))
        assert picked.prompt_B.tolist() == [0, 1, 2]
        np.testing.assert_allclose(picked.propensity_B, 1.0)


def test_open_arms_come_in_name_order():
    pool = PromptPool(np.array(["p", "q"]), np.array([0, 1]), ("z", "a"))
    quota = Quota(np.array([1, 1]), np.array([1.0, 1.0]), np.zeros(2, bool))
    assert [arm.prompt_n.tolist() for arm in open_arms(pool, quota)] == [[1], [0]]


# --- a sample of a large distribution ---------------------------------------------------------------------------------------------


def many(n, n_blocked=0):
    pool = PromptPool.from_columns([f"p{i:05d}" for i in range(n)], "x" * n)
    return pool, np.arange(n) < n_blocked


@pytest.mark.parametrize(("expected", "n_blocked"), [(2.3, 0), (2.3, 9), (0.4, 0), (3.0, 24)])
def test_visits_weighted_by_the_propensity_average_one_when_candidates_are_sampled(monkeypatch, expected, n_blocked):
    monkeypatch.setattr(inclusion, "LEAST_CANDIDATES", 4)
    monkeypatch.setattr(inclusion, "PER_SEAT", 3)
    pool, blocked = many(30, n_blocked)
    score = np.linspace(0, 1, 30)
    rng, n = np.random.default_rng(3), 6000
    weight = np.zeros((n, 30))
    for i in range(n):
        drawn = int(np.floor(expected)) + int(rng.random() < expected - np.floor(expected))
        quota = Quota(np.array([drawn]), np.array([expected]), blocked)
        picked = choose_among_candidates(pool, quota, lambda prompt_n, m: top(score[prompt_n], m), 0.3, rng)
        assert len(picked) == drawn
        assert not blocked[picked.prompt_B].any()
        weight[i, picked.prompt_B] = 1 / picked.propensity_B
    open_weight = weight[:, ~blocked]
    sigma = np.maximum(open_weight.std(0) / np.sqrt(n), 1e-9)
    assert (np.abs(open_weight.mean(0) - 1) < 5 * sigma).all()
    assert weight.mean(0)[-1] > 0


def test_small_distributions_are_weighed_whole_and_large_ones_by_a_bounded_sample():
    for n, n_offered in ((4000, 4000), (30_000, 4096)):
        pool, blocked = many(n)
        quota = Quota(np.array([3]), np.array([3.0]), blocked)
        (arm,) = sampled_arms(pool, quota, np.random.default_rng(0), inclusion.PER_SEAT, inclusion.LEAST_CANDIDATES)
        assert len(arm.prompt_n) == n_offered == round(arm.share * n)
        assert len(np.unique(arm.prompt_n)) == n_offered


def test_a_sample_of_blocked_prompts_alone_falls_back_to_the_whole():
    pool, blocked = many(20_000, 19_998)
    quota = Quota(np.array([2]), np.array([2.0]), blocked)
    for seed in range(5):
        (arm,) = sampled_arms(pool, quota, np.random.default_rng(seed), 1)
        assert set(arm.prompt_n.tolist()) == {19_998, 19_999}


@pytest.mark.parametrize("n", [1, 15, 16, 17, 100, 4097])
@pytest.mark.parametrize("n_values", [1, 2, 5, 10**9])
def test_top_takes_what_a_sort_would(n, n_values):
    """Among few and many, with and without equals: a short cut must not change the last one taken."""
    rng = np.random.default_rng(n + n_values)
    score_n = rng.integers(n_values, size=n) / n_values
    for expected in (0.5, 1.0, min(5.3, n), min(20.0, n), n / 2, float(n)):
        cut = np.sort(score_n)[::-1][max(int(np.ceil(expected)), 1) - 1]
        probability_n = top(score_n, expected)
        assert (probability_n[score_n > cut] == 1).all()
        assert (probability_n[score_n < cut] == 0).all()
        assert probability_n.sum() == pytest.approx(expected)

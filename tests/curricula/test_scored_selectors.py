"""Selectors that score prompts: the vectors of their papers and codes, and propensities worked out by hand."""

import math

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, PromptPool
from curricula.beta_cdf import beta_between, beta_cdf, log_gamma
from curricula.filter.keep_all import KeepAll
from curricula.moving import moved, starting_at
from curricula.ranking import rank_shares
from curricula.registry import build
from curricula.selector.adarft import AdaRFT, fewest_first
from curricula.selector.bots import Bots
from curricula.selector.difficulty_pools import DifficultyPools
from curricula.selector.dots import Dots
from curricula.selector.gaussian_rank import GaussianRank
from curricula.selector.kimi import Kimi
from curricula.selector.learnability import Learnability, expected_variance
from curricula.selector.prioritized_replay import PrioritizedReplay, rank_weights
from curricula.selector.sqrt_softmax import SqrtSoftmax
from curricula.selector.straddle import Straddle
from curricula.selector.thompson_nearest import ThompsonNearest
from curricula.stages import Quota
from curricula.testing import answer, feedback_of
from curricula.types import Estimate, Feedback

POOL = PromptPool.from_columns(["any"], ["x"])


def pool_of(n, prior=None, features=None):
    return PromptPool.from_columns([f"p{i:02d}" for i in range(n)], "x" * n, prior_pass_rate=prior, features=features)


def believing(pass_rate, strength=1.0):
    """A belief with these means, whatever was learned."""
    p = np.asarray(pass_rate, dtype=np.float64)
    return lambda prompt_B: Estimate(strength * p[prompt_B], strength * (1 - p[prompt_B]))


def quota_of(pool, expected, drawn=None):
    drawn = int(np.ceil(expected)) if drawn is None else drawn
    return Quota(np.array([drawn]), np.array([float(expected)]), np.zeros(len(pool), bool))


def chances(policy, pool, believed, expected=1, state=None, n_seeds=1500):
    """(N,) propensities, read off many plans; a prompt that never came has 0, and each always says the same."""
    state = policy.init(pool) if state is None else state
    said = np.zeros(len(pool))
    for seed in range(n_seeds):
        drawn = math.floor(expected) + (seed % 2 and expected > math.floor(expected))
        picked = policy.select(state, pool, quota_of(pool, expected, drawn), believed, np.random.default_rng(seed))
        assert len(picked) == drawn
        assert (np.isclose(said[picked.prompt_B], picked.propensity_B) | (said[picked.prompt_B] == 0)).all()
        said[picked.prompt_B] = picked.propensity_B
    return said


def learned(policy, pool, state, outcome):
    return policy.update(state, pool, Feedback(outcome, KeepAll().judge((), POOL, outcome)))


# --- the Beta distribution --------------------------------------------------------------------------------------------------------


def test_log_gamma_agrees_with_the_standard_library():
    z = np.array([1e-3, 0.5, 1.0, 2.0, 3.3, 50.0, 1e4, 1e6])
    np.testing.assert_allclose(log_gamma(z), [math.lgamma(v) for v in z], rtol=1e-13, atol=1e-13)


def test_beta_cdf_in_closed_form():
    x = np.linspace(0, 1, 21)
    np.testing.assert_allclose(beta_cdf(1, 1, x), x, atol=1e-14)
    np.testing.assert_allclose(beta_cdf(1, 7.5, x), 1 - (1 - x) ** 7.5, atol=1e-14)
    np.testing.assert_allclose(beta_cdf(3.5, 1, x), x**3.5, atol=1e-14)
    np.testing.assert_allclose(beta_cdf(2, 2, x), 3 * x**2 - 2 * x**3, atol=1e-14)
    np.testing.assert_allclose(beta_cdf(0.5, 0.5, x), 2 / np.pi * np.arcsin(np.sqrt(x)), atol=1e-14)


def test_beta_cdf_is_a_binomial_tail():
    for a, b, x in ((5, 3, 0.4), (40, 25, 0.7), (2, 90, 0.05), (200, 300, 0.41)):
        tail = sum(math.comb(a + b - 1, j) * x**j * (1 - x) ** (a + b - 1 - j) for j in range(a, a + b))
        assert float(beta_cdf(a, b, x)) == pytest.approx(tail, rel=1e-10)


def test_beta_cdf_far_out_and_for_large_counts():
    assert beta_cdf(3, 4, [-1.0, 0.0, 1.0, 2.0]).tolist() == [0, 0, 1, 1]
    assert float(beta_cdf(1e6, 1e6, 0.5)) == pytest.approx(0.5, abs=1e-8)
    assert float(beta_cdf(2e-3, 1e-3, 0.5)) == pytest.approx(1 / 3, abs=1e-3)
    assert float(beta_between(50, 2, 0.01, 0.02)) == pytest.approx(float(beta_between(2, 50, 0.98, 0.99)), rel=1e-9)
    assert float(beta_between(2, 90, 0.9, 1.0)) == pytest.approx(91 * 0.1**90 - 90 * 0.1**91, rel=1e-8)


# --- Thompson ---------------------------------------------------------------------------------------------------------------------


def test_thompson_propensity_of_one_of_two_is_the_chance_to_beat_the_other():
    """Both flat around 0.5: nearer than the other's distance d has probability 2 d."""
    pool = pool_of(2)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        picked = ThompsonNearest(floor=0.0).select((), pool, quota_of(pool, 1), believing([0.5, 0.5], 2.0), rng)
        again = np.random.default_rng(seed)
        distance = np.abs(again.beta([1, 1], [1, 1]) - 0.5)
        assert picked.prompt_B.tolist() == [int(distance.argmin())]
        np.testing.assert_allclose(picked.propensity_B, 2 * distance.max())


def test_thompson_propensity_in_closed_form_with_a_floor():
    """Beta(1, 3) has the distribution 1 - (1 - x)^3; with chance ``floor`` the draw is uniform."""
    pool, floor = pool_of(2), 0.3
    for seed in range(20):
        policy, rng = ThompsonNearest(floor=floor), np.random.default_rng(seed)
        picked = policy.select((), pool, quota_of(pool, 1), believing([0.25, 0.25], 4.0), rng)
        again = np.random.default_rng(seed)
        draw, explores = again.beta([1, 1], [3, 3]), again.random(2) < floor
        reach = np.abs(np.where(explores, again.random(2), draw) - 0.5).max()
        believed = (0.5 + reach) ** 3 - (0.5 - reach) ** 3
        np.testing.assert_allclose(picked.propensity_B, (1 - floor) * believed + floor * 2 * reach)


@pytest.mark.parametrize(("expected", "pool_factor"), [(0.4, 2), (1, 2), (2.3, 1), (2.3, 2), (5.5, 16), (6, 16)])
def test_thompson_visits_weighted_by_the_propensity_average_one(expected, pool_factor):
    """For quotas below one, with few candidates, at the ends of the pool: what an importance-weighted estimate needs."""
    pool, policy = pool_of(6), ThompsonNearest(pool_factor=pool_factor, floor=0.2)
    believed = believing([0.2, 0.35, 0.45, 0.5, 0.7, 0.8], 4.0)
    rng, n = np.random.default_rng(7), 2500
    weight = np.zeros((n, 6))
    for i in range(n):
        drawn = math.floor(expected) + (rng.random() < expected - math.floor(expected))
        picked = policy.select((), pool, quota_of(pool, expected, drawn), believed, rng)
        assert (picked.propensity_B <= 1 + 1e-12).all()
        weight[i, picked.prompt_B] = 1 / picked.propensity_B
    sigma = np.maximum(weight.std(0) / np.sqrt(n), 1e-9)
    assert (np.abs(weight.mean(0) - 1) < 5 * sigma).all()
    together = weight.mean(1)  # one statement about all prompts, sharper than that about each
    assert abs(together.mean() - 1) < 5 * max(together.std() / np.sqrt(n), 1e-9) < 0.3


def test_thompson_prefers_what_is_near_and_what_is_unknown():
    pool, hits = pool_of(3), np.zeros(3)
    believed = lambda p: Estimate(np.array([20.0, 400.0, 1.0])[p], np.array([80.0, 600.0, 1.0])[p])  # 0.2, 0.4 sharp, flat  # noqa: E731
    for seed in range(500):
        hits[ThompsonNearest(floor=0.0).select((), pool, quota_of(pool, 1), believed, np.random.default_rng(seed)).prompt_B] += 1
    assert hits[0] == 0
    assert hits[2] / 500 == pytest.approx(0.2, abs=0.06)  # a flat draw is nearer than 0.1 with probability 0.2


# --- top and softmax of what is believed ------------------------------------------------------------------------------------------


def test_learnability_of_eight_pilots():
    k = np.arange(9.0)
    variance = expected_variance(Estimate(k, 8 - k)) * 9 / 8  # without a prior: p (1 - p) x n / (n + 1)
    np.testing.assert_allclose(variance, [0, 0.109375, 0.1875, 0.234375, 0.25, 0.234375, 0.1875, 0.109375, 0], atol=1e-12)


def test_learnability_takes_the_best_known_of_equal_means():
    estimate = Estimate(np.array([1.0, 8.0, 2.0]), np.array([1.0, 8.0, 6.0]))
    picked = chances(
        Learnability(pilots=0.0, floor=0.0), pool_of(3), lambda p: Estimate(estimate.alpha_B[p], estimate.beta_B[p]), 1, None, 50
    )
    assert picked.tolist() == [0, 1, 0]
    assert expected_variance(Estimate(np.zeros(1), np.zeros(1))).tolist() == [0]


def test_learnability_pilots_what_was_never_rolled_out(groups):
    """A quarter of three seats for the four unseen of six; the rest for the best, of which one is unseen."""
    policy, pool, believed = Learnability(floor=0.0), pool_of(6), believing([0.5, 0.4, 0.45, 0.1, 0.1, 0.1])
    state = learned(policy, pool, policy.init(pool), groups([[1, 0], [1], [None]], pool, [0, 1, 5]))
    assert state.seen_N.tolist() == [True, True, False, False, False, False]
    np.testing.assert_allclose(
        chances(policy, pool, believed, 3, state), 0.25 * np.array([0, 0, 3, 3, 3, 3]) / 4 + 0.75 * np.array([1, 1, 1, 0, 0, 0])
    )
    everything = learned(policy, pool, state, groups([[1]] * 6, pool))
    np.testing.assert_allclose(chances(policy, pool, believed, 3, everything), [1, 1, 1, 0, 0, 0])


CURES = lambda p: Estimate(np.array([1.0, 2, 3, 5])[p], np.array([5.0, 4, 3, 1])[p])  # noqa: E731  # accepted 0, 1, 2, 4 of 4


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"tau": 1.0}, [0.235874252, 0.260349604, 0.267901892, 0.235874252]),
        ({"tau": 0.1}, [0.121120777, 0.325074196, 0.432684249, 0.121120777]),
        ({"tau": 0.1, "compat": "upstream"}, [0.250400879, 0.250058125, 0.249885556, 0.24965544]),
    ],
)
def test_cures(given, expected):
    np.testing.assert_allclose(chances(SqrtSoftmax(**given, floor=0.0), pool_of(4), CURES), expected, atol=1e-6)


def test_cdas_takes_one_from_either_side_of_competence():
    difficulty, competence = np.array([-0.25, -0.085937288, 0.070338926, 0.25]), 0.00389959
    believed = believing(1 / (1 + np.exp(difficulty - competence)))
    assert chances(Straddle(floor=0.0), pool_of(4), believed, 2, (), 50).tolist() == [0, 1, 1, 0]


def test_straddle_shortfalls_ties_and_odd_quotas():
    halves = Straddle().halves
    assert halves(np.array([0.9, 0.8, 0.7, 0.1]), 3.0).tolist() == [0, 1, 1, 1]  # one hard prompt: two easy ones
    np.testing.assert_allclose(halves(np.array([0.9, 0.6, 0.4, 0.2]), 3.0), [0.5, 1, 1, 0.5])
    np.testing.assert_allclose(halves(np.array([0.5, 0.5, 0.5, 0.5]), 2.0), 0.5)  # the first step: all at competence
    np.testing.assert_allclose(halves(np.array([0.1, 0.2, 0.3]), 0.5), [0, 0, 0.5])
    assert halves(np.array([0.9, 0.8, 0.1]), 3.0).tolist() == [1, 1, 1]
    assert halves(np.array([0.5, 0.6, 0.4]), 2.0).tolist() == [1, 0, 1]  # at competence is on the easy side
    assert Straddle(target=0.15).halves(np.array([0.9, 0.2, 0.1]), 2.0).tolist() == [0, 1, 1]


def test_bots_by_softmax_and_by_rank():
    believed = believing([0.5, 0.3, 0.9])
    weight = np.exp(-np.array([0.1, 0.3, 0.3]) / 0.2)
    np.testing.assert_allclose(
        chances(Bots(target=0.6, tau=0.2, floor=0.0), pool_of(3), believed, 1, ()), weight / weight.sum(), atol=1e-9
    )
    assert chances(Bots(tau=0.0, floor=0.0), pool_of(3), believed, 2, (), 50).tolist() == [1, 1, 0]


def test_dots_orders_where_probabilities_underflow():
    believed = believing([0.5, 0.1, 0.92, 0.501])
    assert chances(Dots(floor=0.0), pool_of(4), believed, 3, (), 50)[[0, 3]].tolist() == [1, 1]
    np.testing.assert_allclose(chances(Dots(floor=0.0), pool_of(4), believed, 3, (), 50), [1, 1, 0, 1], atol=1e-8)
    weight = np.exp(-np.array([0.0, 1.0]))
    np.testing.assert_allclose(
        chances(Dots(floor=0.0), pool_of(4), believed), [weight[0] / weight.sum(), 0, 0, weight[1] / weight.sum()]
    )


# --- chances by what came back ----------------------------------------------------------------------------------------------------


def test_kimi_by_one_minus_the_pass_rate():
    np.testing.assert_allclose(
        chances(Kimi(floor=0.0), pool_of(4), believing([0, 0.25, 0.5, 1])), [0.44444444, 0.33333333, 0.22222222, 0], atol=1e-6
    )


def test_kimi_gives_up_on_what_nobody_solves_until_somebody_does(groups):
    policy, pool = Kimi(most_failures=2, floor=0.0), pool_of(2)
    state, believed = policy.init(pool), believing([0.0, 0.5])
    for step in range(2):
        state = learned(policy, pool, state, groups([[0, 0], [1, 0]], pool, step=step))
    state = learned(policy, pool, state, groups([[None, None], []], pool, step=2))  # nothing scored: no failure, no success
    assert state.failed_N.tolist() == [2, 0]
    np.testing.assert_allclose(chances(policy, pool, believed, 1, state, 50), [0, 1])
    np.testing.assert_allclose(chances(Kimi(most_failures=0, floor=0.0), pool, believed, 1, state), [2 / 3, 1 / 3])
    state = learned(policy, pool, state, groups([[0, 1]], pool, step=3))
    np.testing.assert_allclose(chances(policy, pool, believed, 1, state), [2 / 3, 1 / 3])


def test_difficulty_pools_by_the_latest_group(groups):
    """Hard, normal, unseen, easy, normal: weights 0.2, 1, 1, 0.2, 1."""
    policy, pool = DifficultyPools(floor=0.0), pool_of(5)
    first = groups([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1], [1, 1, 1, 0]], pool, [0, 1, 3, 4], step=4)
    state = learned(policy, pool, policy.init(pool), first)
    state = learned(policy, pool, state, groups([[0, 0, 0, 1], [None, None]], pool, [0, 1], step=5))
    state = learned(policy, pool, state, groups([[1, 1]], pool, [0], step=3))  # late: step 5 stays the latest
    np.testing.assert_allclose(state.mean_N, [0.25, 0.5, np.nan, 1, 0.75])
    np.testing.assert_allclose(
        chances(policy, pool, believing([0.5] * 5), 1, state), [0.0588235, 0.2941176, 0.2941176, 0.0588235, 0.2941176], atol=1e-6
    )


def test_prioritized_replay(groups):
    policy, pool = PrioritizedReplay(floor=0.0), pool_of(4)
    state = policy.init(pool)._replace(
        score_N=np.array([0.9, 0.1, 0.5, 0.3], np.float32), stamp_N=np.array([6, 3, 5, 0], np.int32), step=np.array(6)
    )
    expected = [0.899106, 0.030001, 0.010878, 0.060015]
    np.testing.assert_allclose(chances(policy, pool, None, 1, state), expected, atol=1e-6)


def test_prioritized_replay_gives_the_unseen_their_share():
    policy, pool = PrioritizedReplay(floor=0.0), pool_of(8)
    state = policy.init(pool)._replace(
        score_N=np.array([0.9, 0.1, *[0.0] * 6], np.float32), stamp_N=np.array([1, 1, *[-1] * 6], np.int32), step=np.array(3)
    )
    said = chances(policy, pool, None, 2, state)
    np.testing.assert_allclose(said[2:], 0.25)
    np.testing.assert_allclose(said[:2], 0.5 * (0.9 * np.array([1, 2**-10.0]) / (1 + 2**-10.0) + 0.1 * 0.5))
    np.testing.assert_allclose(chances(policy, pool, None, 2, None), 0.25)


def test_prioritized_replay_learns_scores_and_stamps(groups):
    policy, pool = PrioritizedReplay(alpha=0.25), pool_of(4)
    state = learned(policy, pool, policy.init(pool), groups([[1, 0], [1, 1], [1]], pool, step=2))
    np.testing.assert_allclose(
        state.score_N, [2, 0, 0, 0]
    )  # 4 x the unbiased variance of (1, 0) is 2; a single rollout says nothing
    assert (state.stamp_N.tolist(), int(state.step)) == ([2, 2, -1, -1], 2)
    state = learned(policy, pool, state, groups([[1, 1], [1, 0]], pool, step=6))
    state = learned(policy, pool, state, groups([[1, 0]], pool, [3], step=4))
    state = learned(policy, pool, state, groups([[1, 0]], pool, [0], step=1))  # late
    np.testing.assert_allclose(state.score_N, [1.5, 0.5, 0, 2])
    assert (state.stamp_N.tolist(), int(state.step)) == ([6, 6, -1, 4], 6)


def test_equal_scores_share_the_weight_of_their_ranks():
    np.testing.assert_allclose(rank_weights(np.array([0.0, 7.0, 0.0]), 0.5), [(1 / 4 + 1 / 9) / 2, 1, (1 / 4 + 1 / 9) / 2])
    assert (rank_weights(np.arange(5000.0), 0.01) >= 0).all()


# --- static rankings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        (0.2, [0.257058368, 0.4238176, 0.257058368, 0.057357475, 0.004708188]),
        (0.0, [0.570349665, 0.345934558, 0.077188433, 0.006336012, 0.000191331]),
    ],
)
def test_gain_rl_weights(mean, expected):
    """Five prompts, mean rank 1 or 0 and width 1, by the prior pass rate and by the same order as a feature."""
    prior = [0.9, 0.7, 0.5, 0.3, 0.1]
    features = [[0, value] for value in prior]
    for column in (-1, 1):
        policy = GaussianRank(column=column, mean=mean, width=0.2, floor=0.0)
        said = chances(policy, pool_of(5, prior, features), None)
        seen = said > 0
        assert seen[:4].all()
        np.testing.assert_allclose(said[seen], np.array(expected)[seen], atol=1e-6)


@pytest.mark.parametrize(
    ("pass_rate", "angle", "ranks"), [(0.8, 0.1, 367.212443611), (0.4, 0.1, 0.0), (0.2, 0.05, 0.0), (0.95, 0.3, 626.673718599)]
)
def test_gain_rl_moves_its_mean(groups, pass_rate, angle, ranks):
    policy, pool = GaussianRank(angle=angle), pool_of(3)
    outcome = groups([[pass_rate, pass_rate], [pass_rate]], pool)
    state = learned(policy, pool, policy.init(pool), outcome)
    assert float(state.shift.now) * 10_000 == pytest.approx(ranks, abs=1e-6)
    assert policy.move(0.99, 1.0) == 1.0
    assert GaussianRank(most=0.01).move(0.0, 1.0) == 0.01


def test_the_centre_moves_and_a_pacing_can_drive_it(groups):
    pool = pool_of(5, [0.9, 0.7, 0.5, 0.3, 0.1])
    policy = GaussianRank(width=0.01, speed=1.0, slope=100.0, most=0.4, floor=0.0)
    assert chances(policy, pool, None, 1, None, 20).argmax() == 0
    state = learned(policy, pool, policy.init(pool), groups([[1, 1]], pool))
    assert chances(policy, pool, None, 1, state, 20).argmax() == 2
    paced = build(
        "selector",
        {"name": "gaussian_rank", "speed": 0.0, "mean": {"pacing": "constant", "at": 0.8}, "width": 0.01, "floor": 0.0},
    )
    assert chances(paced, pool, None, 1, None, 20).argmax() == 4


def test_ranks_of_equals_and_of_the_unknown():
    np.testing.assert_allclose(rank_shares(np.array([np.nan, np.nan])), 0.5)
    np.testing.assert_allclose(rank_shares(np.array([1.0, 3.0, 3.0, 2.0])), [0.75, 0.125, 0.125, 0.5])
    said = chances(GaussianRank(floor=0.0), pool_of(4), None, 2, None, 50)
    np.testing.assert_allclose(said, 0.5)  # nothing known: uniform


def test_adarft_moves_its_target(groups):
    policy, pool = AdaRFT(), pool_of(2)
    state, seen = policy.init(pool), []
    for step, reward in enumerate((0.8, 0.6, 0.3, 0.1, 0.9)):
        state = learned(policy, pool, state, groups([[reward], [reward, reward]], pool, step=step))
        seen.append(float(state.target.now))
    np.testing.assert_allclose(seen, [26.85247835, 36.721244361, 17.723796248, 0.0, 33.201838513], atol=1e-6)


def test_adarft_takes_the_nearest():
    d = np.array([5.0, 20, 27, 33, 60, 90])
    for policy, pool in (
        (AdaRFT(column=0, start=30, floor=0.0), pool_of(6, features=d[:, None])),
        (AdaRFT(start=30, floor=0.0), pool_of(6, prior=1 - d / 100)),
    ):
        assert np.flatnonzero(chances(policy, pool, None, 3, None, 50)).tolist() == [1, 2, 3]
    beliefs = believing(1 - d / 100)  # no stated pass rates: by what is believed
    assert np.flatnonzero(chances(AdaRFT(start=30, floor=0.0), pool_of(6), beliefs, 3, None, 50)).tolist() == [1, 2, 3]
    partly = pool_of(6, prior=[0.95, 0.8, np.nan, 0.67, 0.4, 0.1])
    assert np.flatnonzero(chances(AdaRFT(start=30, floor=0.0), partly, beliefs, 3, None, 50)).tolist() == [1, 2, 3]


def test_adarft_takes_no_prompt_twice_in_an_epoch_unless_told_to():
    pool = pool_of(5, prior=[0.9, 0.8, 0.7, 0.6, 0.5])
    for once, expected in ((True, {0, 1, 2, 3}), (False, {0, 1})):
        selector = {"name": "adarft", "once_per_epoch": once, "floor": 0.0, "speed": 0.0}
        curriculum = Curriculum.from_recipe({"selector": selector}, pool)
        seen = []
        for step in range(2):
            plan = curriculum.plan(step, 2, 4)
            seen += plan.selection.prompt_B.tolist()
            curriculum.update(feedback_of(curriculum, answer(curriculum, plan, lambda prompt, r: 0.0)))
        assert set(seen) == expected
    assert fewest_first(np.array([1, 0, 1, 1]), np.array([3.0, 0, 2, 1]), 2.5).tolist() == [1, 1, 0.5, 0]


def test_a_number_moves_once_per_step_however_its_groups_come_back(groups):
    def move(value, mean):
        return value + mean

    whole = groups([[1, 1], [0, 0, 1, 0]], step=3)
    parts = [groups([[1, 1], []], step=3), groups([[], [0, 0, 1, 0]], step=3), groups([[None]], step=3)]

    def feedback(outcome):
        return Feedback(outcome, KeepAll().judge((), POOL, outcome))

    once = moved(starting_at(10.0), feedback(whole), move)
    state = starting_at(10.0)
    for part in parts:
        state = moved(state, feedback(part), move)
    assert float(once.now) == float(state.now) == 10.5
    assert float(moved(state, feedback(groups([[1]], step=2)), move).now) == 10.5  # too late
    assert float(moved(state, feedback(groups([[1]], step=4)), move).now) == 11.5


# --- floors, errors, growth -------------------------------------------------------------------------------------------------------

NAMES = [
    *["adarft", "bots", "difficulty_pools", "dots", "gaussian_rank", "kimi"],
    *["learnability", "prioritized_replay", "sqrt_softmax", "straddle"],
]


@pytest.mark.parametrize("name", NAMES)
def test_the_floor_is_an_even_share(name):
    """With floor 1 nothing but the floor is left."""
    pool = pool_of(5, prior=[0.1, 0.2, 0.5, 0.7, 0.9])
    policy = build("selector", {"name": name, "floor": 1.0})
    np.testing.assert_allclose(chances(policy, pool, believing(pool.prior_pass_rate_N), 2, None, 100), 0.4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(({"name": name, "floor": 1.5}, f"{name}.*floor.*1.5") for name in [*NAMES, "thompson_nearest"]),
        ({"name": "thompson_nearest", "pool_factor": 0}, "thompson_nearest.pool_factor: expected >= 1, got 0"),
        ({"name": "thompson_nearest", "target": -0.1}, "target=-0.1"),
        ({"name": "sqrt_softmax", "tau": 0}, r"sqrt_softmax\.tau: .* above 0, got 0"),
        ({"name": "sqrt_softmax", "compat": "both"}, "'stated', 'upstream', got 'both'"),
        ({"name": "learnability", "pilots": 2}, "pilots=2"),
        ({"name": "straddle", "target": 2}, "target=2"),
        ({"name": "bots", "tau": -1}, r"bots\.tau: .*got -1"),
        ({"name": "bots", "target": 2}, "target=2"),
        ({"name": "dots", "tau": 0}, r"dots\.tau"),
        ({"name": "kimi", "most_failures": -1}, r"kimi\.most_failures: expected >= 0, got -1"),
        ({"name": "difficulty_pools", "hard_up_to": 0.9}, "hard_up_to=0.9, normal_up_to=0.75"),
        ({"name": "difficulty_pools", "easy_weight": -1}, r"difficulty_pools\.easy_weight: .*got -1"),
        ({"name": "prioritized_replay", "beta": 0}, r"prioritized_replay\.beta"),
        ({"name": "prioritized_replay", "alpha": 0}, r"prioritized_replay\.alpha"),
        ({"name": "prioritized_replay", "rho": 2}, "prioritized_replay.*rho=2"),
        ({"name": "gaussian_rank", "width": 0}, "width=0"),
        ({"name": "gaussian_rank", "speed": -1}, r"gaussian_rank\.speed"),
        ({"name": "gaussian_rank", "column": -2}, r"gaussian_rank\.column"),
        ({"name": "adarft", "start": 101}, "start=101"),
        ({"name": "adarft", "goal": 2}, r"adarft\.goal"),
        ({"name": "adarft", "speed": -1}, r"adarft\.speed"),
        ({"name": "adarft", "column": -2}, r"adarft\.column"),
    ],
)
def test_impossible_numbers_are_refused(given, said):
    with pytest.raises(CurriculaError, match=said):
        build("selector", given)


@pytest.mark.parametrize("name", ["gaussian_rank", "adarft"])
def test_a_feature_that_is_not_there_is_refused(name):
    for pool, said in (
        (pool_of(2), "no features"),
        (pool_of(2, features=[[1], [2]]), r"got 1, and the pool has features of shape \(2, 1\)"),
        (pool_of(2, features=[[1, 2], [1, np.nan]]), "not finite"),
    ):
        with pytest.raises(CurriculaError, match=rf"{name}\.column: .*{said}"):
            build("selector", {"name": name, "column": 1}).init(pool)


def test_states_move_to_a_larger_pool(groups):
    """Ranks are made anew, the centre and the target stay; a new prompt begins the epoch with the others."""
    old, new = pool_of(3, [0.9, 0.5, 0.1]), pool_of(4, [0.9, 0.5, 0.1, 0.95])
    for name in ("gaussian_rank", "adarft"):
        policy = build("selector", name)
        state = learned(policy, old, policy.init(old), groups([[1, 1]] * 3, old))
        carried = policy.carry(state, old, new)
        if name == "gaussian_rank":
            np.testing.assert_allclose(carried.rank_N, [0.25, 0.5, 0.75, 0.0])
            assert float(carried.shift.now) == float(state.shift.now) > 0
        else:
            assert carried.used.visits_N.tolist() == [1, 1, 1, 1]
            assert float(carried.target.now) == float(state.target.now) > 0

"""Bandits that forget, schedules over levels, and combinators: against the specification's vectors and as behaviour."""

from dataclasses import replace
from itertools import permutations
from math import erf, sqrt

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, Feedback, PromptPool, build, names
from curricula.distribution.alp_gmm import AlpGmm, shares
from curricula.distribution.discounted_ucb import DiscountedUCB, bounds
from curricula.distribution.e2h import EasyToHard, ScheduleState, cosine, gaussian
from curricula.distribution.exp3 import Exp3, importance_weighted
from curricula.distribution.fixed import FixedWeights
from curricula.distribution.floored import Floored, raised
from curricula.distribution.learning_progress import LearningProgress, progress
from curricula.distribution.mastering_rate import MasteringRate
from curricula.distribution.mixture import Mixture
from curricula.distribution.omni_thinker import OmniThinker
from curricula.distribution.pac import ProgressAugmented, utilities
from curricula.distribution.sliding_ucb import SlidingUCB
from curricula.distribution.staged import Staged
from curricula.distribution.thompson import NormalState, Thompson
from curricula.filter.keep_all import KeepAll
from curricula.gaussians import best_fitted, fitted, largest_chances, normal_cdf
from curricula.histories import EMPTY, means_by_step, no_history, noted, slopes
from curricula.levels import easiest_first, level_order, natural_key
from curricula.paced import Paced
from curricula.testing import answer, feedback_of, run, small_pool

MIXED, SOLVED, FAILED = [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]  # learnability 4/3, 0 and 0


@pytest.fixture
def pool():
    return PromptPool.from_columns([f"{i:02d}" for i in range(12)], ["a"] * 4 + ["b"] * 4 + ["c"] * 4)


@pytest.fixture
def learn(groups, pool):
    """Fold one step into a state: the groups of a, b and c are lists of rewards."""

    def learned(policy, state, step, a=(), b=(), c=(), probability=None):
        rewards = [*a, *b, *c]
        prompts = [*range(len(a)), *range(4, 4 + len(b)), *range(8, 8 + len(c))]
        outcome = groups(rewards, pool, prompts=prompts, step=step)
        plan = replace(outcome.plan, probability_K=np.full(3, 1 / 3) if probability is None else np.array(probability))
        outcome = replace(outcome, plan=plan)
        return policy.update(state, pool, Feedback(outcome, KeepAll().judge(None, None, outcome)))

    return learned


# --- what they are made of --------------------------------------------------------------------------------------------------------


def test_names_sort_naturally():
    assert sorted(["l10", "l9", "l-1", "l9b", "l"], key=natural_key) == ["l", "l9", "l9b", "l10", "l-1"]


def test_levels_by_name_by_prior_and_as_stated():
    pool = PromptPool.from_columns("abcd", ["level-10", "level-2", "level-2", "level-7"], prior_pass_rate=[0.9, 0.1, 0.3, np.nan])
    named = ["level-10", "level-2", "level-7"]
    assert [pool.distribution_names[k] for k in level_order(pool, (), "name", "x")] == ["level-2", "level-7", "level-10"]
    assert [pool.distribution_names[k] for k in level_order(pool, (), "prior_pass_rate", "x")] == ["level-10", "level-2", "level-7"]
    assert [named[k] for k in level_order(pool, ("level-7", "level-10", "level-2"), "name", "x")] == [
        "level-7",
        "level-10",
        "level-2",
    ]
    assert [named[k] for k in easiest_first(pool, np.array([0.5, 0.5, 0.5]))] == ["level-2", "level-7", "level-10"]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (("a", "b"), r"staged\.order: expected every distribution.*'c' is missing"),
        (("a", "b", "c", "c"), r"staged\.order.*a name comes twice"),
        (("a", "b", "d"), r"distribution in staged\.order: 'd'"),
    ],
)
def test_a_stated_order_names_every_distribution_once(pool, order, message):
    with pytest.raises(CurriculaError, match=message):
        Staged(order=order).init(pool)


def test_a_history_keeps_the_newest_steps_in_any_order_of_arrival():
    steps = [0, 3, 1, 4, 2]
    wanted = {2: 0.2, 3: 0.3, 4: 0.4}
    for order in permutations(steps):
        history = no_history(2, 3)
        for step in order:
            history = noted(history, step, np.array([step / 10, np.nan]), np.array([1, 0]))
        assert dict(zip(history.step_KW[1].tolist(), means_by_step(history)[1].tolist(), strict=True)) == pytest.approx(wanted)
        assert (history.step_KW[0] == EMPTY).all()


def test_a_step_in_two_parts_is_one_step():
    history = noted(noted(no_history(1, 2), 5, np.array([1.0]), np.array([0])), 5, np.array([0.0, 0.5]), np.array([0, 0]))
    assert sorted(history.step_KW[0].tolist()) == [EMPTY, 5]
    assert np.nanmax(means_by_step(history)) == 0.5


def test_slopes_are_least_squares():
    rng = np.random.default_rng(0)
    x, y = rng.random((4, 9)), rng.random((4, 9))
    y[0, :4] = np.nan
    want = [np.polyfit(a[~np.isnan(b)], b[~np.isnan(b)], 1)[0] for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(slopes(x, y), want)


def phi(z):
    return 0.5 * (1 + erf(z / sqrt(2)))


def test_normal_cdf_against_erf():
    z = np.linspace(-9, 9, 777)
    np.testing.assert_allclose(normal_cdf(z), [phi(v) for v in z], atol=4e-8)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.6, 0.5), (0.1, 0.2)), ((0.0, 0.0), (1e-3, 1.0)), ((0.3, 0.0), (1e-9, 0.3)), ((5.0, 0.0), (1.0, 1.0))]
)
def test_chance_of_the_larger_of_two_is_exact(mean, std):
    want = phi((mean[0] - mean[1]) / sqrt(std[0] ** 2 + std[1] ** 2))
    np.testing.assert_allclose(largest_chances(np.array(mean), np.array(std)), [want, 1 - want], atol=1e-4)


@pytest.mark.parametrize("k", [1, 3, 10, 60])
def test_chance_of_the_largest_is_the_frequency_of_draws(k):
    rng = np.random.default_rng(k)
    mean, std = rng.random(k), 10 ** rng.uniform(-2, 0, k)
    n = 50_000
    drawn = np.bincount((mean + std * rng.standard_normal((n, k))).argmax(axis=1), minlength=k) / n
    chance = largest_chances(mean, std)
    assert chance.sum() == pytest.approx(1)
    assert (np.abs(drawn - chance) <= 5 * np.sqrt(chance * (1 - chance) / n) + 1e-4).all()


def test_equal_beliefs_have_equal_chances():
    np.testing.assert_allclose(largest_chances(np.full(7, 0.4), np.full(7, 1e-200)), 1 / 7)


def test_a_mixture_finds_two_clouds():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal((0.0, 0.3), 0.05, (100, 2)), rng.normal((1.0, 0.1), 0.05, (50, 2))])
    mixture, likelihood = fitted(x, 2)
    order = mixture.mean_CD[:, 0].argsort()
    np.testing.assert_allclose(mixture.mean_CD[order], [[0.0, 0.3], [1.0, 0.1]], atol=0.02)
    np.testing.assert_allclose(mixture.weight_C[order], [2 / 3, 1 / 3], atol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diagonal(mixture.covariance_CDD, axis1=1, axis2=2)), 0.05, atol=0.01)
    away = (x[:, None] - mixture.mean_CD[None])[:, :, :, None]
    density = [
        w * np.exp(-0.5 * (d.swapaxes(1, 2) @ np.linalg.inv(c) @ d)[:, 0, 0]) / (2 * np.pi * np.sqrt(np.linalg.det(c)))
        for w, c, d in zip(mixture.weight_C, mixture.covariance_CDD, away.swapaxes(0, 1), strict=True)
    ]
    assert likelihood == pytest.approx(np.log(np.sum(density, axis=0)).sum())
    assert len(best_fitted(x, 6).weight_C) == 2


# --- bandits ----------------------------------------------------------------------------------------------------------------------


def test_discounted_vector_of_the_specification(groups):
    """Section 2.9: g = 0.9, ten groups of each at step 0, then ten of a alone through step 5."""
    pool = PromptPool.from_columns([f"{i:02d}" for i in range(20)], ["a"] * 10 + ["b"] * 10)
    policy = DiscountedUCB(g=0.9, bonus=0.5)
    state = policy.init(pool)
    for step in range(6):
        outcome = groups([MIXED] * (20 if step == 0 else 10), pool, step=step)
        state = policy.update(state, pool, Feedback(outcome, KeepAll().judge(None, None, outcome)))
    np.testing.assert_allclose(state.n_drawn_K, [46.8559, 5.9049])
    np.testing.assert_allclose(state.sum_K / state.n_signals_K, 4 / 3)
    np.testing.assert_allclose(bounds(np.array([0.6, 0.5]), state.n_drawn_K, 0.5, plus=0.0), [0.805715, 1.079485], atol=1e-6)
    a, b = policy.probabilities(state, pool)
    assert b > a  # equal signals: the one left alone has the bonus


def test_discounted_evidence_does_not_depend_on_arrival(learn, pool):
    policy, sent = DiscountedUCB(g=0.5), [{"a": [MIXED]}, {"b": [SOLVED, MIXED]}, {"c": [FAILED], "a": [MIXED]}]
    states = []
    for order in permutations(range(3)):
        state = policy.init(pool)
        for step in order:
            state = learn(policy, state, step, **sent[step])
        states.append(state)
    for state in states:
        np.testing.assert_allclose(state.n_drawn_K, [1.25, 1.0, 1.0])
        np.testing.assert_allclose(state.sum_K, [1.25 * 4 / 3, 0.5 * 4 / 3, 0.0])


def test_discounted_without_forgetting_is_dump(learn, pool):
    """With g = 1 and a window that holds all signals, the two are the same rule."""
    one, other = DiscountedUCB(g=1.0, bonus=1.0), build("distribution", "dump_ucb")
    s, t = one.init(pool), other.init(pool)
    for step, sent in enumerate([{"a": [MIXED], "b": [SOLVED]}, {"b": [MIXED]}, {"a": [SOLVED, FAILED]}]):
        s, t = learn(one, s, step, **sent), learn(other, t, step, **sent)
    np.testing.assert_allclose(one.probabilities(s, pool), other.probabilities(t, pool))


def test_unscored_groups_are_drawn_but_carry_no_signal(learn, pool):
    for policy in (DiscountedUCB(), SlidingUCB()):
        state = learn(policy, policy.init(pool), 0, a=[[None, None]] * 4, b=[FAILED] * 2)
        a, b, c = policy.probabilities(state, pool)
        assert a < b < c  # twice as often drawn, so less bonus; no signal counts as 0


def test_sliding_window_forgets_at_once(learn, pool):
    policy = SlidingUCB(window=3, bonus=0.5, tau=0.5)
    state = learn(policy, policy.init(pool), 0, a=[MIXED])
    for step in (1, 2):
        state = learn(policy, state, step, b=[SOLVED])
    score = bounds(np.array([4 / 3, 0, 0]), np.array([1, 2, 0]), 0.5)
    np.testing.assert_allclose(policy.probabilities(state, pool), np.exp(score / 0.5) / np.exp(score / 0.5).sum())
    state = learn(policy, state, 3, b=[SOLVED])  # step 0 leaves the window
    score = bounds(np.zeros(3), np.array([0, 3, 0]), 0.5)
    np.testing.assert_allclose(policy.probabilities(state, pool), np.exp(score / 0.5) / np.exp(score / 0.5).sum())
    state = learn(policy, state, 6, c=[[None, None]])  # so do steps that only failed
    np.testing.assert_allclose(
        policy.probabilities(state, pool),
        np.exp(bounds(np.zeros(3), np.array([0, 0, 1]), 0.5) / 0.5)
        / np.exp(bounds(np.zeros(3), np.array([0, 0, 1]), 0.5) / 0.5).sum(),
    )


def test_thompson_belief_is_conjugate(learn, pool):
    policy = Thompson(prior_mean=0.5, prior_std=0.5, noise=0.5, drift=0.1)
    state = learn(policy, policy.init(pool), 0, a=[MIXED, MIXED, FAILED], b=[SOLVED])
    np.testing.assert_allclose(state.variance_K, [0.25 / 4, 0.25 / 2, 0.25])  # the prior is as strong as one group
    np.testing.assert_allclose(state.mean_K, [(0.5 + 8 / 3) / 4, 0.25, 0.5])
    later = learn(policy, state, 4, c=[MIXED])  # four steps on, each widens by 0.01
    np.testing.assert_allclose(later.variance_K[:2], [0.0625 + 0.04, 0.125 + 0.04])
    np.testing.assert_allclose(later.mean_K[:2], state.mean_K[:2])
    assert learn(policy, later, 400, c=[[None]]).variance_K.max() == pytest.approx(0.25)  # never wider than the prior


def test_thompson_comes_back_to_what_it_left(learn, pool):
    policy = Thompson(drift=0.2)
    state = learn(policy, policy.init(pool), 0, a=[FAILED] * 4, b=[MIXED] * 4, c=[FAILED] * 4)
    before = policy.probabilities(state, pool)
    for step in range(1, 8):
        state = learn(policy, state, step, b=[MIXED] * 4)
    assert (policy.probabilities(state, pool)[[0, 2]] > 3 * before[[0, 2]]).all()


def test_thompson_prefers_the_uncertain_of_two_that_trail():
    p = Thompson().probabilities(NormalState(np.array([1.0, 0.2, 0.2]), np.array([0.01, 0.01, 0.25]), np.array(3)), None)
    assert p[2] > 5 * p[1]


def test_pac_by_hand(learn, pool):
    """Window of 3 steps: pass rates of a rise 0, 0.25, 0.5, those of b fall 1, 0.75; c is seen once."""
    policy = ProgressAugmented(window=3, delta=0.2, cold_start=0)
    one, three = [1, 0, 0, 0], [1, 1, 1, 0]  # learnability 1 each
    state = learn(policy, policy.init(pool), 0, a=[FAILED], b=[SOLVED], c=[MIXED])
    np.testing.assert_allclose(state.mean_K, [0, 0, 0.5 * 4 / 3])  # rho 1 each: half way from 0 to u; slopes unknown
    np.testing.assert_allclose(state.variance_K, 0.5 + 0.04)
    state = learn(policy, state, 1, a=[one], b=[three])
    # x = step / 2, slopes +0.5 and -0.5, so s_prog = +-1/2; s_adv 1/2 each; rho 3/2
    precision = 1 / 0.54 + 1.5
    np.testing.assert_allclose(state.mean_K[:2], np.array([1.5 * 0.5, 0.5 * 0.5]) * 1.5 / precision)
    np.testing.assert_allclose(state.variance_K, [1 / precision + 0.04, 1 / precision + 0.04, 0.54 + 0.04])
    before = state.mean_K.copy(), state.variance_K.copy()
    state = learn(policy, state, 2, a=[MIXED])
    # s_adv of a: (0 + 1 + 4/3) / 3; slopes still 0.5 and -0.5; rho = 3
    u, precision = 1.5 * 7 / 9, 1 / before[1][0] + 3
    assert state.mean_K[0] == pytest.approx((before[0][0] / before[1][0] + 3 * u) / precision)
    np.testing.assert_allclose(state.mean_K[1:], before[0][1:])


def test_pac_starts_with_equal_shares_and_then_follows_its_belief(learn, pool):
    policy = ProgressAugmented(cold_start=2)
    state = learn(policy, policy.init(pool), 0, a=[MIXED] * 3, b=[SOLVED] * 3, c=[FAILED] * 3)
    np.testing.assert_allclose(policy.probabilities(state, pool), 1 / 3)
    state = learn(policy, state, 1, a=[MIXED] * 3, b=[SOLVED] * 3, c=[FAILED] * 3)
    p = policy.probabilities(state, pool)
    np.testing.assert_allclose(p, largest_chances(state.mean_K, np.sqrt(state.variance_K)))
    assert p[0] > 0.5


def test_pac_progress_raises_one_of_two_equals():
    np.testing.assert_allclose(utilities(np.array([0.4, 0.4, 0.4]), np.array([0.2, -0.2, 0.1])), [0.56, 0.24, 0.48])
    np.testing.assert_allclose(utilities(np.array([0.4, 0.2]), np.zeros(2)), [0.4, 0.2])


def test_exp3_estimate_is_unbiased():
    rng, p, value = np.random.default_rng(0), np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.9, 0.5])
    estimates = []
    for _ in range(4000):
        arm = rng.choice(3, size=8, p=p)
        estimates.append(importance_weighted(value[arm], arm, p))
    error = np.std(estimates, axis=0) / sqrt(4000)
    assert (np.abs(np.mean(estimates, axis=0) - value) < 5 * error).all()


def test_exp3_one_step_by_hand(learn, pool):
    policy = Exp3(eta=0.3, share=0.1)
    state = learn(policy, policy.init(pool), 0, a=[MIXED], b=[SOLVED], probability=[0.5, 0.3, 0.2])
    w = np.exp(0.3 * np.array([4 / 3 / (2 * 0.5), 0, 0]))
    np.testing.assert_allclose(policy.probabilities(state, pool), 0.9 * w / w.sum() + 0.1 / 3)
    again = learn(policy, state, 0, c=[MIXED], probability=[0.5, 0.3, 0.2])  # the rest of the step: no second sharing
    w = policy.probabilities(state, pool) * np.exp(0.3 * np.array([0, 0, 4 / 3 / 0.2]))
    np.testing.assert_allclose(policy.probabilities(again, pool), w / w.sum())


def test_exp3_shares_keep_every_distribution_within_reach(learn, pool):
    policy = Exp3(eta=1.0, share=0.03)
    state = policy.init(pool)
    for step in range(60):
        state = learn(policy, state, step, a=[MIXED], b=[SOLVED], c=[FAILED])
    p = policy.probabilities(state, pool)
    assert p[0] > 0.9
    assert p[1:].min() >= 0.01 - 1e-12


def test_exp3_ignores_plans_from_before_the_pool_had_more_distributions(learn, pool):
    policy = Exp3()
    state = learn(policy, policy.init(pool), 0, a=[MIXED], probability=[0.5, 0.5])
    np.testing.assert_allclose(policy.probabilities(state, pool), 1 / 3)


def test_learning_progress_by_hand(learn, pool):
    policy = LearningProgress(window=5)
    state = policy.init(pool)
    for step, (a, b) in enumerate([(0, 4), (1, 4), (2, 0), (3, 3), (4, 3)]):  # solved of 4
        state = learn(policy, state, step, a=[[1] * a + [0] * (4 - a)], b=[[1] * b + [0] * (4 - b)])
    np.testing.assert_allclose(progress(state), [0.75, 0.25, np.nan])  # the middle step belongs to neither half
    np.testing.assert_allclose(policy.probabilities(state, pool), np.array([0.75, 0.25, 0.75]) / 1.75)  # unknown: as the largest
    soft = LearningProgress(window=5, rule="softmax", tau=0.5).probabilities(state, pool)
    np.testing.assert_allclose(soft, np.exp([1.5, 0.5, 1.5]) / np.exp([1.5, 0.5, 1.5]).sum())


def test_learning_progress_counts_what_is_forgotten_and_ends_at_equal_shares(learn, pool):
    policy = LearningProgress(window=2)
    state = policy.init(pool)
    for step, (a, b) in enumerate([(SOLVED, FAILED), (MIXED, FAILED)]):
        state = learn(policy, state, step, a=[a], b=[b], c=[SOLVED])
    np.testing.assert_allclose(policy.probabilities(state, pool), [1, 0, 0])
    for step in (2, 3):
        state = learn(policy, state, step, a=[MIXED], b=[FAILED], c=[SOLVED])
    np.testing.assert_allclose(policy.probabilities(state, pool), 1 / 3)


def test_mastering_rate_vector():
    """Section 1.8."""
    mastery, slope, chain = np.array([0.9, 0.4, 0.0]), np.array([0.1, 0.5, 0.0]), np.eye(3, k=-1, dtype=bool)
    pre = MasteringRate(to_easier=0.0, to_harder=0.0).attention(mastery, slope, chain)
    np.testing.assert_allclose(pre, [0.09, 0.425153, 0.002048], atol=1e-6)
    attention = MasteringRate().attention(mastery, slope, chain)
    np.testing.assert_allclose(attention, [0.133085, 0.330432, 0.018579], atol=1e-6)
    share = attention / attention.sum()
    np.testing.assert_allclose(share, [0.2761, 0.6854, 0.0385], atol=5e-5)
    np.testing.assert_allclose(0.9 * share + 0.1 / 3, [0.2818, 0.6502, 0.0680], atol=5e-5)


def test_mastering_rate_from_rewards(learn, pool):
    """a solved, b rising, c unseen: attention lies on b, as in the rule by hand."""
    policy = MasteringRate(window=2, high=1.0)
    state = policy.init(pool)
    np.testing.assert_allclose(policy.probabilities(state, pool)[0], policy.probabilities(state, pool).max())
    for step, b in enumerate([[1, 0, 0, 0], MIXED]):
        state = learn(policy, state, step, a=[SOLVED], b=[b])
    want = policy.attention(np.array([1.0, 0.375, 0.0]), np.array([0.0, 0.25, 0.0]), np.eye(3, k=-1, dtype=bool))
    np.testing.assert_allclose(policy.probabilities(state, pool), 0.9 * want / want.sum() + 0.1 / 3)
    assert policy.probabilities(state, pool).argmax() == 1


def test_mastering_rate_reads_prerequisites(learn, pool):
    policy = MasteringRate(prerequisites={"a": ["b", "c"]}, window=2, to_easier=0.0, to_harder=0.0, greedy=0.0)
    assert policy.builds_on(pool).tolist() == [[False, True, True], [False] * 3, [False] * 3]
    state = policy.init(pool)
    for step in (0, 1):
        state = learn(policy, state, step, b=[SOLVED])
    p = policy.probabilities(state, pool)
    assert p.tolist() == [0, 0, 1]  # a waits for c, b is mastered


def test_mastering_rate_waits_for_prerequisites_at_any_distance():
    """In a chain that is numbered at random, one level at the start that is not mastered closes all that follow."""
    order = np.random.default_rng(0).permutation(30)
    chain = np.zeros((30, 30), dtype=bool)
    chain[order[1:], order[:-1]] = True
    mastery = np.full(30, 0.5)
    mastery[order[0]] = 0.0
    attention = MasteringRate(to_easier=0.0, to_harder=0.0).attention(mastery, np.zeros(30), chain)
    assert np.flatnonzero(attention).tolist() == [order[0]]


def test_mastering_rate_gives_equal_shares_when_all_is_mastered(learn, pool):
    policy = MasteringRate(window=2, greedy=0.0)
    state = policy.init(pool)
    for step in (0, 1):
        state = learn(policy, state, step, a=[SOLVED], b=[SOLVED], c=[SOLVED])
    assert state.high_K.tolist() == [1, 1, 1]  # a full window has widened 0.9
    np.testing.assert_allclose(policy.probabilities(state, pool), 1 / 3)


def test_alp_gmm_follows_progress(learn, pool):
    policy = AlpGmm(window=12, refit=4, random=0.1)
    state = policy.init(pool)
    np.testing.assert_allclose(policy.probabilities(state, pool), 1 / 3)
    for step in range(8):
        swing = [1] * (step % 2 * 2) + [0] * (4 - step % 2 * 2)
        state = learn(policy, state, step, a=[SOLVED], b=[swing], c=[FAILED])
    p = policy.probabilities(state, pool)
    assert p[1] > 0.7  # b changes by 1/2 every step, the others not at all
    assert p.min() >= 0.1 / 3 - 1e-12


def test_alp_is_the_change_of_the_mean_and_the_first_one_has_the_nearest_as_reference(learn, pool):
    policy = AlpGmm(window=4, refit=100)
    state = learn(policy, policy.init(pool), 0, a=[SOLVED])
    state = learn(policy, state, 1, a=[MIXED, SOLVED], b=[FAILED])
    state = learn(policy, state, 2, c=[MIXED])  # nearest to b, which lies at 0.5
    at = {k: dict(zip(state.progress.step_KW[k].tolist(), means_by_step(state.progress)[k], strict=True)) for k in range(3)}
    assert at[0][1] == 0.25
    assert at[1][1] == 1.0
    assert at[2][2] == 0.5
    assert 0 not in at[0]  # nothing to compare with
    late = learn(policy, state, 0, a=[FAILED], c=[SOLVED])
    assert late.last_K.tolist() == state.last_K.tolist() == [0.75, 0.0, 0.5]  # what came late is not the newest


def test_alp_gmm_lies_on_features_where_the_pool_has_them():
    columns = [f"{i}" for i in range(6)], ["a", "a", "b", "b", "c", "c"]
    features = np.zeros((6, 40))
    features[:, 7] = [0, 0, 1, 1, 10, 12]  # means 0, 1 and 11
    place_KD = AlpGmm().init(PromptPool.from_columns(*columns, features=features)).place_KD
    assert place_KD.shape == (3, 3)
    gap = np.abs(place_KD[:, None] - place_KD[None]).sum(axis=2)
    np.testing.assert_allclose(gap[0], [0, 1 / 11, 1], atol=1e-9)
    features[0, 0] = np.nan
    with pytest.raises(CurriculaError, match="alp_gmm: the pool's features hold NaN"):
        AlpGmm().init(PromptPool.from_columns(*columns, features=features))


def test_a_mixture_without_progress_is_indifferent_to_its_components():
    mixture, _ = fitted(np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]), 2)
    np.testing.assert_allclose(shares(mixture, np.array([[0.0], [1.0]])), [0.5, 0.5], atol=1e-6)


# --- schedules --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "share"), [(0, [0.4, 0.3, 0.2, 0.1]), (0.25, [0.3561, 0.2854, 0.2146, 0.1439]), (1, [0.1, 0.2, 0.3, 0.4])]
)
def test_e2h_cosine_vectors(x, share):
    np.testing.assert_allclose(cosine(4, x), share, atol=5e-5)


def test_e2h_gaussian_vector():
    np.testing.assert_allclose(gaussian(4, 0.25, 0.5, 0.5, 0.0), [0.009, 0.491, 0.491, 0.009], atol=5e-4)


def test_e2h_gaussian_has_a_least_share():
    p = gaussian(4, 1.0, 0.5, 0.1, 0.1)
    np.testing.assert_allclose(p, [0.1, 0.1, 0.1, 0.7])


def test_e2h_goes_from_easy_to_hard_over_its_steps(learn):
    pool = PromptPool.from_columns("abc", ["level-10", "level-2", "level-7"])
    for schedule in ("cosine", "gaussian"):
        policy = EasyToHard(schedule=schedule, steps=10)
        peaks = [policy.probabilities(policy.init(pool)._replace(n_steps=np.array(n)), pool).argmax() for n in (0, 10, 99)]
        assert peaks == [1, 0, 0]  # level-2 first, level-10 at the end and ever after


def test_e2h_counts_learned_steps(learn, pool):
    policy = EasyToHard(schedule="cosine", steps=4)
    state = learn(policy, policy.init(pool), 1, a=[MIXED])
    np.testing.assert_allclose(policy.probabilities(state, pool), cosine(3, 0.5))
    state = learn(policy, state, 0, a=[MIXED])  # late
    np.testing.assert_allclose(policy.probabilities(state, pool), cosine(3, 0.5))


def test_e2h_by_running_pass_rate(learn, pool):
    policy = EasyToHard(schedule="cosine", steps=100, by="pass_rate")
    state = learn(policy, policy.init(pool), 0, a=[FAILED], b=[MIXED], c=[SOLVED])
    np.testing.assert_allclose(policy.probabilities(state, pool), cosine(3, 0.01)[::-1])
    assert policy._order(ScheduleState(np.array(1), np.array([0.0, 0.9, 0.2]), np.array([0.0, 2.0, 0.25])), pool).tolist() == [
        2,
        1,
        0,
    ]


def test_e2h_running_pass_rates_do_not_depend_on_arrival(learn, pool):
    policy, sent = EasyToHard(by="pass_rate"), [{"a": [SOLVED]}, {"a": [FAILED]}, {"b": [MIXED], "a": [FAILED]}]
    for order in permutations(range(3)):
        state = policy.init(pool)
        for step in order:
            state = learn(policy, state, step, **sent[step])
        np.testing.assert_allclose(state.sum_K, [0.81, 0.5, 0])
        np.testing.assert_allclose(state.n_K, [0.81 + 0.9 + 1, 1, 0])


def test_staged_by_steps(learn, pool):
    policy = Staged(order=("b", "a", "c"), steps=(2, 1, 5))
    state, seen = policy.init(pool), []
    for step in range(5):
        seen.append("abc"[policy.probabilities(state, pool).argmax()])
        state = learn(policy, state, step, b=[MIXED])
    assert seen == ["b", "b", "a", "c", "c"]
    jumped = learn(policy, policy.init(pool), 9, b=[MIXED])  # nine lost steps are steps
    assert policy.probabilities(jumped, pool).tolist() == [0, 0, 1]
    assert policy.probabilities(learn(policy, jumped, 500, a=[MIXED]), pool).tolist() == [0, 0, 1]  # the last stage never ends


def test_staged_by_pass_rate(learn, pool):
    policy = Staged(advance="pass_rate", threshold=0.75, window=2)
    state = policy.init(pool)
    state = learn(policy, state, 0, a=[SOLVED], b=[SOLVED])
    assert policy.probabilities(state, pool)[0] == 1  # one good step is not a window
    state = learn(policy, state, 1, a=[MIXED], b=[SOLVED])
    assert policy.probabilities(state, pool)[1] == 1  # (1 + 1/2) / 2; what b did before its stage does not count
    state = learn(policy, state, 2, b=[MIXED])
    state = learn(policy, state, 3, b=[MIXED])
    assert policy.probabilities(state, pool)[1] == 1
    state = learn(policy, state, 4, b=[SOLVED])
    assert policy.probabilities(state, pool)[2] == 1


def test_staged_by_either(learn, pool):
    policy = Staged(advance="either", threshold=1.0, window=1, steps=(3,))
    state = learn(policy, policy.init(pool), 0, a=[SOLVED])
    assert policy.probabilities(state, pool)[1] == 1
    for step in (1, 2, 3):
        state = learn(policy, state, step, b=[FAILED])
    assert policy.probabilities(state, pool)[2] == 1


def test_omni_thinker_vector():
    """Section 1.6; code and math tie at 1, own gain breaks the tie."""
    by_name = {"code": (8, 2, 1, 0), "math": (3, 6, 1, -1), "qa": (-1, 0, 9, 1), "write": (-3, -4, -1, 7)}
    rows = tuple(tuple(map(float, row)) for row in by_name.values())
    policy = OmniThinker(names=tuple(by_name), transfer=rows, steps=(2,))
    np.testing.assert_allclose(policy.scores(), [1, 1, 0, -8 / 3])
    assert policy.order == ("code", "math", "qa", "write")
    turned = OmniThinker(names=tuple(by_name)[::-1], transfer=tuple(row[::-1] for row in rows[::-1]))
    assert turned.order == policy.order
    math_gains_more = tuple(tuple(9.0 if i == j == 1 else x for j, x in enumerate(row)) for i, row in enumerate(rows))
    assert replace(policy, transfer=math_gains_more).order == ("math", "code", "qa", "write")


def test_omni_thinker_trains_in_that_order(learn, pool):
    policy = OmniThinker(names=("a", "b", "c"), transfer=((1.0, -1.0, 0.0), (0.0, 1.0, 0.0), (2.0, 2.0, 1.0)), steps=(1,))
    state, seen = policy.init(pool), []
    for step in range(3):
        seen.append("abc"[policy.probabilities(state, pool).argmax()])
        state = learn(policy, state, step, a=[MIXED])
    assert seen == ["c", "b", "a"]


# --- combinators ------------------------------------------------------------------------------------------------------------------


def test_mixture_of_parts_that_learn(learn, pool):
    sec = build("distribution", "sec")
    policy = build("distribution", {"name": "mixture", "parts": ["sec", {"name": "fixed", "weights": {"c": 1}}], "weights": [1, 3]})
    state, alone = policy.init(pool), sec.init(pool)
    for step in range(3):
        state, alone = (learn(one, s, step, a=[MIXED], b=[SOLVED]) for one, s in ((policy, state), (sec, alone)))
    np.testing.assert_allclose(policy.probabilities(state, pool), 0.25 * sec.probabilities(alone, pool) + [0, 0, 0.75])


def test_floored_raises_and_keeps_proportions():
    np.testing.assert_allclose(raised(np.array([0.5, 0.3, 0.2]), 0.1), [0.5, 0.3, 0.2])
    np.testing.assert_allclose(raised(np.array([1.0, 0.0, 0.0]), 0.2), [0.6, 0.2, 0.2])
    np.testing.assert_allclose(raised(np.array([0.75, 0.21, 0.04, 0.0]), 0.2), [0.4, 0.2, 0.2, 0.2])  # the second falls by giving
    np.testing.assert_allclose(raised(np.array([0.9, 0.1]), 0.5), [0.5, 0.5])


def test_floored_wraps_a_policy(pool):
    policy = build("distribution", {"name": "floored", "inner": {"name": "fixed", "weights": {"b": 1}}, "share": 0.1})
    assert isinstance(policy.inner, FixedWeights)
    np.testing.assert_allclose(policy.probabilities(policy.init(pool), pool), [0.1, 0.8, 0.1])
    with pytest.raises(CurriculaError, match=r"floored\.share: 0\.4 for each of 3 distributions.*at most 0\.3333"):
        Floored(share=0.4).init(pool)


MADE_HERE = (
    "alp_gmm",
    "discounted_ucb",
    "e2h",
    "exp3",
    "floored",
    "learning_progress",
    "mastering_rate",
    "mixture",
    "omni_thinker",
)
MADE_HERE += ("pac", "sliding_ucb", "staged", "thompson")


@pytest.mark.parametrize("name", MADE_HERE)
def test_distributions_numbered_otherwise_get_the_same_shares(name):
    """Names decide, numbers do not, after twelve steps too."""
    pool = small_pool()
    found = []
    for turn in ((0, 1, 2), (1, 2, 0), (0, 2, 1)):
        place = np.argsort(turn)
        turned = PromptPool(pool.ids, place[pool.distribution_N], tuple(pool.distribution_names[k] for k in turn))
        curriculum = Curriculum.from_recipe({"distribution": name, "exploration": 0.1}, turned)
        run(curriculum, range(12))
        found.append(curriculum.probabilities()[place])
    np.testing.assert_allclose(found[1:], [found[0]] * 2, atol=1e-12)
    assert np.ptp(found[0]) > 0.01  # equal shares would prove nothing


@pytest.mark.parametrize("name", MADE_HERE)
def test_what_was_learned_survives_a_growing_pool(name):
    """A distribution more, which sorts first: plans go on, and nothing else changes place."""
    pool = small_pool()
    more = PromptPool.from_columns(
        [*pool.ids.tolist(), "brand-new/00", "brand-new/01"],
        [*(pool.distribution_names[k] for k in pool.distribution_N), "brand-new", "brand-new"],
    )
    curriculum = Curriculum.from_recipe({"distribution": name, "exploration": 0.1}, pool)
    run(curriculum, range(6))
    before = curriculum.state_dict()
    curriculum.grow(more)
    after = curriculum.state_dict()
    for key in (key for key in before if key.startswith("distribution.") and key.rpartition("_")[2].startswith("K")):
        if not key.endswith("place_KD"):
            np.testing.assert_array_equal(after[key][1:], before[key], err_msg=key)
    run(curriculum, range(6, 9))
    assert len(curriculum.probabilities()) == 4


def test_all_of_them_are_registered():
    assert set(MADE_HERE) <= set(names("distribution"))


def test_a_paced_number_of_a_combinator_is_followed(learn, pool):
    policy = build("distribution", {"name": "floored", "share": {"pacing": "linear", "first": 0.3, "last": 0.0, "steps": 3}})
    assert isinstance(policy, Paced)
    assert policy.probabilities(policy.init(pool), pool).min() >= 0.3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "discounted_ucb", "g": 0}, r"discounted_ucb\.g.*got 0"),
        ({"name": "discounted_ucb", "bonus": -1}, r"discounted_ucb\.bonus"),
        ({"name": "discounted_ucb", "tau": 0}, r"discounted_ucb\.tau"),
        ({"name": "sliding_ucb", "window": 0}, r"sliding_ucb\.window"),
        ({"name": "sliding_ucb", "tau": 0}, r"sliding_ucb\.tau"),
        ({"name": "sliding_ucb", "bonus": float("inf")}, r"sliding_ucb\.bonus"),
        ({"name": "thompson", "noise": 0}, r"thompson\.noise"),
        ({"name": "thompson", "prior_std": 0}, r"thompson\.prior_std"),
        ({"name": "thompson", "prior_mean": float("nan")}, r"thompson\.prior_mean"),
        ({"name": "thompson", "drift": -1}, r"thompson\.drift"),
        ({"name": "pac", "window": 1}, r"pac\.window.*two steps"),
        ({"name": "pac", "delta": -1}, r"pac\.delta"),
        ({"name": "pac", "cold_start": -1}, r"pac\.cold_start"),
        ({"name": "exp3", "eta": 0}, r"exp3\.eta"),
        ({"name": "exp3", "share": 1}, r"exp3\.share"),
        ({"name": "learning_progress", "window": 1}, r"learning_progress\.window.*two halves"),
        ({"name": "learning_progress", "tau": 0}, r"learning_progress\.tau"),
        ({"name": "mastering_rate", "window": 1}, r"mastering_rate\.window"),
        ({"name": "mastering_rate", "power": -1}, r"mastering_rate\.power"),
        ({"name": "mastering_rate", "greedy": 2}, r"mastering_rate\.greedy"),
        ({"name": "mastering_rate", "low": 0.9}, r"mastering_rate: expected 0 <= low < high <= 1, got low=0\.9"),
        ({"name": "mastering_rate", "prerequisites": {"a": ["b"], "b": ["a"]}}, "run in a circle: [ab] -> [ab] -> [ab]"),
        ({"name": "alp_gmm", "refit": 0}, r"alp_gmm\.refit"),
        ({"name": "alp_gmm", "random": 2}, r"alp_gmm\.random"),
        ({"name": "staged", "steps": []}, r"staged\.steps"),
        ({"name": "staged", "threshold": 2}, r"staged\.threshold"),
        ({"name": "staged", "window": 0}, r"staged\.window"),
        ({"name": "e2h", "steps": 0}, r"e2h\.steps"),
        ({"name": "e2h", "sigma": 0}, r"e2h\.sigma"),
        ({"name": "omni_thinker", "names": ["a", "b"], "transfer": [[1]]}, r"omni_thinker\.transfer: expected 2 rows of 2"),
        ({"name": "omni_thinker", "names": ["a"], "transfer": [[float("nan")]]}, r"omni_thinker\.transfer: expected finite"),
        ({"name": "omni_thinker", "steps": [0]}, r"omni_thinker\.steps"),
        ({"name": "mixture", "weights": [1]}, "one weight per part, got 2 parts"),
        ({"name": "mixture", "weights": [0, 0]}, r"mixture\.weights"),
        ({"name": "mixture", "parts": ["sec", "secc"]}, r"'secc'; did you mean 'sec'"),
        ({"name": "floored", "share": -1}, r"floored\.share"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(wrong, message):
    with pytest.raises(CurriculaError, match=message):
        build("distribution", wrong)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (MasteringRate(prerequisites={"a": ["x"]}), r"distribution in mastering_rate\.prerequisites: 'x'"),
        (Staged(steps=(1, 2)), "expected 1 or 3 numbers for 3 distributions, got 2"),
        (EasyToHard(order=("a", "b")), r"e2h\.order.*'c' is missing"),
        (OmniThinker(names=("a",), transfer=((1.0,),)), r"omni_thinker\.names.*'b' is missing"),
    ],
)
def test_a_policy_that_does_not_fit_the_pool_is_refused(pool, policy, message):
    with pytest.raises(CurriculaError, match=message):
        policy.init(pool)


def test_a_mixture_learns_nothing_from_the_other_parts(pool):
    """Nested states stay apart and keep their shapes."""
    policy = Mixture(parts=(Thompson(), Mixture(parts=(Exp3(),), weights=(1.0,))), weights=(1.0, 1.0))
    state = policy.init(pool)
    assert state.parts[0].mean_K.shape == state.parts[1].parts[0].log_weight_K.shape == (3,)


def test_discounted_ucb_revisits_a_neglected_arm_and_plain_ucb_does_not():
    """40 steps teach nothing in arm "b"; then only "a" is drawn, where there is something to learn, for 400 steps.

    Plain UCB: b's bonus sqrt(2 ln(n + 1) / (n_b + 1)) passes a's signal of 1 only when ln(n + 1) > (n_b + 1) / 2, after more
    than e^160 draws with n_b = 320; discounting lets n_b fade, so the bonus returns within a hundred steps.
    """
    pool = PromptPool.from_columns([f"{name}/{i:02d}" for name in "ab" for i in range(20)], "a" * 20 + "b" * 20)
    plain, fading = build("distribution", "dump_ucb"), build("distribution", {"name": "discounted_ucb", "bonus": 1.0})
    states = [plain.init(pool), fading.init(pool)]
    regained = [None, None]
    for step in range(440):
        weights = {"a": float(step >= 40), "b": float(step < 40)}
        forced = Curriculum.from_recipe({"distribution": {"name": "fixed", "weights": weights}, "exploration": 0.0}, pool)
        outcome = answer(forced, forced.plan(step, 8, 32), reward=lambda prompt, r: float(prompt < "b" and r == 0))
        feedback = feedback_of(forced, outcome)
        states = [policy.update(state, pool, feedback) for policy, state in zip((plain, fading), states, strict=True)]
        for i, (policy, state) in enumerate(zip((plain, fading), states, strict=True)):
            if step >= 60 and regained[i] is None and policy.probabilities(state, pool)[1] > 0.5:
                regained[i] = step
    n_a, n_b = states[0].n_drawn_K
    assert (n_a, n_b) == (3200, 320)
    assert np.log(n_a + n_b + 1) < 0.5 * (n_b + 1)
    assert regained[0] is None
    assert 60 < regained[1] < 140

"""Selectors around a selector: what they close, what they open again, and the propensities that come of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curricula import CurriculaError, Curriculum, PromptPool, build
from curricula.combinators import narrowed
from curricula.selector.band import Band
from curricula.selector.greso import Greso, _opened
from curricula.selector.skip_solved import SkipSolved
from curricula.stages import Quota
from curricula.testing import answer, feedback_of
from curricula.types import Estimate

COMBINATORS = ("band", "epoch", "greso", "skip_solved")


def pool_of(names, priors=None):
    return PromptPool.from_columns([f"{name}/{i:03d}" for i, name in enumerate(names)], names, prior_pass_rate=priors)


def curriculum_of(selector, pool, seed=0, **recipe):
    return Curriculum.from_recipe({"selector": selector, "exploration": 0.0, **recipe}, pool, seed)


def step(curriculum, number, n_groups, reward=None, n_rollouts=None):
    plan = curriculum.plan(number, n_groups, n_rollouts or 2 * n_groups)
    curriculum.update(feedback_of(curriculum, answer(curriculum, plan, reward)))
    return plan.selection


def quota_of(pool, drawn, expected=None, blocked=()):
    blocked_N = np.isin(np.arange(len(pool)), blocked)
    return Quota(np.array(drawn), np.array(drawn if expected is None else expected, np.float64), blocked_N)


def scores(table):
    """Rewards by prompt number, the same for every rollout."""
    return lambda prompt, r: float(table[int(prompt.rpartition("/")[2])])


def sure_of(rates):
    return lambda prompt_B: Estimate(np.asarray(rates)[prompt_B] * 10, (1 - np.asarray(rates)[prompt_B]) * 10)


# --- enough prompts stay open -----------------------------------------------------------------------------------------------------


def test_what_is_unwanted_is_blocked_while_enough_is_left():
    pool = pool_of("xxxxyy")
    left = narrowed(pool, quota_of(pool, [2, 1], blocked=[0]), np.array([0, 0, 0.3, 0, 0.2, 0]))
    assert np.flatnonzero(left.blocked_N).tolist() == [0, 2, 4]


def test_the_least_unwanted_are_opened_again_equals_together():
    pool = pool_of("xxxxyy")
    regret_N = np.array([0.1, 0.3, 0.3, 0.9, 0.2, 0.1])
    left = narrowed(pool, quota_of(pool, [1, 1], expected=[1.5, 0.5]), regret_N)
    assert np.flatnonzero(~left.blocked_N).tolist() == [0, 1, 2, 5]  # two wanted of x, though one was drawn
    left = narrowed(pool, quota_of(pool, [1, 0], expected=[1.0, 0.5], blocked=[0]), regret_N)
    assert np.flatnonzero(~left.blocked_N[:4]).tolist() == [1, 2]


@given(
    st.sampled_from(COMBINATORS),
    st.sampled_from([*COMBINATORS, "uniform", "nearest", "threshold", "adcl", "sequential"]),
    st.lists(st.integers(1, 7), min_size=1, max_size=3),
    st.integers(1, 9),
    st.floats(0, 1),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_the_quota_is_always_met(outer, inner, sizes, n_groups, luck, seed):
    """Whatever is solved, hopeless or skipped; combinators around combinators too."""
    names = [chr(97 + k) for k, n in enumerate(sizes) for _ in range(n)]
    curriculum = curriculum_of({"name": outer, "inner": inner}, pool_of(names), seed, belief={"name": "beta", "forgetting": 0.0})
    rng = np.random.default_rng(seed)
    for number in range(8):
        plan = curriculum.plan(number, n_groups, 4 * n_groups)
        assert len(np.unique(plan.selection.prompt_B)) == len(plan) == min(n_groups, len(names))
        assert ((plan.selection.propensity_B > 0) & (plan.selection.propensity_B <= 1 + 1e-12)).all()
        outcome = answer(curriculum, plan, lambda prompt, r: float(rng.random() < luck))
        curriculum.update(feedback_of(curriculum, outcome))


# --- skip_solved ------------------------------------------------------------------------------------------------------------------


def test_solved_prompts_do_not_come_again_until_they_are_looked_at():
    selector = {"name": "skip_solved", "least": 4, "revisit": 6}
    curriculum = curriculum_of(selector, pool_of("xxxx"))
    right = scores([1, 0, 0, 0])
    came = [0 in step(curriculum, number, 2, right, n_rollouts=8).prompt_B for number in range(14)]
    first, second = np.flatnonzero(came)[:2]
    assert first <= 1  # an epoch of two steps
    assert second >= first + 6  # retired at once with 4 of 4, open again after six steps
    for never in ({**selector, "revisit": 0}, {**selector, "revisit": 0, "by": "belief", "at": 0.6}):
        curriculum = curriculum_of(never, pool_of("xxxx"))
        assert sum(0 in step(curriculum, number, 2, right, n_rollouts=8).prompt_B for number in range(14)) == 1


def test_retired_needs_rate_and_rollouts():
    out = SkipSolved(at=0.75, least=8, revisit=5).retired(
        np.array([0.75, 0.74, 1.0, 1.0, 1.0]), np.array([8, 8, 7, 8, 8]), np.array([0, 0, 0, 4, 5])
    )
    assert out.tolist() == [True, False, False, True, False]


def test_history_is_over_all_visits():
    curriculum = curriculum_of({"name": "skip_solved", "at": 0.75, "least": 4, "revisit": 0}, pool_of("xx"))
    step(curriculum, 0, 2, scores([1, 0]), n_rollouts=4)
    state = curriculum._state["selector"]
    assert (state.score_N.tolist(), state.rollouts_N.tolist()) == ([2, 0], [2, 2])
    step(curriculum, 1, 2, lambda prompt, r: float(r == 0 and prompt == "x/000"), n_rollouts=4)
    state = curriculum._state["selector"]
    assert (state.score_N.tolist(), state.rollouts_N.tolist(), state.stamp_N.tolist()) == ([3, 0], [4, 4], [1, 1])
    assert curriculum.plan(2, 1, 2).selection.prompt_B.tolist() == [1]  # 3 of 4 is solved


# --- band -------------------------------------------------------------------------------------------------------------------------


def test_band_leaves_out_both_sides_and_opens_the_nearest_again():
    pool, band = pool_of("xxxxx"), Band(low=0.2, high=0.6)
    np.testing.assert_allclose(band.outside(np.array([0.1, 0.2, 0.6, 0.7, 0.3])), [0.1, 0, 0, 0.1, 0])
    rates = [0.05, 0.1, 0.5, 0.75, 1.0]
    nearest_four = dict.fromkeys((0, 1, 2, 3), 0.75)  # at distances .15, .1, 0 and .15: the equals are opened together
    for n, expected in ((1, {2: 1.0}), (2, {1: 1.0, 2: 1.0}), (3, nearest_four)):
        seen = {}
        for seed in range(30):
            rng = np.random.default_rng(seed)
            selection = band.select(band.init(pool), pool, quota_of(pool, [n]), sure_of(rates), rng)
            seen |= dict(zip(selection.prompt_B.tolist(), selection.propensity_B.round(6).tolist(), strict=True))
        assert seen == expected


# --- epoch ------------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 9), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_no_prompt_comes_again_before_all_of_its_distribution_came(sizes, n_groups, seed):
    names = [chr(97 + k) for k, n in enumerate(sizes) for _ in range(n)]
    curriculum = curriculum_of({"name": "epoch", "inner": "nearest"}, pool_of(names), seed)
    n_seen = np.zeros(len(names), int)
    for number in range(10):
        n_seen[step(curriculum, number, n_groups).prompt_B] += 1
        for k in range(len(sizes)):
            visits = n_seen[curriculum.pool.members(k)]
            assert visits.max() - visits.min() <= 1


def test_epoch_keeps_the_inner_order_and_mixes_at_the_seam():
    """Five prompts, three at a time, those nearest to .5 first; the last two are certain and one of the best fills up."""
    priors = [0.9, 0.5, 0.55, 0.6, 0.8]
    curriculum = curriculum_of({"name": "epoch", "inner": {"name": "nearest", "floor": 0.0}}, pool_of("xxxxx", priors))
    assert sorted(step(curriculum, 0, 3).prompt_B) == [1, 2, 3]
    selection = curriculum.plan(1, 3, 6).selection
    assert selection.prompt_B[:2].tolist() == [0, 4]
    assert selection.prompt_B[2] in (1, 2, 3)
    assert selection.propensity_B.tolist() == [1.0, 1.0, 1.0]


def test_epoch_adds_the_certain_ones_to_an_uneven_quota():
    """2.5 wanted and one left: it is certain, and the inner selector spreads 1.5 over the four others."""
    pool = pool_of("xxxxx")
    epoch = build("selector", "epoch")
    state = epoch.init(pool)
    state.visits.visits_N[:] = [1, 1, 0, 1, 1]
    state = state._replace(visits=state.visits._replace(level_K=np.array([0], np.int32), left_K=np.array([1])))
    inner = state.inner
    for drawn in (2, 3):
        selection = epoch.select(
            state._replace(inner=inner), pool, quota_of(pool, [drawn], [2.5]), sure_of([0.5] * 5), np.random.default_rng(0)
        )
        assert selection.prompt_B[0] == 2
        # the inner epoch has not seen the visits, so the four are alike to it
        np.testing.assert_allclose(selection.propensity_B, [1.0] + [1.5 / 4] * (drawn - 1))


# --- greso ------------------------------------------------------------------------------------------------------------------------


def test_skip_probabilities():
    """Fixture greso."""
    z = np.arange(9)
    expected = [0.0, 0.5, 0.75, 0.875, 0.9375, 0.96875, 0.984375, 0.99, 0.99]
    np.testing.assert_allclose(Greso().skip_probability(z, p_easy=0.5, p_hard=0.9), expected, atol=1e-6)
    expected = [0.0, 0.1, 0.19, 0.271, 0.3439, 0.40951, 0.468559, 0.5217031, 0.56953279]
    np.testing.assert_allclose(Greso().skip_probability(-z, p_easy=0.5, p_hard=0.9), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("easy", "hard", "expected"), [(0.10, 0.10, (0.49, 0.51)), (0.05, 0.20, (0.51, 0.49)), (0.09, 0.16, (0.49, 0.51))]
)
def test_the_bases_move_against_their_targets(easy, hard, expected):
    """Each from .5 and .5; the three in a row, as in spec 6.4, are the next test."""
    n = 100
    greso, pool = Greso(), pool_of("x" * n)
    state = greso.init(pool)._replace(n_again=np.array(n), n_easy=np.array(round(easy * n)), n_hard=np.array(round(hard * n)))
    assert greso.bases(state) == pytest.approx(expected)


def test_the_bases_over_three_steps(groups):
    """Spec 6.4: (.49, .51), (.50, .50), (.49, .51); each step counts once, however many parcels it comes in."""
    n = 100
    greso, pool, filter_ = Greso(), pool_of("x" * n), build("filter", "keep_all")
    state = greso.init(pool)

    def learn(state, step, rewards, prompts):
        outcome = groups(rewards, pool, prompts, step)
        return greso.update(state, pool, feedback_from(outcome, filter_, pool))

    state = learn(state, 0, [[1, 1]] * n, range(n))  # the first visits of all move nothing
    assert greso.bases(state) == (0.5, 0.5)
    for step, (easy, hard), expected in ((1, (10, 10), (0.49, 0.51)), (2, (5, 20), (0.50, 0.50)), (3, (9, 16), (0.49, 0.51))):
        rewards = [[1, 1]] * easy + [[0, 0]] * hard + [[1, 0]] * (n - easy - hard)
        state = learn(state, step, rewards[: n // 2], range(n // 2))
        state = learn(state, step, rewards[n // 2 :], range(n // 2, n))
        assert greso.bases(state) == pytest.approx(expected)
    late = learn(state, 1, [[1, 1]] * n, range(n))
    assert greso.bases(late) == greso.bases(state)


def feedback_from(outcome, filter_, pool):
    from curricula import Feedback

    return Feedback(outcome, filter_.judge((), pool, outcome))


def test_the_bases_are_clipped():
    greso, pool = Greso(p_easy=0.05, p_hard=0.95), pool_of("xx")
    state = greso.init(pool)._replace(n_again=np.array(10), n_easy=np.array(10), n_hard=np.array(0))
    assert greso.bases(state) == (0.05, 0.95)


def test_a_trace_is_the_newest_run_of_one_side(groups):
    greso, pool, filter_ = Greso(), pool_of("xxxxxx"), build("filter", "keep_all")
    state = greso.init(pool)
    equal, right, wrong, formatted, single, failed = [0.5, 0.5], [1, 1], [0, 0], [0.1, 0.1], [1], [None, None]
    histories = [
        [right, right, right],
        [wrong, formatted, right],
        [right, [1, 0], wrong],
        [wrong, wrong, equal],
        [right, single, right],  # one score tells nothing, and breaks nothing
        [wrong, failed, formatted],
    ]
    for step in range(3):
        outcome = groups([history[step] for history in histories], pool, range(6), step)
        state = greso.update(state, pool, feedback_from(outcome, filter_, pool))
    assert state.trace_N.tolist() == [3, 1, -1, 0, 2, -2]
    outcome = groups([right, right, wrong], pool, [0, 2, 2], 3)  # prompt 2 twice: first all right, then all wrong
    assert greso.update(state, pool, feedback_from(outcome, filter_, pool)).trace_N.tolist() == [4, 1, -1, 0, 2, -2]


def test_too_few_kept_prompts_open_those_nearest_to_it():
    pool = pool_of("xxxx")
    blocked_N, limit_K = _opened(pool, quota_of(pool, [2]), np.array([3.0, 0.5, 1.5, 2.0]))
    assert (np.flatnonzero(~blocked_N).tolist(), limit_K.tolist()) == ([1, 2], [2.0])
    blocked_N, limit_K = _opened(pool, quota_of(pool, [1]), np.array([3.0, 0.5, 0.7, 2.0]))
    assert (np.flatnonzero(~blocked_N).tolist(), limit_K.tolist()) == ([1, 2], [1.0])
    blocked_N, limit_K = _opened(pool, quota_of(pool, [2]), np.array([3.0, 0.5, 0.7, 2.0]))
    assert (np.flatnonzero(~blocked_N).tolist(), limit_K.tolist()) == ([1, 2], [2.0])
    assert _opened(pool, quota_of(pool, [4]), np.array([3.0, 5, 7, 2]))[1].tolist() == [np.inf]


@pytest.mark.parametrize(("n", "expected"), [(1, 1.0), (2, 1.5), (3, 2.5)])
def test_visits_weighted_by_one_over_the_propensity_average_one(n, expected):
    """With an inner selector that can take any open prompt, for any number of kept prompts, with and without reopening."""
    pool = pool_of("xxxxx")
    greso = Greso(inner=build("selector", {"name": "threshold", "floor": 0.3}), p_easy=0.6, p_hard=0.4)
    state = greso.init(pool)._replace(trace_N=np.array([0, 1, 3, -1, -3], np.int32))
    n_draws, weighted = 6000, np.zeros((6000, 5))
    for seed in range(n_draws):
        rng = np.random.default_rng(seed)
        drawn = int(np.floor(expected) + (rng.random() < expected % 1))
        selection = greso.select(state, pool, quota_of(pool, [drawn], [expected]), sure_of([0.9, 0.8, 0.4, 0.6, 0.1]), rng)
        assert len(selection) == drawn
        weighted[seed, selection.prompt_B] = 1 / selection.propensity_B
    mean, sigma = weighted.mean(0), weighted.std(0) / np.sqrt(n_draws)
    assert (np.abs(mean - 1) <= 4 * sigma).all(), (mean, sigma)
    assert (sigma < 0.2).all()


def test_greso_rolls_out_prompts_that_teach_more_often():
    curriculum = curriculum_of("greso", pool_of("x" * 30))
    n_seen = np.zeros(30)
    for number in range(60):
        n_seen[step(curriculum, number, 5, lambda prompt, r: float(r == 0 or int(prompt[-3:]) < 20)).prompt_B] += 1
    assert n_seen[20:].mean() > 1.5 * n_seen[:20].mean()  # always right below 20, mixed above
    assert n_seen.min() >= 1


# --- all of them ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMBINATORS)
def test_a_growing_pool_keeps_what_was_learned_inside_and_out(name):
    pool = PromptPool.from_columns(["m/01", "n/02"], "xx")
    curriculum = curriculum_of(name, pool)
    step(curriculum, 0, 1, lambda prompt, r: 1.0)
    seen = curriculum.state_dict()["ledger.seen_N"].astype(int).tolist()
    larger = PromptPool.from_columns(["m/01", "n/02", "a/00"], "xxx")
    curriculum.grow(larger)
    state = curriculum._state["selector"]
    assert state.inner.visits_N[larger.place_N].tolist() == [*seen, 0]
    if name == "epoch":
        assert state.visits.visits_N[larger.place_N].tolist() == [*seen, 0]
    if name == "greso":
        assert (state.trace_N.tolist(), state.step.tolist()) == ([*seen, 0], 0)
    if name == "skip_solved":
        assert state.rollouts_N.tolist() == [2 * n for n in [*seen, 0]]
    assert len(step(curriculum, 1, 3).prompt_B) == 3


@pytest.mark.parametrize("name", COMBINATORS)
def test_a_combinator_says_what_its_inner_selector_says_of_itself(name):
    assert build("selector", {"name": name, "inner": "sequential"}).follows_rows
    assert not build("selector", name).follows_rows
    assert build("selector", name).conditional_propensity == (name == "greso")
    assert build("selector", {"name": name, "inner": "greso"}).conditional_propensity


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "band", "low": 0.9, "high": 0.2}, "band: expected 0 <= low < high <= 1, got low=0.9, high=0.2"),
        ({"name": "skip_solved", "at": 0}, "skip_solved.at: expected a pass rate above 0 and at most 1, got 0"),
        ({"name": "skip_solved", "least": 0}, "skip_solved: expected least >= 1 and revisit >= 0, got least=0"),
        ({"name": "greso", "floor": 0}, "greso.floor: expected above 0 and at most 1, or a prompt is lost for ever; got 0"),
        ({"name": "greso", "p_easy": 0.99}, "least_p <= p_easy, p_hard <= most_p <= 1, got least_p=0.05, p_easy=0.99"),
        ({"name": "greso", "hard": 0.99}, "greso: expected 0 <= hard < easy <= 1, got hard=0.99, easy=0.98"),
        ({"name": "greso", "target_easy": 2}, r"greso: expected step >= 0 and targets in 0\.\.1"),
        ({"name": "epoch", "inner": "unifrom"}, "unknown selector policy 'unifrom'; did you mean 'uniform'"),
    ],
)
def test_mistakes_are_named(spec, message):
    with pytest.raises(CurriculaError, match=message):
        build("selector", spec)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    n_groups=st.integers(1, 6),
    outer=st.sampled_from(COMBINATORS),
    inner=st.sampled_from(["uniform", "sequential", "nearest", "thompson_nearest", "epoch", "band"]),
)
@settings(max_examples=60, deadline=None)
def test_chances_can_be_asked_of_any_pool(sizes, n_groups, outer, inner):
    """Distributions that give no prompt this time, but might have, are asked too."""
    pool = pool_of([f"d{k}" for k, size in enumerate(sizes) for _ in range(size)])
    curriculum = curriculum_of({"name": outer, "inner": inner}, pool)
    for number in range(3):
        chance_N = curriculum.inclusion(number, n_groups)
        assert abs(chance_N.sum() - min(n_groups, len(pool))) < 1e-6
        assert chance_N[step(curriculum, number, n_groups).prompt_B].min() > 0 or outer == "greso" or inner == "thompson_nearest"

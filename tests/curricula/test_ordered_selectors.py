"""Selectors that follow an order: slices, cycles, growing sets and thresholds, by hand and as properties."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curricula import CurriculaError, Curriculum, PromptPool, build
from curricula.ladder import certain_then, pass_rate_order
from curricula.selector.cyclical import Cyclical
from curricula.selector.space import Space
from curricula.selector.threshold import Threshold
from curricula.stages import Quota
from curricula.testing import answer, feedback_of
from curricula.types import Estimate


def pool_of(priors, names=None):
    ids = [f"p/{i:03d}" for i in range(len(priors))]
    return PromptPool.from_columns(ids, names or ["x"] * len(priors), prior_pass_rate=priors)


def curriculum_of(selector, pool, seed=0):
    return Curriculum.from_recipe({"selector": selector, "exploration": 0.0}, pool, seed)


def step(curriculum, number, n_groups, reward=None, exclude=()):
    plan = curriculum.plan(number, n_groups, 2 * n_groups, exclude=exclude)
    curriculum.update(feedback_of(curriculum, answer(curriculum, plan, reward)))
    return plan.selection


def believing(rates):
    """A belief that is sure of these pass rates."""
    return lambda prompt_B: Estimate(np.asarray(rates)[prompt_B] * 10, (1 - np.asarray(rates)[prompt_B]) * 10)


def chosen(curriculum, n, rates, seed=0):
    """Prompts and propensities when these pass rates are believed and ``n`` prompts of the only distribution are wanted."""
    quota = Quota(np.array([int(n)]), np.array([float(n)]), np.zeros(len(curriculum.pool), np.bool_))
    selection = curriculum.stages.selector.select(
        curriculum._state["selector"], curriculum.pool, quota, believing(rates), np.random.default_rng(seed)
    )
    return dict(zip(selection.prompt_B.tolist(), selection.propensity_B.tolist(), strict=True))


def test_lower_rungs_come_for_certain_and_the_last_one_decides():
    even = lambda place, n: np.full(len(place), n / len(place))  # noqa: E731
    np.testing.assert_allclose(certain_then(np.array([2, 0, 1, 1, 1], np.int32), 2.5, even), [0, 1, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(certain_then(np.array([5, 5], np.int32), 0.5, even), [0.25, 0.25])
    np.testing.assert_allclose(certain_then(np.array([1, 0], np.int32), 2.0, even), [1, 1])


def test_unknown_pass_rates_stand_in_the_middle():
    assert pass_rate_order(np.array([0.2, np.nan, 0.9, 0.5, np.nan])).tolist() == [2, 1, 3, 4, 0]


# --- adcl -------------------------------------------------------------------------------------------------------------------------


def test_adcl_takes_slices_in_order_of_the_prior_and_orders_inside_a_slice_by_the_belief():
    curriculum = curriculum_of({"name": "adcl", "slices": 2}, pool_of([0.1, 0.3, 0.7, 0.9]))
    believed = [0.9, 0.8, 0.6, 0.2]  # the other way round
    assert chosen(curriculum, 1, believed) == {2: 1.0}  # best of the easy slice {2, 3}, though 0 and 1 are believed easier
    assert chosen(curriculum, 3, believed) == {2: 1.0, 3: 1.0, 0: 1.0}
    assert set(step(curriculum, 0, 2).prompt_B) == {2, 3}
    assert chosen(curriculum, 1, believed) == {0: 1.0}
    assert set(step(curriculum, 1, 2).prompt_B) == {0, 1}
    assert chosen(curriculum, 1, believed) == {2: 1.0}  # the first slice again


def test_adcl_waits_for_every_prompt_of_a_slice_to_come_back():
    curriculum = curriculum_of({"name": "adcl", "slices": 2}, pool_of([0.1, 0.3, 0.7, 0.9]))
    curriculum.plan(0, 2, 4)  # lost
    step(curriculum, 1, 1)
    assert len(set(chosen(curriculum, 1, [0.5] * 4)) & {2, 3}) == 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 5), st.integers(1, 7), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_adcl_is_never_ahead_in_a_later_slice(sizes, slices, n_groups, seed):
    names = [chr(97 + k) for k, n in enumerate(sizes) for _ in range(n)]
    pool = pool_of(np.random.default_rng(seed).random(len(names)), names)
    curriculum = curriculum_of({"name": "adcl", "slices": slices}, pool, seed)
    slice_N = curriculum._state["selector"].slice_of_N  # canonical order is row order here
    n_seen = np.zeros(len(pool), int)
    for number in range(8):
        n_seen[step(curriculum, number, n_groups).prompt_B] += 1
        for k in range(len(sizes)):
            seen, place = n_seen[pool.members(k)], slice_N[pool.members(k)]
            assert seen.max() - seen.min() <= 1
            ahead, behind = place[seen > seen.min()], place[seen == seen.min()]
            assert not len(ahead) or ahead.max() <= behind.min()


def test_adcl_cuts_slices_of_equal_size_per_distribution():
    state = build("selector", {"name": "adcl", "slices": 3}).init(
        pool_of([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.1, 0.9], list("xxxxxxyy"))
    )
    assert state.slice_of_N.tolist() == [0, 0, 1, 1, 2, 2, 1, 0]


# --- cyclical ---------------------------------------------------------------------------------------------------------------------


def test_cyclical_share_rule():
    """Spec 1.7: sp .25, ep 1, alpha .5."""
    shares, rising = [0.25], False
    for _ in range(6):
        share, rising = Cyclical().next_share(shares[-1], rising)
        shares.append(share)
    assert shares == [0.25, 0.5, 1, 0.5, 0.25, 0.5, 1]


def test_cyclical_clips_at_both_ends():
    shares, rising = [0.3], False
    for _ in range(4):
        share, rising = Cyclical(least=0.3, most=0.8, factor=0.5).next_share(shares[-1], rising)
        shares.append(share)
    assert shares == pytest.approx([0.3, 0.6, 0.8, 0.4, 0.3])
    assert Cyclical(least=1.0).next_share(1.0, False) == (1.0, False)


def test_an_epoch_takes_its_share_of_the_distribution_without_a_repeat():
    curriculum = curriculum_of("cyclical", pool_of([0.5] * 8))
    came, sizes = [], [2, 4, 8, 4, 2]
    for number in range(sum(sizes)):
        came.extend(step(curriculum, number, 1).prompt_B.tolist())
    edge = np.cumsum([0, *sizes])
    for a, b in pairwise(edge):
        assert len(set(came[a:b])) == b - a
    assert curriculum._state["selector"].share_K.tolist() == [0.5]


def test_cyclical_draws_in_proportion_to_the_score():
    curriculum = curriculum_of("cyclical", pool_of([0.5] * 4))
    rates = [0.1, 0.2, 0.3, 0.4]
    seen = {}
    for seed in range(60):
        seen |= chosen(curriculum, 2, rates, seed)
    assert seen == pytest.approx({i: 2 * rate for i, rate in enumerate(rates)})
    curriculum = curriculum_of({"name": "cyclical", "score": "learnability"}, pool_of([0.5] * 4))
    weight = np.array([p * (1 - p) for p in (0.1, 0.5, 0.5, 0.9)])
    seen = {}
    for seed in range(60):
        seen |= chosen(curriculum, 1, [0.1, 0.5, 0.5, 0.9], seed)
    assert seen == pytest.approx(dict(enumerate(weight / weight.sum())))


def test_groups_beyond_the_end_of_an_epoch_count_for_the_next():
    curriculum = curriculum_of("cyclical", pool_of([0.5] * 8))
    step(curriculum, 0, 3)  # the first epoch takes 2
    state = curriculum._state["selector"]
    assert (state.epoch_K.tolist(), state.left_K.tolist(), state.share_K.tolist()) == ([1], [3], [0.5])


# --- space ------------------------------------------------------------------------------------------------------------------------


def test_space_grows_when_the_mean_stands_still():
    """Spec 1.11: .50 -> .53 at eta .1: .03 <= .05."""
    assert Space().grows(0.50, 0.53)
    assert not Space().grows(0.50, 0.56)
    assert not Space().grows(np.nan, 0.5)
    assert Space().grows(0.0, 0.0)


def scores(table):
    """Rewards by prompt number, the same for every rollout."""
    return lambda prompt, r: float(table[int(prompt.rpartition("/")[2])])


def test_space_passes_growth_and_order_by_hand():
    selector = {"name": "space", "first": 0.5, "more": 0.25, "floor": 0.0}
    curriculum = curriculum_of(selector, pool_of([0.5, 0.6, 0.7, 0.9]))
    inside = lambda: np.flatnonzero(curriculum._state["selector"].inside_N).tolist()  # noqa: E731
    assert inside() == [2, 3]  # the easiest half
    assert set(step(curriculum, 0, 2, scores([0, 0, 1, 0])).prompt_B) == {2, 3}
    # first pass: V = .5, nothing to compare with; improvements 0, 0, +.3, -.9
    state = curriculum._state["selector"]
    assert (inside(), state.size_K.tolist(), state.mean_K.tolist()) == ([0, 2], [2], [0.5])
    assert set(step(curriculum, 1, 2, scores([1, 0, 0, 0])).prompt_B) == {0, 2}
    # second pass: V = .5 again, so one more prompt; improvements +.5, 0, -1, -.9
    assert (inside(), curriculum._state["selector"].size_K.tolist()) == ([0, 1, 3], [3])
    step(curriculum, 2, 1, scores([1, 1, 1, 1]))
    assert curriculum._state["selector"].left_K.tolist() == [2]
    step(curriculum, 3, 2, scores([1, 1, 1, 1]))
    # third pass: V = 1, so no growth
    assert curriculum._state["selector"].size_K.tolist() == [3]


def test_space_orders():
    pool = pool_of([0.1, 0.5, 0.8])
    for order, expected in (("improvement", 1), ("relative", 0), ("absolute", 2)):
        selector = {"name": "space", "first": 0.3, "order": order, "floor": 0.0}
        curriculum = curriculum_of(selector, pool)
        state = curriculum._state["selector"]
        curriculum._state["selector"] = state._replace(value_N=np.array([0.3, 0.75, 0.9], np.float32), left_K=np.array([1]))
        curriculum._state["selector"].inside_N[:] = [False, False, True]
        step(curriculum, 0, 1, scores([0, 0, 0.9]))
        np.testing.assert_array_equal(np.flatnonzero(curriculum._state["selector"].inside_N), [expected])


def test_space_fills_a_plan_from_outside_its_set_and_spreads_its_floor():
    curriculum = curriculum_of({"name": "space", "first": 0.25, "floor": 0.0}, pool_of([0.9, 0.5, 0.5, 0.5]))
    seen = {}
    for seed in range(40):
        seen |= chosen(curriculum, 2, [0.5] * 4, seed)
    assert seen == pytest.approx({0: 1.0, 1: 1 / 3, 2: 1 / 3, 3: 1 / 3})
    curriculum = curriculum_of({"name": "space", "first": 0.25, "floor": 0.2}, pool_of([0.9, 0.5, 0.5, 0.5]))
    assert chosen(curriculum, 1, [0.5] * 4) in ({0: pytest.approx(0.85)}, *({i: pytest.approx(0.05)} for i in (1, 2, 3)))


# --- threshold --------------------------------------------------------------------------------------------------------------------


def test_threshold_opens_what_is_within_reach():
    rates = np.array([0.9, 0.5, 0.49, 0.1])
    np.testing.assert_allclose(Threshold().weigh(rates, 1.0), [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(Threshold(at=0.3).weigh(rates, 1.5), [0.5, 0.5, 0.5, 0])
    np.testing.assert_allclose(Threshold(weight="learnability").weigh(rates, 1.0), [0.09 / 0.34, 0.25 / 0.34, 0, 0])


def test_threshold_falls_until_there_are_enough_and_equals_open_together():
    rates = np.array([0.4, 0.3, 0.3, 0.1])
    np.testing.assert_allclose(Threshold().weigh(rates, 2.0), [2 / 3, 2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(Threshold(least=1.0).weigh(rates, 1.0), [0.25] * 4)
    np.testing.assert_allclose(Threshold(least=0.25).weigh(rates, 0.5), [0.5, 0, 0, 0])
    np.testing.assert_allclose(Threshold(weight="learnability").weigh(np.array([1.0, 1.0, 0.2]), 2.0), [1, 1, 0])


def test_threshold_is_the_paper_s_rule_in_difficulties():
    """difficulty <= ability in the Rasch model is a pass rate of one half."""
    ability, difficulty = -0.2675, np.array([-3.0, -1.0, 0.0, 1.0])
    open_n = Threshold(least=0.0).weigh(1 / (1 + np.exp(difficulty - ability)), 1.0) > 0
    assert open_n.tolist() == (difficulty <= ability).tolist()


# --- all of them ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "adcl", "slices": 0}, r"adcl\.slices: expected 1\.\.10000, got 0"),
        ({"name": "cyclical", "least": 0.5, "most": 0.4}, "cyclical: expected 0 < least <= most <= 1, got least=0.5, most=0.4"),
        ({"name": "cyclical", "factor": 1}, "cyclical.factor: expected a number between 0 and 1, got 1"),
        ({"name": "space", "eta": -1}, "space.eta: expected a finite number >= 0, got -1"),
        ({"name": "space", "more": 2}, r"space\.more: expected 0\.\.1, got 2"),
        ({"name": "threshold", "at": 1.5}, r"threshold\.at: expected 0\.\.1, got 1.5"),
        ({"name": "threshold", "weight": "p"}, "weight: expected one of 'even', 'learnability', got 'p'"),
    ],
)
def test_mistakes_are_named(spec, message):
    with pytest.raises(CurriculaError, match=message):
        build("selector", spec)


@pytest.mark.parametrize("name", ["adcl", "cyclical", "space", "threshold"])
def test_a_growing_pool_keeps_what_was_learned(name):
    small, ids = pool_of([0.2, 0.4, 0.3, 0.1]), [f"p/{i:03d}" for i in range(4)]
    curriculum = curriculum_of(name, small)
    seen = step(curriculum, 0, 2).prompt_B
    larger = PromptPool.from_columns(["a/08", *ids, "z/09"], ["x"] * 6, prior_pass_rate=[0.9, 0.2, 0.4, 0.3, 0.1, 0.9])
    curriculum.grow(larger)
    if name == "adcl":
        visits_N = curriculum._state["selector"].visits.visits_N[larger.place_N]
        assert visits_N.tolist() == [0, *[int(i in seen) for i in range(4)], 0]
    if name == "cyclical":
        assert (curriculum._state["selector"].epoch_N[1:5][seen] == 0).all()
    if name == "space":
        state = curriculum._state["selector"]
        assert np.count_nonzero(state.inside_N) == state.size_K[0]  # what was added waits outside
    for number in range(1, 9):
        assert len(step(curriculum, number, 6).prompt_B) == 6


def test_selectors_do_not_write_to_the_quota():
    pool = pool_of([0.2, 0.4, 0.6, 0.8])
    for name in ("adcl", "cyclical", "space", "threshold", "band", "epoch", "skip_solved", "greso"):
        curriculum = curriculum_of(name, pool)
        quota = Quota(np.array([2]), np.array([2.0]), np.array([True, False, False, False]))
        before = replace(quota, blocked_N=quota.blocked_N.copy(), drawn_K=quota.drawn_K.copy(), expected_K=quota.expected_K.copy())
        state = curriculum._state["selector"]
        curriculum.stages.selector.select(state, pool, quota, believing([0.0, 0.95, 0.99, 1.0]), np.random.default_rng(0))
        for field in ("drawn_K", "expected_K", "blocked_N"):
            assert np.array_equal(getattr(quota, field), getattr(before, field))

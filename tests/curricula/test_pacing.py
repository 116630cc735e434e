"""Pacings: values worked out by hand, the fixtures of the papers, and numbers of policies that follow them."""

import io

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, Feedback, PromptPool, build, register
from curricula.filter.difficulty_band import DifficultyBand
from curricula.paced import Clock, Paced
from curricula.pacing.feedback import FeedbackDriven
from curricula.pacing.signed import Signed
from curricula.testing import answer, feedback_of, run, small_pool

PACED_BAND = {"name": "difficulty_band", "low": {"pacing": "linear", "first": 0.4, "last": 0.2, "steps": 10}}


def at(pacing, *steps):
    return [pacing.value(Clock(np.array(n))) for n in steps]


@pytest.fixture
def learn(groups):
    def learn(pacing, state, rewards, step):
        outcome = groups(rewards, step=step)
        return pacing.update(state, small_pool(), Feedback(outcome, build("filter", "keep_all").judge((), small_pool(), outcome)))

    return learn


# --- by the clock -----------------------------------------------------------------------------------------------------------------


def test_linear_cosine_polynomial_and_constant():
    assert at(build("pacing", {"name": "constant", "at": 0.3}), 0, 7) == [0.3, 0.3]
    assert at(build("pacing", {"name": "linear", "first": 2, "last": 1, "steps": 4}), 0, 1, 4, 9) == [2, 1.75, 1, 1]
    cosine = build("pacing", {"name": "cosine", "first": 3, "last": 1, "steps": 6})
    assert at(cosine, 0, 2, 3, 6, 60) == pytest.approx([3, 2.5, 2, 1, 1])
    polynomial = build("pacing", {"name": "polynomial", "first": 0, "last": 8, "steps": 4, "power": 2})
    assert at(polynomial, 0, 1, 2, 4, 5) == pytest.approx([0, 0.5, 2, 8, 8])


def test_exponential_steps_are_the_paper_s_token_budget():
    """Fixture train_long."""
    pacing = build("pacing", {"name": "exponential_steps", "first": 256, "factor": 0.7, "every": 150, "least": 1})
    assert at(pacing, 0, 149, 150, 300, 450) == pytest.approx([256, 256, 179.2, 125.44, 87.808], abs=1e-6)
    assert at(pacing, 150 * 40) == [1]


def test_piecewise_changes_at_its_steps():
    """POLARIS' three lengths."""
    pacing = build("pacing", {"name": "piecewise", "steps": [3, 5], "values": [39936, 48128, 52224]})
    assert at(pacing, 0, 2, 3, 4, 5, 99) == [39936, 39936, 48128, 48128, 52224, 52224]


def test_a_clock_counts_the_newest_step_learned_from(learn):
    pacing = build("pacing", "linear")
    state = pacing.init(small_pool())
    for step, expected in ((0, 1), (5, 6), (3, 6)):
        state = learn(pacing, state, [[1, 0]], step)
        assert state.n_steps == expected


# --- by results -------------------------------------------------------------------------------------------------------------------


def test_feedback_is_adarft_s_target(learn):
    """Fixture adarft: T after steps of mean score .8, .6, .3, .1, .9."""
    pacing = FeedbackDriven(first=0, rate=50, sensitivity=2, target=0.5, low=0, high=100)
    state, values = pacing.init(small_pool()), []
    for step, n_right in enumerate((8, 6, 3, 1, 9)):
        state = learn(pacing, state, [[1.0] * n_right + [0.0] * (10 - n_right)], step)
        values.append(pacing.value(state))
    assert values == pytest.approx([26.85247835, 36.721244361, 17.723796248, 0.0, 33.201838513], abs=1e-6)


def test_feedback_is_gain_rl_s_move():
    """Fixture gainrl: delta of the mean rank from accuracy and angle, clipped at 0."""
    for accuracy, angle, delta in ((0.8, 0.1, 367.212443611), (0.4, 0.1, 0.0), (0.2, 0.05, 0.0), (0.95, 0.3, 626.673718599)):
        pacing = FeedbackDriven(first=0, rate=500, sensitivity=2, target=0.5, low=0, high=10000, angle=angle, only_up=True)
        assert pacing.moved(np.array([0.0]), accuracy)[0] == pytest.approx(delta, abs=1e-6)
    falls = FeedbackDriven(first=500, rate=500, low=0, high=10000, angle=0.05).moved(np.array([500.0]), 0.2)[0] - 500
    assert falls == pytest.approx(-218.690786, abs=1e-6)


def test_results_in_parcels_count_as_one_step(learn):
    pacing = FeedbackDriven()
    whole = learn(pacing, pacing.init(small_pool()), [[1, 1, 0, 1]], 4)
    parts = learn(pacing, learn(pacing, pacing.init(small_pool()), [[1, 1]], 4), [[0, 1]], 4)
    assert pacing.value(parts) == pacing.value(whole) == pytest.approx(0.5 + 0.5 * np.tanh(0.5))


def test_late_and_unscored_results_move_nothing(learn):
    pacing = FeedbackDriven()
    state = learn(pacing, pacing.init(small_pool()), [[1, 1]], 4)
    value = pacing.value(state)
    assert pacing.value(learn(pacing, state, [[0, 0]], 3)) == value
    assert pacing.value(learn(pacing, state, [[None, None]], 5)) == value
    assert pacing.value(learn(pacing, state, [[1, None]], 5)) > value


def test_signed_is_greso_s_base():
    """Spec 6.4: shares (easy, hard) move (.5, .5) by .01 each, against their targets."""
    easy = Signed(first=0.5, step=0.01, target=0.25 / 3, of="easy")
    hard = Signed(first=0.5, step=0.01, target=0.25 * 2 / 3, of="hard")
    for shares, expected in (((0.10, 0.10), (0.49, 0.51)), ((0.05, 0.20), (0.51, 0.49)), ((0.09, 0.16), (0.49, 0.51))):
        moved = [p.moved(np.array([0.5]), share)[0] for p, share in zip((easy, hard), shares, strict=True)]
        assert moved == pytest.approx(expected)


@pytest.mark.parametrize(("of", "share"), [("easy", 1 / 4), ("hard", 1 / 4), ("equal", 3 / 4)])
def test_signed_counts_groups_of_equal_scores(of, share, groups):
    rewards = [[1, 1], [0, 0], [0.5, 0.5], [1, 0], [1, None]]  # a single score tells nothing
    assert Signed(of=of).measure(groups(rewards)) == (4 * share, 4)


def test_signed_is_clipped_and_can_be_turned_round():
    assert Signed(first=0.05).moved(np.array([0.05]), 1.0)[0] == 0.05
    assert Signed(step=-0.1).moved(np.array([0.5]), 1.0)[0] == pytest.approx(0.6)


def test_plateau_moves_on_after_patience_steps_near_one_score(learn):
    pacing = build("pacing", {"name": "plateau", "first": 0, "step": 1, "eta": 0.1, "patience": 2, "high": 2})
    state, values = pacing.init(small_pool()), []
    for step, n_right in enumerate((5, 5, 8, 8, 9, 9, 9, 9, 9, 9)):
        state = learn(pacing, state, [[1.0] * n_right + [0.0] * (10 - n_right)], step)
        values.append(pacing.value(state))
    #               .5 new, one near, .8 new, near, near: up (.9 is new), near, near: up, then at the top
    assert values == [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]


# --- numbers that follow ----------------------------------------------------------------------------------------------------------


def verdicts(curriculum, n_steps, first=0):
    """Is a group with 3 of 10 right kept, step by step?"""
    kept = []
    for step in range(first, first + n_steps):
        plan = curriculum.plan(step, 2, 20)
        kept.append(bool(curriculum.judge(answer(curriculum, plan, lambda prompt, r: float(r < 3))).kept_B.all()))
        curriculum.update(feedback_of(curriculum, answer(curriculum, plan)))
    return kept


def test_a_recipe_with_a_pacing_changes_its_verdicts_over_the_steps():
    """low = .4 - .02 n: a pass rate of .3 is inside from n = 5 on."""
    curriculum = Curriculum.from_recipe({"filter": PACED_BAND}, small_pool())
    assert verdicts(curriculum, 8) == [False] * 5 + [True] * 3
    fixed = Curriculum.from_recipe({"filter": {"name": "difficulty_band", "low": 0.4}}, small_pool())
    assert verdicts(fixed, 8) == [False] * 8


def test_a_paced_run_resumes_where_it_was():
    recipe = {
        "filter": PACED_BAND,
        "selector": {"name": "band", "high": {"pacing": "feedback", "first": 0.9, "low": 0.2, "rate": 0.1}},
    }
    straight, first, resumed = (Curriculum.from_recipe(recipe, small_pool()) for _ in range(3))
    expected = verdicts(straight, 8)
    assert verdicts(first, 4) == expected[:4]
    file = io.BytesIO()
    np.savez(file, **first.state_dict())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        assert {"filter.pacings.0.n_steps", "selector.pacings.0.settled"} <= set(arrays)
        resumed.load_state_dict(dict(arrays))
    assert verdicts(resumed, 4, first=4) == expected[4:]
    for key, array in straight.state_dict().items():
        np.testing.assert_array_equal(resumed.state_dict()[key], array, err_msg=key)


def test_another_pacing_is_another_run():
    saved = Curriculum.from_recipe({"filter": PACED_BAND}, small_pool()).state_dict()
    other = {"name": "difficulty_band", "low": {**PACED_BAND["low"], "last": 0.1}}
    with pytest.raises(CurriculaError, match="filter was"):
        Curriculum.from_recipe({"filter": other}, small_pool()).load_state_dict(saved)


def test_a_whole_number_is_rounded(learn):
    paced = build("budget", {"name": "knapsack", "max_n": {"pacing": "linear", "first": 8, "last": 4, "steps": 3}})
    state = paced.init(small_pool())
    seen = []
    for step in range(4):
        seen.append(paced.now(state).max_n)
        state = learn(paced, state, [[1, 0]], step)
    assert seen == [8, 7, 5, 4]  # 8, 6.67, 5.33, 4
    assert all(type(n) is int for n in seen)


def test_several_numbers_and_inner_policies_may_follow_pacings():
    inner = {"name": "nearest", "target": {"pacing": "linear", "first": 0.9, "last": 0.1, "steps": 1}, "floor": 0.001}
    pool = PromptPool.from_columns("ab", "xx", prior_pass_rate=[0.1, 0.9])
    curriculum = Curriculum.from_recipe({"selector": {"name": "band", "low": 0.0, "high": 1.0, "inner": inner}}, pool)
    assert curriculum.plan(0, 1, 2).selection.prompt_B.tolist() == [1]
    curriculum.update(feedback_of(curriculum, answer(curriculum, curriculum.plan(0, 1, 2), lambda prompt, r: float(r))))
    assert curriculum.plan(1, 1, 2).selection.prompt_B.tolist() == [0]
    both = build("filter", {**PACED_BAND, "high": {"pacing": "constant", "at": 0.6}})
    assert both.now(both.init(pool)) == DifficultyBand(low=0.4, high=0.6)


@pytest.mark.parametrize("name", ["greso", "adcl"])
def test_a_paced_policy_says_what_its_policy_says_of_itself(name):
    key = {"greso": "floor", "adcl": "slices"}[name]
    paced = build("selector", {"name": name, key: {"pacing": "constant", "at": 1}})
    assert isinstance(paced, Paced)
    assert paced.conditional_propensity == (name == "greso")
    assert not paced.follows_rows
    assert build("selector", {"name": "band", "inner": "sequential", "low": {"pacing": "constant", "at": 0}}).follows_rows


def test_a_growing_pool_keeps_the_pacing_and_the_policy_s_own_order():
    """The epoch's visits are in canonical order: an id that sorts first must not take those of another prompt."""
    pool = PromptPool.from_columns(["m/01", "n/02"], "xx")
    recipe = {"selector": {"name": "band", "low": {"pacing": "linear", "first": 0, "last": 0.1}, "inner": "uniform"}}
    curriculum = Curriculum.from_recipe(recipe, pool)
    curriculum.update(feedback_of(curriculum, answer(curriculum, curriculum.plan(0, 1, 2))))
    seen = curriculum.state_dict()["ledger.seen_N"]
    larger = PromptPool.from_columns(["m/01", "n/02", "a/00"], "xxx")
    curriculum.grow(larger)
    state = curriculum._state["selector"]
    assert state.pacings[0].n_steps == 1
    assert state.policy.inner.visits_N[larger.place_N].tolist()[:2] == seen.astype(int).tolist()


@pytest.mark.parametrize(
    ("stage", "spec", "message"),
    [
        (
            "filter",
            {"name": "difficulty_band", "low": {"pacing": "liner"}},
            "'difficulty_band', low: unknown pacing policy 'liner'; did you mean 'linear'",
        ),
        (
            "filter",
            {"name": "difficulty_band", "low": {"pacing": 3}},
            r"low: expected \{'pacing': name, ...\}, got .*known: constant",
        ),
        ("filter", {"name": "difficulty_band", "low": {"pacing": "linear", "name": "x"}}, r"low: expected \{'pacing': name, ...\}"),
        (
            "filter",
            {"name": "difficulty_band", "low": {"pacing": "linear", "from": 1}},
            "low: unknown key of pacing policy 'linear': 'from'",
        ),
        ("filter", {"name": "difficulty_band", "low": {"first": 1}}, "low: expected float, got {'first': 1}"),
        ("filter", {"name": "difficulty_band", "refill": {"pacing": "linear"}}, "refill: only a number can follow a pacing"),
        ("filter", {"name": "difficulty_band", "closed": {"pacing": "linear"}}, "closed: only a number can follow a pacing"),
        ("filter", {"name": "difficulty_band", "lo": {"pacing": "linear"}}, "'lo'; did you mean 'low'"),
        ("selector", {"name": "band", "inner": {"pacing": "linear"}}, "inner: only a number can follow a pacing"),
        (
            "selector",
            {"name": "nearest", "target": {"pacing": "linear", "first": {"pacing": "linear"}}},
            "target: pacing policy 'linear', first: the numbers of a pacing cannot follow pacings",
        ),
        ("pacing", {"name": "linear", "steps": 0}, "linear.steps: expected >= 1, got 0"),
        ("pacing", {"name": "cosine", "steps": 0}, "cosine.steps: expected >= 1, got 0"),
        ("pacing", {"name": "polynomial", "power": 0}, "polynomial.power: expected a finite number above 0, got 0"),
        ("pacing", {"name": "exponential_steps", "every": 0}, "exponential_steps.every: expected >= 1, got 0"),
        (
            "pacing",
            {"name": "exponential_steps", "factor": 1.2},
            "exponential_steps.factor: expected above 0 and at most 1, got 1.2",
        ),
        ("pacing", {"name": "piecewise", "steps": [5]}, None),
        ("pacing", {"name": "piecewise", "steps": [5, 6]}, "one value more than steps, got 2 steps and 2 values"),
        ("pacing", {"name": "piecewise", "steps": [5, 5], "values": [1, 2, 3]}, r"expected rising numbers above 0, got \(5, 5\)"),
        ("pacing", {"name": "piecewise", "steps": [5], "values": [1, "2"]}, r"values\[1\]: expected float, got '2'"),
        ("pacing", {"name": "feedback", "first": 2}, "feedback: expected low <= first <= high, got low=0.0, first=2.0, high=1.0"),
        ("pacing", {"name": "signed", "first": 2}, "signed: expected low <= first <= high"),
        ("pacing", {"name": "plateau", "patience": 0}, "plateau: expected patience >= 1 and eta >= 0, got patience=0"),
    ],
)
def test_mistakes_are_named(stage, spec, message):
    if message is None:
        build(stage, spec)
        return
    with pytest.raises(CurriculaError, match=message):
        build(stage, spec)


def test_a_value_that_the_policy_refuses_is_said_before_the_first_step():
    band = {"name": "difficulty_band", "low": {"pacing": "constant", "at": 0.8}}
    with pytest.raises(CurriculaError, match=r"0 <= low < high <= 1, got low=0.8, high=0.75; a pacing led there \(now low=0.8\)"):
        Curriculum.from_recipe({"filter": band}, small_pool())


def test_a_pacing_that_leaves_the_bounds_later_says_so_then():
    band = {"name": "difficulty_band", "low": {"pacing": "linear", "first": 0.4, "last": 0.8, "steps": 2}}
    curriculum = Curriculum.from_recipe({"filter": band}, small_pool())
    with pytest.raises(CurriculaError, match="a pacing led there"):
        run(curriculum, range(5))


def test_a_number_without_a_default_cannot_follow_a_pacing():
    import dataclasses

    from curricula.filter.keep_all import KeepAll

    @register("filter", "needs_a_number_in_a_test")
    @dataclasses.dataclass(frozen=True)
    class NeedsANumber(KeepAll):
        number: float

    try:
        with pytest.raises(CurriculaError, match="number: a number without a default cannot follow a pacing"):
            build("filter", {"name": "needs_a_number_in_a_test", "number": {"pacing": "linear"}})
    finally:
        from curricula.registry import _registered

        del _registered["filter"]["needs_a_number_in_a_test"]

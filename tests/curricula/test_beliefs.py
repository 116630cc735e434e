"""The beliefs beside `beta`: vectors of the specification, and what each promises in words."""

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, Feedback, PromptPool
from curricula.belief.attention import Attention, attend
from curricula.belief.beta import BetaCounts
from curricula.belief.bots import Bots
from curricula.belief.gaussian_process import GaussianProcess
from curricula.belief.in_context import InContext
from curricula.belief.irt import ItemResponse, ability
from curricula.belief.pooled import Pooled
from curricula.belief.rasch import Rasch, competence
from curricula.belief.regression import Regression
from curricula.belief.static import Static
from curricula.belief.trace import Trace
from curricula.belief.visit_beta import VisitBeta
from curricula.features import each, median_distance, squared_distances, width
from curricula.filter.keep_all import KeepAll
from curricula.growth import carried_state
from curricula.registry import build, names
from curricula.testing import answer, feedback_of


def pool_of(names_of="x" * 4, prior=None, features=None):
    return PromptPool.from_columns([f"p{i}" for i in range(len(names_of))], names_of, prior, features)


def learn(belief, pool, *outcomes, state=None):
    state = belief.init(pool) if state is None else state
    for outcome in outcomes:
        state = belief.update(state, pool, Feedback(outcome, KeepAll().judge(None, None, outcome)))
    return state


def counts(belief, state, pool, prompt):
    estimate = belief.estimate(state, pool, np.array([prompt]))
    return float(estimate.alpha_B[0]), float(estimate.beta_B[0])


def means(belief, state, pool):
    return belief.estimate(state, pool, np.arange(len(pool))).mean_B


# --- visit_beta -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "expected"), [(1.0, [(3, 7), (7, 11), (14, 12)]), (0.5, [(3, 7), (6, 8), (10.5, 5.5)])])
def test_the_posteriors_of_mopps(groups, keep, expected):
    belief, pool = VisitBeta(keep=keep), pool_of()
    state = belief.init(pool)
    for n_right, want in zip((2, 4, 7), expected, strict=True):
        state = learn(belief, pool, groups([[1] * n_right + [0] * (8 - n_right)]), state=state)
        assert counts(belief, state, pool, 0) == pytest.approx(want, abs=1e-6)


def test_the_running_estimate_of_reinforce_ada(groups):
    """Counts that fade without the prior, and the prior added when asked: the same rule."""
    belief, pool, found = VisitBeta(keep=0.9), pool_of(), []
    state = belief.init(pool)
    for n, k in ((8, 0), (16, 1), (12, 6)):
        state = learn(belief, pool, groups([[1] * k + [0] * (n - k)]), state=state)
        found.append(means(belief, state, pool)[0])
    assert found == pytest.approx([0.1, 0.079365079, 0.226490826], abs=1e-7)


def test_visits_fade_by_visit_and_groups_of_one_step_are_one_visit(groups):
    belief, pool = VisitBeta(keep=0.5), pool_of()
    state = learn(belief, pool, groups([[1, 1]], version=0), groups([[1]], prompts=[1], version=50))
    assert counts(belief, state, pool, 0) == (3, 1)  # policy versions do not matter
    state = learn(belief, pool, groups([[1], [0, 0]], prompts=[0, 0]), state=state)
    assert counts(belief, state, pool, 0) == (1 + 0.5 * 2 + 1, 1 + 2)


# --- bots -------------------------------------------------------------------------------------------------------------------------


def test_the_posteriors_of_bots(groups):
    pool = pool_of()
    state = learn(Bots(), pool, groups([[0.25] * 16]))
    assert counts(Bots(), state, pool, 0) == pytest.approx((5, 13), abs=1e-5)
    state = learn(Bots(), pool, groups([[0.6] * 16]))
    assert counts(Bots(), state, pool, 3) == pytest.approx((2.92, 2.28), abs=1e-6)


def dense_bots(belief, pool, steps):
    """The published rule, every prompt at every step, in plain loops; steps are {prompt: (successes, n)}."""
    count = np.zeros((len(pool), 2))
    running = np.full(pool.n_distributions, np.nan)
    for step in steps:
        rates = {i: k / n for i, (k, n) in step.items()}
        for arm in range(pool.n_distributions):
            here = [rate for i, rate in rates.items() if pool.distribution_N[i] == arm]
            if here:
                old = running[arm]
                running[arm] = np.mean(here) if np.isnan(old) else belief.momentum * old + (1 - belief.momentum) * np.mean(here)
        missed = np.mean([abs(running[pool.distribution_N[i]] - rate) for i, rate in rates.items()])
        share = belief.share / (2 if missed >= belief.tolerance else 1)
        size = np.mean([n for _, n in step.values()])
        arms = {pool.distribution_N[i] for i in step}
        for i in range(len(pool)):
            arm, count[i] = pool.distribution_N[i], (1 - belief.forgetting) * count[i]
            if i in step:
                count[i] += (step[i][0], step[i][1] - step[i][0])
            elif arm in arms:
                count[i] += share * size * np.array([running[arm], 1 - running[arm]])
    return count


def test_lazy_bots_is_the_published_rule(groups):
    pool, belief, rng = pool_of("xxxyyyy"), Bots(momentum=0.7), np.random.default_rng(2)
    state, steps = belief.init(pool), []
    for step in range(12):
        prompts = rng.choice(7, 1 + step % 3, replace=False)
        rewards = [(rng.random(2 + 2 * (step % 4)) < 0.5).astype(float).tolist() for _ in prompts]
        steps.append({int(i): (sum(group), len(group)) for i, group in zip(prompts, rewards, strict=True)})
        state = learn(belief, pool, groups(rewards, pool=pool, prompts=prompts, step=step), state=state)
        estimate = belief.estimate(state, pool, np.arange(7))
        want = dense_bots(belief, pool, steps)
        np.testing.assert_allclose(np.stack([estimate.alpha_B, estimate.beta_B], 1), 1 + want, atol=1e-5)


def test_a_surprising_step_halves_the_pseudo_counts(groups):
    pool = pool_of()
    state = learn(Bots(), pool, groups([[1] * 16, [0] * 16]))  # p~ = 0.5 misses both by 0.5
    assert counts(Bots(), state, pool, 3) == pytest.approx((1.8, 1.8), abs=1e-6)


def test_anchors_place_the_model_between_two_others(groups):
    pool = pool_of(features=[[0.2, 0.6], [0.4, 0.8], [0.1, 0.9], [0.0, 0.0]])
    belief = Bots(weak_column=0, strong_column=1)
    state = learn(belief, pool, groups([[0.3] * 10, [0.5] * 10]))  # capability = (0.4 - 0.3) / (0.7 - 0.3)
    assert state.capability_K == pytest.approx([0.25], abs=1e-5)
    assert counts(belief, state, pool, 2) == pytest.approx((1 + 2 * 0.3, 1 + 2 * 0.7), abs=1e-5)
    assert counts(belief, state, pool, 3) == pytest.approx((1, 3), abs=1e-5)
    for bad in (pool_of(), pool_of(features=[[0.2]] * 4), pool_of(features=[[0.2, 3.0]] * 4)):
        with pytest.raises(CurriculaError, match=r"columns \[0, 1\]"):
            belief.init(bad)


def test_other_distributions_are_left_alone_by_bots(groups):
    pool = pool_of("xxyy")
    state = learn(Bots(), pool, groups([[1] * 8], pool=pool))
    assert counts(Bots(), state, pool, 1)[0] > 2
    assert counts(Bots(), state, pool, 2) == (1, 1)


# --- pooled, static, trace --------------------------------------------------------------------------------------------------------


def test_an_unseen_prompt_is_believed_to_be_like_its_siblings(groups):
    pool, belief = pool_of("xxyy"), Pooled(strength=4)
    state = learn(belief, pool, groups([[1, 1, 1, 0, 0, 0, 0, 0]], pool=pool))
    assert counts(belief, state, pool, 1) == pytest.approx((4 * 0.4, 4 * 0.6))  # (3 + 1) / (8 + 2)
    assert counts(belief, state, pool, 0) == pytest.approx((1.6 + 3, 2.4 + 5))
    assert counts(belief, state, pool, 2) == pytest.approx((2, 2))


def test_the_rate_of_a_distribution_starts_at_what_is_stated_for_it(groups):
    pool, belief = pool_of("xxxy", prior=[0.1, 0.3, np.nan, np.nan]), Pooled()
    assert means(belief, belief.init(pool), pool) == pytest.approx([0.2, 0.2, 0.2, 0.5])
    state = learn(belief, pool, groups([[1, 1]], pool=pool))
    assert means(belief, state, pool)[2] == pytest.approx((2 * 0.2 + 2) / 4)


def test_the_rate_of_a_distribution_fades_by_policy_version_whatever_the_order(groups):
    pool, belief = pool_of("xxx"), Pooled(forgetting=0.5, strength=1)
    outcomes = [groups([[1, 1]], version=0), groups([[0, 0]], prompts=[1], version=2)]
    one, other = learn(belief, pool, *outcomes), learn(belief, pool, *outcomes[::-1])
    assert counts(belief, one, pool, 2)[0] == pytest.approx((0.5 + 1) / (2.5 + 2))
    np.testing.assert_allclose(means(belief, one, pool), means(belief, other, pool))


def test_the_stated_rate_holds_or_gives_way(groups):
    pool = pool_of("xxx", prior=[0.2, np.nan, 0.0])
    fixed, giving = Static(), Static(takeover=16, strength=8)
    outcome = groups([[1] * 4, [1] * 4])
    assert means(fixed, learn(fixed, pool, outcome), pool) == pytest.approx([0.2, 0.5, 0.01])
    state = learn(giving, pool, outcome)
    assert means(giving, state, pool) == pytest.approx([0.75 * 0.2 + 0.25, 0.75 * 0.5 + 0.25, 0.01])
    assert sum(counts(giving, state, pool, 0)) == pytest.approx(12)
    state = learn(giving, pool, groups([[0] * 28]), state=state)
    assert means(giving, state, pool)[0] == pytest.approx(4 / 32)


def test_a_trace_weighs_the_newest_visit_most_and_ends(groups):
    pool, belief = pool_of(), Trace(visits=2, discount=0.5)
    state = learn(belief, pool, groups([[1] * 4]))
    assert counts(belief, state, pool, 0) == (5, 1)
    state = learn(belief, pool, groups([[0] * 4]), state=state)
    assert counts(belief, state, pool, 0) == (1 + 0.5 * 4, 1 + 4)
    state = learn(belief, pool, groups([[0] * 4]), state=state)
    assert counts(belief, state, pool, 0) == (1, 1 + 4 + 2)
    assert counts(belief, state, pool, 1) == (1, 1)


# --- rasch, irt -------------------------------------------------------------------------------------------------------------------

CDAS = [
    ("code", -0.03125, [-0.25, 0.0, 0.125, 0.25], 0.00389959, [-0.25, -0.085937288, 0.070338926, 0.25]),
    ("paper", -0.0625, [-0.5, 0.0, 0.25, 0.5], 0.0116394, [-0.5, -0.1328100, 0.0862523, 0.5]),
]


@pytest.mark.parametrize(("form", "c_1", "d_1", "c_2", "d_2"), CDAS)
def test_competence_and_difficulties_of_cdas(groups, form, c_1, d_1, c_2, d_2):
    pool, belief = pool_of(), Rasch(form=form)
    state = learn(belief, pool, groups([[1] * 4, [1, 1, 0, 0], [1, 0, 0, 0], [0] * 4]))
    assert competence(state) == pytest.approx(c_1, abs=1e-7)
    np.testing.assert_allclose(state.difficulty_N, d_1, atol=1e-7)
    state = learn(belief, pool, groups([[1, 1, 1, 0], [1, 1, 0, 0]], prompts=[1, 2], step=1), state=state)
    assert competence(state) == pytest.approx(c_2, abs=1e-7)
    np.testing.assert_allclose(state.difficulty_N, d_2, atol=1e-7)
    np.testing.assert_allclose(means(belief, state, pool), 1 / (1 + np.exp(state.difficulty_N - c_2)), atol=1e-6)


def test_competence_is_of_the_whole_pool_after_it_grew(groups):
    pool, belief = pool_of("xx"), Rasch(form="paper")
    state = learn(belief, pool, groups([[1, 1], [1, 1]]))
    assert competence(state) == 0.5
    assert competence(carried_state(belief, state, pool, pool_of("xxxx"))) == 0.25


def test_the_ability_of_pudf():
    d, right = np.array([-3.0, -1.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0, 0.0])
    assert ability(d, right, np.ones(4)) == pytest.approx(-0.2675, abs=5e-5)
    theta = ability(d, 500 * right, np.full(4, 500.0))  # the slope is 0 there
    assert (500 * right - 500 / (1 + np.exp(d - theta))).sum() == pytest.approx(theta, abs=1e-6)
    assert ability(d[:0], d[:0], d[:0]) == pytest.approx(0, abs=1e-12)
    assert 0 < ability(d, np.full(4, 9.0), np.full(4, 9.0)) < 36  # all right: finite, thanks to the prior


def test_a_step_larger_than_the_window_leaves_its_last_prompts(groups):
    pool = pool_of("xxxxx")
    state = learn(ItemResponse(window=3), pool, groups([[1], [0], [1, 1], [0], [1]]))
    place = np.argsort(state.references.prompt_W)
    assert state.references.prompt_W[place].tolist() == [2, 3, 4]
    assert state.references.success_W[place].tolist() == [2, 0, 1]


def test_difficulties_come_from_stated_rates_or_a_column(groups):
    d = np.array([-3.0, -1.0, 0.0, 1.0])
    outcome = groups([[1], [1], [0], [0]])
    for belief, pool in (
        (ItemResponse(), pool_of(prior=1 / (1 + np.exp(d)))),
        (ItemResponse(column=1), pool_of(features=np.stack([d * 0, d], 1))),
    ):
        state = learn(belief, pool, outcome)
        assert float(state.ability) == pytest.approx(-0.2675, abs=5e-5)
        np.testing.assert_allclose(means(belief, state, pool), 1 / (1 + np.exp(d + 0.2675)), atol=5e-5)
    for bad in (pool_of(), pool_of(features=[[1.0]] * 4), pool_of(features=[[1.0, np.inf]] * 4)):
        with pytest.raises(CurriculaError, match=r"irt\.column"):
            ItemResponse(column=1).init(bad)


def test_ability_follows_the_newest_answers_only(groups):
    pool, belief = pool_of(), ItemResponse(window=2)
    state = learn(belief, pool, groups([[1] * 8] * 4), groups([[0] * 8] * 2))
    alone = learn(belief, pool, groups([[0] * 8] * 2))
    assert float(state.ability) == pytest.approx(float(alone.ability))
    assert float(alone.ability) < -1


# --- beliefs on features ----------------------------------------------------------------------------------------------------------


def test_the_gaussian_process_of_vip(groups):
    pool = pool_of(features=[[0.0], [1.0], [0.5], [3.0]])
    belief = GaussianProcess(scale=1.0, noise=0.0)
    state = learn(belief, pool, groups([[1, 1, 1, 0], [1, 1, 0, 0]]))
    assert means(belief, state, pool) == pytest.approx([0.75, 0.5, 0.646454, 0.4692], abs=6e-7)


def test_the_process_is_surer_near_observations_and_never_less_than_the_prior(groups):
    pool = pool_of("xxxx", features=[[0.0], [0.1], [2.0], [50.0]])
    belief = GaussianProcess(scale=1.0)
    state = learn(belief, pool, groups([[1] * 12 + [0] * 4]))
    estimate = belief.estimate(state, pool, np.arange(4))
    worth = estimate.alpha_B + estimate.beta_B
    assert worth[0] > worth[1] > worth[2] > worth[3] == pytest.approx(3)
    variance = 1 - 1 / (1 + 1 / (16 * 0.75 * 0.25))  # of g at the observed prompt
    assert worth[0] == pytest.approx(1 / (estimate.mean_B[0] * (1 - estimate.mean_B[0]) * variance) - 1, rel=1e-5)


def test_only_the_newest_visit_of_a_prompt_counts_in_the_process(groups):
    pool = pool_of(features=[[0.0], [1.0], [2.0], [3.0]])
    belief = GaussianProcess(noise=0.0, window=3)
    state = learn(belief, pool, groups([[1, 0], [1, 0]]), groups([[1, 1, 1, 0]], prompts=[1]))
    assert means(belief, state, pool)[:2] == pytest.approx([0.5, 0.75], abs=1e-5)
    state = learn(belief, pool, groups([[1, 0, 0, 0]] * 2, prompts=[2, 3]), state=state)  # three places: prompt 0 is out
    assert sorted(state.references.prompt_W) == [1, 2, 3]


def test_the_stated_rate_is_the_mean_of_the_process():
    pool = pool_of(prior=[0.2, 0.5, np.nan, 0.9])
    assert means(GaussianProcess(), GaussianProcess().init(pool), pool) == pytest.approx([0.2, 0.5, 0.5, 0.9])


def test_observations_of_the_process_are_departures_from_the_stated_rate(groups):
    """Half right is what was stated for prompt 1 and a good deal more than for prompt 0."""
    pool, belief = pool_of("xx", prior=[0.2, 0.5], features=[[0.0], [100.0]]), GaussianProcess(scale=1.0, noise=0.0)
    assert means(belief, learn(belief, pool, groups([[1, 0], [1, 0]])), pool) == pytest.approx([0.5, 0.5])


def test_the_attention_of_dots(groups):
    weight = attend(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), 2**-0.5)
    np.testing.assert_allclose(weight, [[0.401112, 0.197776, 0.401112]], atol=5e-7)
    pool = pool_of(features=[[1, 0], [0, 1], [1, 1], [1, 0]])
    outcome = groups([[1, 1], [0, 0], [1, 0]])
    state = learn(Attention(), pool, outcome)
    assert means(Attention(), state, pool)[3] == pytest.approx(0.601668, abs=1e-6)
    calibrated = means(Attention(temperature=2.0, bias=-1.0), state, pool)[3]
    assert np.log(calibrated / (1 - calibrated)) == pytest.approx(np.log(0.601668 / 0.398332) / 2 - 1, abs=1e-5)
    assert means(Attention(), Attention().init(pool), pool) == pytest.approx([0.5] * 4)


def test_ridge_is_the_faded_least_squares_fit(groups):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 2)).astype(np.float32)
    pool, belief = pool_of("x" * 6, features=x), Regression(kind="ridge", ridge=0.5, forgetting=0.25)
    state = learn(belief, pool, groups([[1, 1, 0], [0], [1, 0]], prompts=[0, 1, 2]), groups([[1], [0, 0]], prompts=[3, 4]))
    design = np.concatenate([x[:5].astype(float), np.ones((5, 1))], axis=1)
    weight = np.array([0.75 * 3, 0.75, 0.75 * 2, 1, 2])
    target = np.array([2 / 3, 0, 0.5, 1, 0]) - 0.5
    fit = np.linalg.solve(design.T @ (weight[:, None] * design) + 0.5 * np.eye(3), design.T @ (weight * target))
    np.testing.assert_allclose(state.weight_G, fit, atol=1e-12)
    np.testing.assert_allclose(
        means(belief, state, pool), np.clip(0.5 + np.append(x, np.ones((6, 1)), 1) @ fit, 1e-3, 1 - 1e-3), atol=1e-6
    )


def test_logistic_regression_finds_the_curve_that_made_the_rewards(groups):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 2))
    rate = 1 / (1 + np.exp(-(2 * x[:, 0] - x[:, 1] - 0.5)))
    pool, belief = pool_of("x" * 400, features=x), Regression(forgetting=0.0)
    state = belief.init(pool)
    for step in range(40):
        prompts = rng.choice(300, 32, replace=False)  # the last hundred are never seen
        rewards = (rng.random((32, 8)) < rate[prompts, None]).astype(float).tolist()
        state = learn(belief, pool, groups(rewards, prompts=prompts, step=step), state=state)
    assert state.weight_G == pytest.approx([2, -1, -0.5], abs=0.15)
    assert np.abs(means(belief, state, pool)[300:] - rate[300:]).mean() < 0.02


def test_one_sided_rewards_do_not_throw_the_regression(groups):
    """Perfectly separable, then turned round: the weights stay finite and follow."""
    pool, belief = pool_of("xy", features=[[1.0], [-1.0]]), Regression(forgetting=0.1)
    state = belief.init(pool)
    for _ in range(200):
        state = learn(belief, pool, groups([[1] * 8, [0] * 8], pool=pool), state=state)
    assert means(belief, state, pool) == pytest.approx([1, 0], abs=0.05)
    for _ in range(60):
        state = learn(belief, pool, groups([[0] * 8, [1] * 8], pool=pool), state=state)
    assert means(belief, state, pool) == pytest.approx([0, 1], abs=0.1)


def test_in_context_counts_neighbours_as_far_as_they_are_alike(groups):
    pool = pool_of(features=[[0.0], [1.0], [50.0], [0.5]])
    belief = InContext(scale=1.0, strength=100)
    state = learn(belief, pool, groups([[1, 1, 0, 0], [0, 0]]))
    near = np.exp(-0.125)
    assert counts(belief, state, pool, 3) == pytest.approx((1 + 2 * near, 1 + 4 * near))
    assert counts(belief, state, pool, 2) == pytest.approx((1, 1))
    capped = InContext(scale=1.0, strength=3)
    assert counts(capped, state, pool, 3) == pytest.approx((1 + 1, 1 + 2))
    fading = InContext(scale=1.0, strength=100, forgetting=0.5)  # prompt 1 is the newest
    assert counts(fading, state, pool, 0) == pytest.approx((1 + 0.5 * 2, 1 + 0.5 * 2 + 2 * np.exp(-0.5)))


FEATURED = ["attention", "gaussian_process", "in_context", "regression"]


@pytest.mark.parametrize("name", FEATURED)
def test_without_features_the_distribution_stands_in(groups, name):
    pool = pool_of("xxxyyy")
    belief = build("belief", name)
    state = learn(belief, pool, *[groups([[1] * 7 + [0], [0] * 7 + [1]], pool=pool, prompts=[0, 3], step=i) for i in range(20)])
    mean_N = means(belief, state, pool)
    assert mean_N[:3] == pytest.approx([mean_N[2]] * 3)
    assert mean_N[3:] == pytest.approx([mean_N[5]] * 3)
    assert mean_N[5] < 0.42 < 0.58 < mean_N[2]


@pytest.mark.parametrize("name", FEATURED)
def test_bad_features_are_refused(name):
    with pytest.raises(CurriculaError, match=f"{name}.*features"):
        build("belief", name).init(pool_of(features=[[0.0], [np.nan], [1.0], [1.0]]))


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("name", names("belief"))
def test_what_was_learned_moves_to_a_larger_pool(groups, name, features):
    """New rows come first and a new distribution before the old ones, so every index changes."""
    old = PromptPool.from_columns(["m", "n", "o"], ["x", "x", "y"], features=[[0.1], [0.2], [0.9]] if features else None)
    new = PromptPool.from_columns(
        ["a", "o", "m", "n"], ["w", "y", "x", "x"], features=[[0.5], [0.9], [0.1], [0.2]] if features else None
    )
    belief = build("belief", name)
    state = learn(belief, old, groups([[1, 1, 1, 0], [0] * 4], pool=old, prompts=[0, 2]))
    want = means(belief, state, old)
    if name == "rasch":  # competence is a mean over the pool
        want = means(belief, state._replace(difficulty_sum=state.difficulty_sum * 0.75), old)
    grown = carried_state(belief, state, old, new)
    assert means(belief, grown, new)[[2, 3, 1]] == pytest.approx(want, rel=1e-6)
    again = groups([[1, 1], [0, 0]], pool=new, prompts=[0, 1], step=1)
    assert np.isfinite(means(belief, learn(belief, new, again, state=grown), new)).all()


# --- features ---------------------------------------------------------------------------------------------------------------------


def test_answers_for_a_whole_pool_come_in_parts():
    pool = pool_of("x" * 40_000, features=np.arange(40_000)[:, None])
    sizes = []
    found = each(pool, np.arange(40_000)[::-1], lambda x: (sizes.append(len(x)), 2 * x[:, 0])[1])
    assert max(sizes) < 20_000
    assert (found == 2.0 * np.arange(40_000)[::-1]).all()
    assert each(pool, np.empty(0, np.int64), lambda x: x[:, 0]).shape == (0,)


def test_distances_and_their_median():
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(squared_distances(x, x), [[0, 25], [25, 0]])
    assert median_distance(pool_of(features=[[0.0], [0.0], [2.0], [2.0]])) == 2
    assert median_distance(pool_of(features=[[7.0]] * 4)) == 1
    assert (median_distance(pool_of("xyz")), median_distance(pool_of("xx"))) == (pytest.approx(2**0.5), 1)
    assert (width(pool_of("xyz"), "me"), width(pool_of(features=np.ones((4, 5))), "me")) == (3, 5)


def test_other_features_in_a_grown_pool_are_refused(groups):
    old, new = pool_of(features=[[1.0]] * 4), pool_of(features=[[1.0, 2.0]] * 4)
    belief = Regression()
    with pytest.raises(CurriculaError, match="growing pool: features"):
        carried_state(belief, learn(belief, old, groups([[1, 0]])), old, new)


# --- all of them ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("belief"))
def test_a_run_with_features_believes_the_better_prompts_better(name):
    """40 steps on features that tell the pass rate: the order of the two halves is found by every belief that learns."""
    rate = np.repeat([0.2, 0.8], 10)
    pool = PromptPool.from_columns(
        [f"q{i:02d}" for i in range(20)], ["hard"] * 10 + ["easy"] * 10, rate, np.stack([rate, 1 - rate], 1)
    )
    curriculum = Curriculum.from_recipe({"belief": name}, pool)
    for step in range(40):
        plan = curriculum.plan(step, 6, 48)
        draw = np.random.default_rng(step)
        outcome = answer(curriculum, plan, lambda prompt, r, draw=draw: float(draw.random() < rate[int(prompt[1:])]))
        curriculum.update(feedback_of(curriculum, outcome))
    mean_N = curriculum.estimate(np.arange(20)).mean_B
    assert mean_N[10:].mean() > mean_N[:10].mean() + (0.05 if name in ("attention", "rasch") else 0.2)


@pytest.mark.parametrize(
    ("make", "bad"),
    [
        (VisitBeta, {"keep": 1.5}),
        (VisitBeta, {"prior_alpha": 0.0}),
        (Bots, {"share": -0.1}),
        (Bots, {"prior_strength": 0.0}),
        (Bots, {"weak_column": 0}),
        (Pooled, {"forgetting": 2.0}),
        (Pooled, {"strength": 0.0}),
        (Static, {"takeover": -1.0}),
        (Static, {"strength": 0.0}),
        (Trace, {"visits": 0}),
        (Trace, {"discount": 1.1}),
        (Trace, {"prior_beta": 0.0}),
        (Rasch, {"form": "other"}),
        (Rasch, {"strength": float("inf")}),
        (ItemResponse, {"window": 0}),
        (ItemResponse, {"column": -2}),
        (ItemResponse, {"strength": 0.0}),
        (Regression, {"kind": "probit"}),
        (Regression, {"ridge": 0.0}),
        (Regression, {"forgetting": -1.0}),
        (GaussianProcess, {"window": 0}),
        (GaussianProcess, {"noise": -1.0}),
        (GaussianProcess, {"margin": 0.5}),
        (Attention, {"window": 0}),
        (Attention, {"sharpness": 0.0}),
        (Attention, {"bias": float("nan")}),
        (InContext, {"window": 0}),
        (InContext, {"scale": -1.0}),
        (InContext, {"forgetting": 2.0}),
        (InContext, {"strength": 0.0}),
        (BetaCounts, {"forgetting": -0.1}),
    ],
)
def test_bad_numbers_are_refused_by_name(make, bad):
    name = next(name for name in names("belief") if type(build("belief", name)) is make)
    with pytest.raises(CurriculaError, match=rf"{name}\.{next(iter(bad))}.*expected.*{next(iter(bad.values()))}"):
        make(**bad)

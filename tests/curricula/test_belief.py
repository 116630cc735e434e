import numpy as np
import pytest

from curricula import CurriculaError, Feedback, PromptPool
from curricula.belief.beta import BetaCounts
from curricula.filter.keep_all import KeepAll


@pytest.fixture
def pool():
    return PromptPool.from_columns(["a", "b", "c"], ["x"] * 3, prior_pass_rate=[np.nan, 0.25, 0.0])


def feedback(outcome):
    return Feedback(outcome, KeepAll().judge(None, None, outcome))


def learn(belief, state, pool, *outcomes):
    for outcome in outcomes:
        state = belief.update(state, pool, feedback(outcome))
    return state


def test_the_vector_of_the_spec(groups, pool):
    """g = 0.8, prior (1, 1), 2 of 8 and one policy version later 6 of 8."""
    belief = BetaCounts(forgetting=0.2)
    first, second = groups([[1] * 2 + [0] * 6], version=0), groups([[1] * 6 + [0] * 2], version=1)
    state = learn(belief, belief.init(pool), pool, first)
    assert belief.estimate(state, pool, np.array([0])).alpha_B == pytest.approx([3])
    state = learn(belief, state, pool, second)
    estimate = belief.estimate(state, pool, np.array([0]))
    assert (estimate.alpha_B[0], estimate.beta_B[0]) == pytest.approx((8.6, 7.8), rel=1e-6)
    assert estimate.mean_B[0] == pytest.approx(0.52439, abs=1e-5)


def test_late_evidence_weighs_what_it_would_have_weighed_in_time(groups, pool):
    belief = BetaCounts(forgetting=0.2)
    outcomes = [groups([[1, 0, 0, 0]], version=v) for v in (0, 3, 7)]
    one = learn(belief, belief.init(pool), pool, *outcomes)
    other = learn(belief, belief.init(pool), pool, *outcomes[::-1])
    np.testing.assert_allclose(one.success_N, other.success_N, rtol=1e-6)
    np.testing.assert_allclose(one.failure_N, other.failure_N, rtol=1e-6)


def test_forgetting_runs_on_policy_versions_not_on_visits(groups, pool):
    belief = BetaCounts(forgetting=0.1)
    state = learn(belief, belief.init(pool), pool, groups([[1, 1]], prompts=[0], version=0))
    state = learn(belief, state, pool, groups([[1, 1]], prompts=[1], version=10))
    assert belief.estimate(state, pool, np.array([0])).alpha_B[0] == pytest.approx(1 + 2 * 0.9**10, rel=1e-6)


def test_a_prompt_twice_in_one_feedback_counts_twice(groups, pool):
    belief = BetaCounts(forgetting=0.5)
    twice = learn(belief, belief.init(pool), pool, groups([[1, 0], [1, 1]], prompts=[0, 0], version=4))
    assert (twice.success_N[0], twice.failure_N[0]) == (3, 1)


def test_priors(pool):
    belief = BetaCounts(prior_strength=4)
    estimate = belief.estimate(belief.init(pool), pool, np.arange(3))
    np.testing.assert_allclose(estimate.mean_B, [0.5, 0.25, 0.01])
    assert (estimate.alpha_B > 0).all()


def test_fractional_scores_and_failed_rollouts(groups, pool):
    belief = BetaCounts()
    state = learn(belief, belief.init(pool), pool, groups([[2, None, -1]], reward_range=(-1.0, 3.0)))
    assert (state.success_N[0], state.failure_N[0]) == (0.75, 1.25)


@pytest.mark.parametrize("bad", [{"forgetting": 2}, {"prior_alpha": -1}, {"prior_strength": float("inf")}])
def test_bad_numbers_are_refused(bad):
    with pytest.raises(CurriculaError, match="beta"):
        BetaCounts(**bad)

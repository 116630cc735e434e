"""DUMP and SEC against the vectors of the specification (sections 2.8 and 3.7) and as behaviour."""

import numpy as np
import pytest

from curricula import CurriculaError, Feedback, PromptPool, build
from curricula.distribution.dump_ucb import DumpUCB, push, ucb, window_means
from curricula.distribution.sec import SecState, SelfEvolvingCurriculum
from curricula.filter.keep_all import KeepAll
from curricula.signals import softmax


@pytest.fixture
def pool():
    return PromptPool.from_columns([f"{i:02d}" for i in range(12)], ["a"] * 4 + ["b"] * 4 + ["c"] * 4)


def feedback(outcome):
    return Feedback(outcome, KeepAll().judge(None, None, outcome))


@pytest.mark.parametrize(
    ("signal", "n", "probability"),
    [
        ([0.9, 0.5, 0.1], [100, 100, 100], [0.981690, 0.017980, 0.000329]),
        ([0.9, 0.5, 0.0], [1024, 1024, 0], [3.0e-13, 5.5e-15, 1.0]),
        ([0.9, 0.5, 0.1], [64, 48, 16], [0.955631, 0.031475, 0.012894]),
        ([0.9, 0.5, 0.1], [1024, 768, 256], [0.977282, 0.021612, 0.001106]),
    ],
)
def test_dump_vectors(signal, n, probability):
    np.testing.assert_allclose(softmax(ucb(np.array(signal), np.array(n), 1.0), 0.1), probability, atol=1e-6)


def test_dump_bounds_of_the_vectors():
    np.testing.assert_allclose(ucb(np.array([0.9, 0.5, 0.1]), np.full(3, 100), 1.0), [1.2361727, 0.8361727, 0.4361727], atol=1e-7)
    np.testing.assert_allclose(ucb(np.array([0.9, 0.5, 0.0]), np.array([1024, 1024, 0]), 1.0), [1.0219765, 0.6219765, 3.9051523])


def test_dump_window_holds_the_newest_300():
    window, n = np.full((1, 300), np.nan), np.zeros(1, np.int64)
    n = push(window, n, np.ones(100), np.zeros(100, np.int64))
    n = push(window, n, np.zeros(300), np.zeros(300, np.int64))
    assert window_means(window)[0] == 0.0
    assert np.isfinite(window).sum() == 300
    assert n[0] == 400


def test_dump_ring_equals_a_plain_list():
    rng = np.random.default_rng(0)
    window, n, lists = np.full((3, 7), np.nan), np.zeros(3, np.int64), [[], [], []]
    for _ in range(30):
        arm, value = rng.integers(3, size=rng.integers(0, 40)), None
        value = rng.random(len(arm))
        n = push(window, n, value, arm)
        for k, v in zip(arm, value, strict=True):
            lists[k] = [*lists[k], v][-7:]
        np.testing.assert_allclose(window_means(window), [np.mean(x) if x else 0.0 for x in lists])


def test_dump_counts_prompts_or_rollouts(groups, pool):
    outcome = groups([[1, 0, 0, 0], [1, 1, 1, 1], [1, None]], pool, prompts=[0, 4, 8])
    by_prompt = DumpUCB().update(DumpUCB().init(pool), pool, feedback(outcome))
    assert by_prompt.n_drawn_K.tolist() == [1, 1, 1]
    assert by_prompt.n_signals_K.tolist() == [1, 1, 0]  # the pair with one scored rollout says nothing
    np.testing.assert_allclose(window_means(by_prompt.window_KW), [1.0, 0.0, 0.0])
    published = DumpUCB(signal="mean_abs_advantage", count_unit="rollout")
    by_rollout = published.update(published.init(pool), pool, feedback(outcome))
    assert by_rollout.n_drawn_K.tolist() == [4, 4, 2]
    np.testing.assert_allclose(window_means(by_rollout.window_KW), [0.75, 0.0, 0.0], atol=1e-5)


def test_dump_prefers_the_less_drawn_of_two_equals():
    p = softmax(ucb(np.array([0.5, 0.5]), np.array([10, 100]), 1.0), 0.1)
    assert p[0] > p[1]


def test_sec_vectors():
    sec = SelfEvolvingCurriculum(alpha=0.5)
    q1 = sec.moved(np.zeros(3), np.array([0.9, 0.6, 0.2]))
    np.testing.assert_allclose(q1, [0.45, 0.3, 0.1])
    for tau, p in (
        (1.0, [0.389803, 0.335507, 0.274690]),
        (0.4, [0.475251, 0.326635, 0.198114]),
        (0.2, [0.607482, 0.286954, 0.105564]),
    ):
        np.testing.assert_allclose(softmax(q1, tau), p, atol=1e-6)
    second = np.array([0.8, np.nan, 0.3])
    skipped, zeroed = sec.moved(q1, second), SelfEvolvingCurriculum(alpha=0.5, unseen="zero").moved(q1, second)
    np.testing.assert_allclose(skipped, [0.625, 0.3, 0.2])
    np.testing.assert_allclose(softmax(skipped, 0.4), [0.558866, 0.247995, 0.193139], atol=1e-6)
    np.testing.assert_allclose(zeroed, [0.625, 0.15, 0.2])
    np.testing.assert_allclose(softmax(zeroed, 0.4), [0.605850, 0.184774, 0.209376], atol=1e-6)


def test_sec_from_raw_rewards(groups, pool):
    outcome = groups([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0] * 4, [0] * 4], pool, prompts=[0, 1, 4, 5, 8, 9])
    sec = SelfEvolvingCurriculum(signal="mean_abs_advantage")
    state = sec.update(sec.init(pool), pool, feedback(outcome))
    np.testing.assert_allclose(state.value_K * 2, [0.374999, 0.808011, 0], atol=2e-6)
    np.testing.assert_allclose(sec.probabilities(state, pool), [0.299046, 0.513815, 0.187139], atol=1e-6)


@pytest.mark.parametrize("tau", [1e-4, 1e-2, 1.0, 1e3])
@pytest.mark.parametrize("value", [[0.0, 0.0, 0.0], [1.0, 0.0, -1.0], [1e308, -1e308, 0.0]])
def test_softmax_is_finite_for_every_temperature(tau, value):
    p = SelfEvolvingCurriculum(tau=tau).probabilities(SecState(np.array(value)), None)
    assert np.isfinite(p).all()
    assert p.sum() == pytest.approx(1.0)


def test_uniform_over_prompts_and_fixed_weights():
    pool = PromptPool.from_columns("abcd", ["x", "x", "x", "y"])
    assert build("distribution", {"name": "uniform", "over": "prompts"}).probabilities(None, pool).tolist() == [0.75, 0.25]
    assert build("distribution", {"name": "fixed", "weights": {"y": 1}}).probabilities(None, pool).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("weights", [{"x": -1}, {"x": float("nan")}, {"x": 0}])
def test_fixed_refuses_bad_weights(weights):
    with pytest.raises(CurriculaError, match=r"fixed\.weights"):
        build("distribution", {"name": "fixed", "weights": weights})


def test_fixed_refuses_an_unknown_distribution():
    pool = PromptPool.from_columns("ab", ["easy", "hard"])
    with pytest.raises(CurriculaError, match=r"'hrad'; did you mean 'hard'"):
        build("distribution", {"name": "fixed", "weights": {"hrad": 1}}).init(pool)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "dump_ucb", "tau": 0},
        {"name": "dump_ucb", "window": 0},
        {"name": "sec", "alpha": 0},
        {"name": "sec", "tau": float("inf")},
    ],
)
def test_hyper_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(CurriculaError, match="expected"):
        build("distribution", wrong)

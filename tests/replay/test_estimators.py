"""The value of another selection rule at the logged states: formulas by hand, refusals, and the promise of the intervals."""

from __future__ import annotations

import doctest
import math
from typing import Any

import numpy as np
import pytest

import replay.estimators
from benchmarks.replay_coverage import METHODS, NO_LIMITS, inclusions, row, simulate
from curricula.statistics import t_quantile
from curricula.types import CurriculaError, PromptPool
from replay.estimators import (
    Decisions,
    Limits,
    NotEstimable,
    Target,
    Value,
    estimate,
    overlap,
    target_of_inclusion,
    target_of_weights,
)
from replay.types import Lack, LoggedRun

STEP_G = np.array([3, 3, 5, 5, 8])
LOG = Decisions(np.array([1.0, 0.0, 0.5, 1.0, 0.25]), np.array([0.5, 0.25, 0.5, 1.0, 0.5]), STEP_G)
TARGET = Target(np.array([0.25, 0.5, 0.5, 0.5, 1.0]), np.array([1.0, 2.0, 2.0]), None, np.array([0.4, 0.6, 0.3]))
W = np.array([0.5, 2.0, 1.0, 0.5, 2.0])  # weights by hand
U = W / np.array([1.0, 1.0, 2.0, 2.0, 2.0])  # parts in the estimate


def given(*args: Any, **kwargs: Any) -> Value:
    answer = estimate(*args, **kwargs)
    assert isinstance(answer, Value), str(answer)
    return answer


def refused(*args: Any, **kwargs: Any) -> str:
    answer = estimate(*args, **kwargs)
    assert isinstance(answer, NotEstimable), str(answer)
    return answer.reason


def half_width(values: np.ndarray) -> float:
    return t_quantile(0.975, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))


def test_ips_by_hand() -> None:
    steps = np.array([0.5 / 1, (1.0 * 0.5 + 0.5 * 1.0) / 2, 2.0 * 0.25 / 2])
    answer = given(LOG, TARGET, "ips", limits=NO_LIMITS)
    assert answer.value == pytest.approx(steps.mean())
    assert (answer.low, answer.high) == pytest.approx((steps.mean() - half_width(steps), steps.mean() + half_width(steps)))
    assert answer.standard_error == pytest.approx(steps.std(ddof=1) / math.sqrt(3))


def test_snips_by_hand() -> None:
    top, bottom = np.array([0.5, 0.5, 0.25]), np.array([2.5, 0.75, 1.0])
    ratio = top.sum() / bottom.sum()
    answer = given(LOG, TARGET, "snips", limits=NO_LIMITS)
    assert answer.value == pytest.approx(ratio)
    assert answer.high - answer.value == pytest.approx(half_width((top - ratio * bottom) / bottom.mean()))


def test_doubly_robust_by_hand() -> None:
    guess = np.array([0.5, 0.5, 0.5, 0.5, 0.5])
    steps = np.array([0.4 + (0.25 - 1.0) / 1, 0.6 + (0.0 + 0.25) / 2, 0.3 + (2.0 * -0.25) / 2])
    answer = given(LOG, TARGET, "dr", prediction_G=guess, limits=NO_LIMITS)
    assert answer.value == pytest.approx(steps.mean())
    assert answer.high - answer.value == pytest.approx(half_width(steps))


def test_a_perfect_model_leaves_only_its_own_spread() -> None:
    answer = given(LOG, TARGET, "dr", prediction_G=LOG.value_G, limits=NO_LIMITS)
    assert answer.value == pytest.approx((0.4 + 0.6 + 0.3) / 3)


def test_the_order_of_the_groups_does_not_matter() -> None:
    order = np.array([4, 1, 3, 0, 2])
    log = Decisions(LOG.value_G[order], LOG.propensity_G[order], STEP_G[order])
    target = TARGET._replace(inclusion_G=TARGET.inclusion_G[order])
    for method in ("ips", "snips"):
        assert given(log, target, method, limits=NO_LIMITS).value == pytest.approx(
            given(LOG, TARGET, method, limits=NO_LIMITS).value
        )


def test_the_logging_rule_itself_gets_its_own_mean() -> None:
    rng = np.random.default_rng(0)
    step_G = np.repeat(np.arange(20), 4)
    log = Decisions(rng.random(80), np.full(80, 0.1), step_G)
    target = Target(np.full(80, 0.1), np.full(20, 4.0), 0.0)
    for method in ("ips", "snips"):
        assert given(log, target, method, limits=NO_LIMITS).value == pytest.approx(log.value_G.mean())
    assert overlap(log, target).effective_groups == pytest.approx(80)


def test_overlap_by_hand() -> None:
    seen = overlap(LOG, TARGET)
    assert seen.effective_groups == pytest.approx(U.sum() ** 2 / (U @ U))
    assert (seen.n_groups, seen.n_steps, seen.largest_weight, seen.unsupported) == (5, 3, 2.0, None)
    assert seen.largest_share == pytest.approx(U.max() / U.sum())
    assert seen.mass == pytest.approx((2.5 + 0.75 + 1.0) / 3)
    assert seen.mass_error == pytest.approx(half_width(np.array([2.5, 0.75, 1.0])))


def test_rare_large_weights_count_although_the_log_missed_them() -> None:
    """One of nine prompts is drawn once in 1,000 steps, and the target likes all alike: 40 steps do not show its weight."""
    steps, n = 40, 8
    propensity_N = np.array([(8 - 0.001) / 8] * n + [0.001])
    prompt_G, step_G = np.tile(np.arange(n), steps), np.repeat(np.arange(steps), n)
    log = Decisions(np.tile([1.0, 0.0], steps * n // 2), propensity_N[prompt_G], step_G)
    target = target_of_inclusion(np.full(n + 1, 8 / 9), prompt_G, step_G, propensity_N)
    seen = overlap(log, target)
    weight_N = (8 / 9) / propensity_N
    square, cube = (propensity_N * weight_N**2).sum() / n**2, (propensity_N * weight_N**3).sum() / n**3
    assert seen.effective_groups == pytest.approx(320)
    assert (seen.expected_groups, seen.steady_groups) == pytest.approx((steps / square, steps * square**3 / cube**2))
    assert "effective of 320 groups" in refused(log, target)
    assert "rare groups with large weights" in refused(log, target, limits=Limits(effective_groups=1))
    assert overlap(log, target._replace(power_T2=None)).expected_groups is None


def test_a_target_for_the_whole_pool() -> None:
    inclusion = np.array([[1.0, 0.5, 0.5], [0.0, 1.0, 0.0]])
    prompt_G, step_G = np.array([2, 0, 1]), np.array([7, 4, 7])
    target = target_of_inclusion(inclusion, prompt_G, step_G, [[1, 0, 1], [1, 1, 1]], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(target.inclusion_G, [0.0, 1.0, 1.0])  # rows are steps 4 and 7
    np.testing.assert_allclose(target.size_T, [2.0, 1.0])
    assert target.unsupported == pytest.approx(0.5 / 3)
    assert target.direct_T == pytest.approx([(0.1 + 0.1 + 0.15) / 2, 0.2])
    assert target_of_weights([3.0, 1.0, 0.0], prompt_G, step_G).inclusion_G.tolist() == [0.0, 0.75, 0.25]


def uniform(n_steps: int = 40, n_groups: int = 8) -> tuple[Decisions, Target]:
    """A log that the target covers fully: half of 16 prompts per step, target and log alike."""
    step_G = np.repeat(np.arange(n_steps), n_groups)
    n = len(step_G)
    return Decisions(np.arange(n, dtype=np.float64) % 2, np.full(n, 0.5), step_G), Target(
        np.full(n, 0.5), np.full(n_steps, float(n_groups)), None
    )


def test_refusals_name_their_reason() -> None:
    log, target = uniform()
    n = len(log)
    given(log, target)
    unknown = np.where(np.arange(n) < 3, np.nan, 0.5)
    assert "3 of 320 groups have no propensity in (0, 1]" in refused(Decisions(log.value_G, unknown, log.step_G), target)
    assert "1 of 320 groups have no propensity" in refused(
        Decisions(log.value_G, np.where(np.arange(n) == 5, 0.0, 0.5), log.step_G), target
    )
    value = np.where(np.arange(n) == 7, np.nan, 1.0)
    assert "1 groups that the target might choose have no outcome" in refused(
        Decisions(value, log.propensity_G, log.step_G), target
    )
    assert "320 of 320 groups have no step" in refused(
        Decisions(log.value_G, log.propensity_G, np.full(n, -1)), target._replace(size_T=np.ones(1))
    )
    assert "5 steps are too few" in refused(*uniform(5))
    assert "could not choose 2% of what the target would" in refused(log, target._replace(unsupported=0.02))
    few = target._replace(inclusion_G=np.where(np.arange(n) % 8 == 0, 1.0, 0.0) * 4, unsupported=0.0)
    assert "the weights leave 40.0 effective of 320 groups (100 needed)" in refused(log, few)
    heavy = target._replace(inclusion_G=np.where(np.arange(n) == 8, 40.0, 0.5), unsupported=0.0)
    assert "one group carries 20% of all weight" in refused(log, heavy, limits=Limits(effective_groups=1))
    assert "nothing at some logged step" in refused(log, target._replace(size_T=np.zeros(40)))
    assert (
        refused(Decisions(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)), Target(np.zeros(0), np.zeros(0), None))
        == "the log has no groups"
    )
    answer = estimate(*uniform(5))
    assert str(answer).startswith("not estimable (snips): 5 steps")


def test_mass_that_the_log_lacks_is_seen_in_the_weights() -> None:
    """The target wants twice as many groups as its weights on logged prompts make up, or half as many."""
    log, target = uniform()
    assert "may lack the support of 50%" in refused(log, target._replace(size_T=2 * target.size_T))
    assert "the weights sum to 2.00 +- 0.00 times the target's mass" in refused(log, target._replace(size_T=target.size_T / 2))
    given(log, target._replace(size_T=target.size_T / 0.95))


def test_a_noisy_sum_of_weights_leaves_the_support_in_doubt() -> None:
    """Weights 0 in three steps of five and 2.5 in two sum to 1 on average, but an eighth might be missing unseen."""
    log, target = uniform(n_steps=400)
    weighted_G = np.repeat(np.tile([0.0, 0.0, 0.0, 1.25, 1.25], 80), 8)
    noisy = target._replace(inclusion_G=weighted_G)
    assert overlap(log, noisy).mass == pytest.approx(1.0)
    assert "may lack the support of 12%" in refused(log, noisy)
    given(log, noisy._replace(unsupported=0.0))


def test_groups_that_the_target_would_not_choose_need_no_outcome() -> None:
    log, target = uniform()
    wanted = np.where(log.value_G == 1, 1.0, 0.0)
    half = Decisions(np.where(wanted > 0, 0.25, np.nan), log.propensity_G, log.step_G)
    guess, direct = np.full(len(log), 0.5), np.full(40, 0.5)
    for method in METHODS:
        answer = given(half, target._replace(inclusion_G=wanted, direct_T=direct), method, prediction_G=guess)
        assert answer.value == pytest.approx(0.25)


def test_a_value_prints_its_overlap() -> None:
    text = str(given(*uniform()))
    assert text.startswith("0.5 [0.5, 0.5] at the logged states (snips, 95%, 40 steps, 320 effective of 320 groups")
    assert "accuracy" not in text


def run_with(lacks: frozenset[Lack]) -> LoggedRun:
    return LoggedRun(
        source="verl.jsonl",
        pool=PromptPool.from_columns(["a"], ["d"]),
        prompt_G=np.zeros(2, dtype=np.int64),
        step_G=np.arange(2),
        group_R=np.zeros(0, dtype=np.int64),
        reward_R=np.zeros(0),
        status_R=np.zeros(0, dtype=np.uint8),
        n_tokens_R=np.zeros(0, dtype=np.int64),
        policy_version_R=np.zeros(0, dtype=np.int64),
        propensity_G=np.array([0.5, 0.25]),
        arm_probability_G=np.ones(2),
        kept_G=np.ones(2, dtype=np.uint8),
        lacks=lacks,
    )


def test_a_log_of_kept_groups_only_is_refused() -> None:
    needed: tuple[Lack, ...] = ("step", "propensity", "rejected groups")
    assert Decisions.of_run(run_with(frozenset()), [1, 0]).propensity_G.tolist() == [0.5, 0.25]
    for lack in needed:
        with pytest.raises(CurriculaError, match=f"verl.jsonl: not estimable: the log lacks {lack}"):
            Decisions.of_run(run_with(frozenset({lack})), [1, 0])


def test_bad_input_is_named() -> None:
    log, target = uniform()
    for call, message in (
        (lambda: estimate(log, target, "replay"), "expected method 'ips', 'snips' or 'dr', got 'replay'"),  # type: ignore[arg-type]
        (lambda: estimate(log, target, confidence=95), "a confidence between 0 and 1, got 95"),
        (lambda: estimate(log, target, "dr"), "dr needs prediction_G"),
        (lambda: estimate(log, TARGET), "a target of 320 groups and 40 steps, got 5 and 3"),
        (lambda: estimate(log, target._replace(inclusion_G=-target.inclusion_G)), "target inclusions of 0 or more"),
        (lambda: Decisions(np.ones(2), np.ones(1), np.zeros(2, int)), r"Decisions.propensity_G: expected shape \(2,\)"),
        (lambda: target_of_inclusion([2.0, 0.0], np.zeros(2, int), np.arange(2)), r"inclusion probabilities in \[0, 1\]"),
        (lambda: target_of_inclusion(np.ones((3, 2)), np.zeros(2, int), np.arange(2)), r"one per logged step \(2\), got shape"),
        (lambda: target_of_weights([0.0, 0.0], np.zeros(2, int), np.arange(2)), "one above 0 at every step"),
    ):
        with pytest.raises(CurriculaError, match=message):
            call()


def test_the_study_draws_as_it_says() -> None:
    """Propensities of the simulated logs are how often prompts come; otherwise the study would prove nothing."""
    chance = inclusions(np.exp(np.linspace(-2, 2, 40)))
    assert chance.sum() == pytest.approx(16)
    logs = simulate("skewed", n_logs=300, n_steps=20, seed=5)
    came = np.bincount(logs.prompt_STB.ravel(), minlength=120) / (300 * 20)
    expected = logs.propensity_STN[0, 0]
    assert np.abs(came - expected).max() < 5 * np.sqrt(0.25 / 6000)
    assert np.corrcoef(came, expected)[0, 1] > 0.99


@pytest.mark.parametrize("case", ["uniform", "adaptive", "skewed"])
def test_intervals_hold_the_truth_as_often_as_they_say(case: str) -> None:
    """300 logs of 60 steps: 95 % nominal lies in 92 to 98 (the standard error of the count is 1.3 %); nothing is refused."""
    logs = simulate(case, n_logs=300, n_steps=60, seed=1)
    for method in METHODS:
        result = row(logs, method)
        assert 0.92 <= result.covered <= 0.98, (method, result)
        assert result.refused < 0.01, (method, result)
        assert abs(result.bias) < 4 * result.rmse / math.sqrt(300), (method, result)


def test_under_learning_intervals_are_as_long_as_they_should_be() -> None:
    """The states come from what was selected before. The estimate is of those states, and a drift is no noise."""
    logs = simulate("learning", n_logs=200, n_steps=60, seed=1)
    assert np.ptp(logs.live_STN[0, [0, -1]].mean(axis=1)) > 0.05  # it does drift
    for method in METHODS:
        assert 0.9 < row(logs, method).covered < 0.99


@pytest.mark.parametrize("case", ["poor", "none"])
@pytest.mark.parametrize("hidden", [False, True])
def test_poor_overlap_is_refused_and_never_confidently_wrong(case: str, hidden: bool) -> None:
    logs = simulate(case, n_logs=60, n_steps=60, seed=1)
    for method in METHODS:
        result = row(logs, method, hidden)
        assert result.refused > 0.98, (method, result)


def test_without_the_refusal_the_interval_would_be_wrong() -> None:
    """What the limits are for: the easiest third of the prompts never logged, and every interval misses."""
    logs = simulate("none", n_logs=20, n_steps=60, seed=1)
    step_G = np.repeat(np.arange(60), 16)
    for s in range(20):
        prompt_G = logs.prompt_STB[s].ravel()
        log = Decisions(logs.value_STB[s].ravel(), logs.propensity_STN[s, step_G, prompt_G], step_G)
        target = target_of_inclusion(logs.target_N, prompt_G, step_G, logs.propensity_STN[s])
        answer = given(log, target, "snips", limits=NO_LIMITS)
        assert not answer.low <= logs.truth_S[s] <= answer.high
        assert "could not choose" in refused(log, target, "snips")


def test_examples() -> None:
    assert doctest.testmod(replay.estimators).failed == 0

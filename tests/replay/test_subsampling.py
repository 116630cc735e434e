"""Sub-groups of logged groups: every number against all subsets, or all orders, of the rollouts."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from itertools import combinations, permutations
from math import comb

import numpy as np
import pytest

import replay.subsampling
from curricula.types import CurriculaError, PromptPool
from replay.subsampling import (
    Tally,
    in_band,
    learnability,
    learnability_of_scores,
    live,
    live_of_scores,
    mean_abs_advantage,
    pilot_then_more,
    rounds_until,
    tally,
)
from replay.types import LoggedRun

N = 6
ALL = Tally(np.full(N + 1, N), np.arange(N + 1))  # every k of 6


def run_of(*scores: list[float]) -> LoggedRun:
    """A run with one group per list; NaN scores are failed rollouts."""
    reward = np.concatenate([np.asarray(s, dtype=float) for s in scores])
    g, r = len(scores), len(reward)
    return LoggedRun(
        source="log.jsonl",
        pool=PromptPool.from_columns([f"p{i}" for i in range(g)], ["d"] * g),
        prompt_G=np.arange(g),
        step_G=np.zeros(g, dtype=np.int64),
        group_R=np.repeat(np.arange(g), [len(s) for s in scores]),
        reward_R=reward,
        status_R=np.where(np.isnan(reward), 1, 0),
        n_tokens_R=np.full(r, -1),
        policy_version_R=np.full(r, -1),
        propensity_G=np.ones(g),
        arm_probability_G=np.ones(g),
        kept_G=np.ones(g, dtype=np.uint8),
    )


def subsets(k: int, n: int) -> np.ndarray:
    """(C(6, n), n) scores of all sub-groups of a group with k successes."""
    scores = [1.0] * k + [0.0] * (N - k)
    return np.array(list(combinations(scores, n)))


def advantage(row: np.ndarray, epsilon: float) -> float:
    return float(np.mean(np.abs(row - row.mean()) / (row.std(ddof=1) + epsilon)))


@pytest.mark.parametrize("n", range(1, N + 1))
def test_sub_groups_against_all_subsets(n: int) -> None:
    all_subsets = [subsets(k, n) for k in range(N + 1)]
    mixed = [np.mean((s.min(axis=1) == 0) & (s.max(axis=1) == 1)) for s in all_subsets]
    np.testing.assert_allclose(live(ALL, n), mixed, atol=1e-14)
    for low, high in ((0.0, 1.0), (0.2, 0.5), (1 / 3, 2 / 3), (0.01, 0.99)):
        band = [np.mean((s.mean(axis=1) >= low - 1e-12) & (s.mean(axis=1) <= high + 1e-12)) for s in all_subsets]
        np.testing.assert_allclose(in_band(ALL, n, low, high), band, atol=1e-14)
    if n >= 2:
        np.testing.assert_allclose(learnability(ALL), [np.mean(4 * s.var(axis=1, ddof=1)) for s in all_subsets], atol=1e-14)
        for epsilon in (1e-6, 0.1):
            size = [np.mean([advantage(row, epsilon) for row in s]) for s in all_subsets]
            np.testing.assert_allclose(mean_abs_advantage(ALL, n, epsilon), size, atol=1e-14)


def test_sub_groups_at_a_logged_size_are_the_group_itself() -> None:
    np.testing.assert_allclose(live(ALL, N), (ALL.k_G > 0) & (ALL.k_G < N), atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_scores_of_any_kind_against_all_subsets(n: int) -> None:
    groups = [[0.0, 0.5, 0.5, 1.0, 1.0], [0.3] * 5, [0.1, 0.2, 0.3, 0.4, 0.5], [0.7, 0.7, 0.2, np.nan, 0.7, 0.7]]
    run = run_of(*groups)
    expected = [np.mean([np.ptp(s) > 0 for s in combinations([v for v in group if not np.isnan(v)], n)]) for group in groups]
    np.testing.assert_allclose(live_of_scores(run, n), expected, atol=1e-14)
    if n >= 2:
        variance = [
            np.mean([4 * np.var(s, ddof=1) for s in combinations([v for v in group if not np.isnan(v)], n)]) for group in groups
        ]
        np.testing.assert_allclose(learnability_of_scores(run), variance, atol=1e-14)


def test_binary_scores_agree_with_scores_of_any_kind() -> None:
    run = run_of([1, 0, 0, 1, 0], [1, 1, 1], [0, np.nan, 1, 1], [])
    assert [column.tolist() for column in tally(run)] == [[5, 3, 3, 0], [2, 3, 2, 0]]
    np.testing.assert_allclose(live_of_scores(run, 3), live(tally(run), 3), atol=1e-14)
    np.testing.assert_allclose(learnability_of_scores(run), learnability(tally(run)), atol=1e-14)


def test_what_the_log_does_not_tell_is_nan() -> None:
    groups = Tally(np.array([4, 2, 0]), np.array([2, 1, 0]))
    assert np.isnan(live(groups, 3)).tolist() == [False, True, True]
    assert np.isnan(mean_abs_advantage(groups, 3)).tolist() == [False, True, True]
    assert np.isnan(in_band(groups, 2, 0, 1)).tolist() == [False, False, True]
    assert np.isnan(learnability(Tally(np.array([1]), np.array([1])))).all()
    assert np.isnan(live_of_scores(run_of([1, 0], [0.5, 0.5, 0.5]), 3)).tolist() == [True, False]


def walked(k: int, sizes: list[int], done: Callable[[int, int], bool]) -> tuple[float, float]:
    """Mean rollouts and live share over all distinct orders of a group with k successes of 6."""
    spent, mixed = [], []
    for order in set(permutations([1] * k + [0] * (N - k))):
        n = 0
        for size in sizes:
            n += size
            successes = sum(order[:n])
            if done(successes, n - successes):
                break
        spent.append(n)
        mixed.append(0 < sum(order[:n]) < n)
    return float(np.mean(spent)), float(np.mean(mixed))


@pytest.mark.parametrize(("first", "more"), [(2, 4), (3, 2), (1, 5), (4, 1)])
def test_a_pilot_against_all_orders(first: int, more: int) -> None:
    for stop_if in ("mixed", "equal"):

        def done(k: int, failures: int, stop_if: str = stop_if) -> bool:
            return (k > 0 and failures > 0) == (stop_if == "mixed")

        result = pilot_then_more(ALL, first, more, stop_if)
        expected = [walked(k, [first, more], done) for k in range(N + 1)]
        np.testing.assert_allclose(np.stack(result[:2], axis=1), expected, atol=1e-14)


@pytest.mark.parametrize(("per_round", "rounds", "positive", "negative"), [(2, 3, 1, 1), (1, 6, 2, 1), (3, 2, 1, 0), (2, 2, 2, 2)])
def test_rounds_against_all_orders(per_round: int, rounds: int, positive: int, negative: int) -> None:
    result = rounds_until(ALL, per_round, rounds, positive, negative)
    expected = [walked(k, [per_round] * rounds, lambda s, f: s >= positive and f >= negative) for k in range(N + 1)]
    np.testing.assert_allclose(np.stack(result[:2], axis=1), expected, atol=1e-14)


def test_published_exit_probabilities_of_reinforce_ada() -> None:
    """Rounds of 8 until 2 successes and 2 failures, 4 rounds at most; a huge group is as good as draws with replacement."""
    many = 10**8
    groups = Tally(np.full(3, many), np.array([many // 20, many // 10, many // 2]))
    result = rounds_until(groups, 8, 4, 2, 2)
    exits = [[0.0572, 0.1892, 0.3392, 0.4800], [0.1869, 0.4853, 0.7075, 0.8436], [0.9297, 0.9995, 1.0, 1.0]]
    np.testing.assert_allclose(result.stopped_GT, exits, atol=6e-5)
    np.testing.assert_allclose(result.rollouts_G, [27.315, 20.962, 8.567], atol=6e-4)


def test_a_rule_that_may_want_more_than_was_logged_has_no_answer() -> None:
    """Rounds of 2 until a success: with one of 4 it comes in the second round at the latest; without, a third is wanted."""
    groups = Tally(np.array([4, 4, 4]), np.array([3, 1, 0]))
    result = rounds_until(groups, 2, 3, 1, 0)
    assert result.rollouts_G[0] == 2.0
    assert result.rollouts_G[1] == 3.0
    assert np.isnan(result.rollouts_G[2])
    assert np.isnan(result.live_G[2])
    assert np.isnan(result.stopped_GT[2]).all()


def test_a_million_groups_are_as_quick_as_the_kinds_among_them() -> None:
    rng = np.random.default_rng(0)
    groups = Tally(np.full(10**6, 16), rng.binomial(16, 0.3, 10**6))
    exact = 1 - 0.7**4 - 0.3**4  # a sub-group of 4 of binomial groups is binomial again
    assert live(groups, 4).mean() == pytest.approx(exact, abs=4e-3 / 4)


def test_unbiased_for_groups_of_the_smaller_size() -> None:
    """The hypergeometric mixture of Binomial(8, p) is Binomial(3, p), so it gives the mean |advantage| of groups of 3."""
    p, k = 0.2, np.arange(9)
    weight = np.array([comb(8, int(i)) * p**i * (1 - p) ** (8 - i) for i in k])
    direct = sum(comb(3, s) * p**s * (1 - p) ** (3 - s) * advantage(np.array([1.0] * s + [0.0] * (3 - s)), 1e-6) for s in range(4))
    assert weight @ mean_abs_advantage(Tally(np.full(9, 8), k), 3) == pytest.approx(direct, abs=1e-14)


def test_refusals() -> None:
    run = run_of([1, 0], [0.3, 1.0])
    with pytest.raises(CurriculaError, match=r"log.jsonl: not estimable: expected scores of 0 or 1, got 0.3 in group 1"):
        tally(run)
    assert tally(run, threshold=0.2).k_G.tolist() == [1, 2]
    with pytest.raises(CurriculaError, match="expected 0 <= k <= N"):
        live(Tally(np.array([2]), np.array([3])), 2)
    with pytest.raises(CurriculaError, match="expected 2 rollouts at least, got 1"):
        mean_abs_advantage(ALL, 1)
    with pytest.raises(CurriculaError, match="expected low <= high"):
        in_band(ALL, 2, 0.9, 0.1)
    with pytest.raises(CurriculaError, match="stop_if 'mixed' or 'equal', got 'live'"):
        pilot_then_more(ALL, 2, 2, "live")  # type: ignore[arg-type]
    with pytest.raises(CurriculaError, match="rounds_until: expected 1 rollouts at least, got 0"):
        rounds_until(ALL, 0, 2, 1, 1)


def test_examples() -> None:
    assert doctest.testmod(replay.subsampling).failed == 0

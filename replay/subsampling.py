"""What smaller groups, or groups stopped early, would have shown: exact expectations over the logged rollouts.

The rollouts of a group are exchangeable: any n of its N scored ones are as good a group of n as the first n. So whatever a group
of n <= N would show at that prompt and those policy weights is estimated without bias by its average over all C(N, n) sub-groups.
For binary scores with k successes that average is a sum over the hypergeometric distribution, reckoned here by drawing one rollout
after the other without replacement; nothing is simulated. Groups with equal (N, k) are reckoned once. A result is NaN for a group
where the log does not tell: n > N, or a rule that may need more rollouts than there are.

What the numbers do not say:

- nothing about rollouts that were not logged: with N = 16 in the log there is no answer for n = 32;
- nothing about training: these are the logged policy's groups. Smaller groups would have moved the policy elsewhere, so no final
  accuracy and no speed-up follows;
- nothing where N itself depended on the scores (a log of `speed` or `reinforce_ada`): such groups are not exchangeable samples of
  a fixed size, and pooling them is biased. Use logs whose budget was fixed in advance.

Rollouts without a score (timeouts, errors) count as never drawn, which is right only if they fail whatever they would have scored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from curricula.groups import ADVANTAGE_EPSILON, counts, sample_variances
from curricula.types import Bools, CurriculaError, Floats, Ints
from replay.types import LoggedRun

SLACK = 1e-9  # a pass rate of 3/10 lies on an end at 0.3, as in the filter `difficulty_band`
Stops = Callable[[Ints, Ints], Bools]  # successes, failures -> is the group done?


class Tally(NamedTuple):
    """Scored rollouts and successes per group."""

    n_G: Ints
    k_G: Ints


class Stopped(NamedTuple):
    """What a stopping rule is expected to do to each group; NaN where it may want more rollouts than were logged."""

    rollouts_G: Floats  # expected rollouts spent
    live_G: Floats  # probability that the group ends with successes and failures
    stopped_GT: Floats  # probability that the rule's condition was met by the end of round 1, 2, ...


def tally(run: LoggedRun, threshold: float | None = None) -> Tally:
    """(N, k) of every group. Scores must be 0 or 1, or a threshold says above which score a rollout is a success."""
    scored = np.isfinite(run.score_R)
    score, group = run.score_R[scored], run.group_R[scored]
    if threshold is None:
        other = (score != 0.0) & (score != 1.0)
        if other.any():
            at = int(np.argmax(other))
            raise CurriculaError(
                f"{run.source}: not estimable: expected scores of 0 or 1, got {score[at]:.4g} in group {group[at]}. For other "
                "scores only the live share and the learnability have a closed form (live_of_scores, learnability_of_scores); or "
                "state a threshold above which a rollout is a success"
            )
        threshold = 0.5
    return Tally(counts(group, len(run)), counts(group[score > threshold], len(run)))


def live(groups: Tally, n: int) -> Floats:
    """(G,) probability that n of the N rollouts hold a success and a failure: 1 - [C(k, n) + C(N - k, n)] / C(N, n).

    >>> live(Tally(np.array([4, 4, 1]), np.array([1, 2, 1])), 2).round(4)
    array([0.5   , 0.6667,    nan])
    """
    return _expected(groups, n, lambda k: (k > 0) & (k < n))


def live_each(groups: Tally, n_G: Ints) -> Floats:
    """(G,) `live` with a size of its own for every group; NaN where fewer rollouts are there.

    >>> live_each(Tally(np.array([4, 4]), np.array([1, 2])), np.array([2, 4])).round(4)
    array([0.5, 1. ])
    """
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, int(groups.n_G.max(initial=1)) + 1)))])  # of factorials

    def equal(same_G: Ints) -> Floats:  # C(same, n) / C(N, n)
        enough = (same_G >= n_G) & (groups.n_G >= n_G)
        same, n, whole = (np.where(enough, column, 0) for column in (same_G, n_G, groups.n_G))
        chance = np.exp(logs[same] - logs[same - n] - logs[whole] + logs[whole - n])
        return np.where(enough, chance, 0.0)

    one_G = (n_G < 2).astype(np.float64)  # a single rollout counts once, as all equal
    chance_G = 1.0 - np.where(one_G > 0, 1.0, np.minimum(equal(groups.k_G) + equal(groups.n_G - groups.k_G), 1.0))
    return np.where(groups.n_G >= n_G, chance_G, np.nan)


def learnability(groups: Tally) -> Floats:
    """(G,) 4 k (N - k) / (N (N - 1)): expected 4 x unbiased variance of the scores in a sub-group.

    It is the same for every sub-group size n >= 2, because the unbiased variance of a random sub-group has the variance of the
    whole group as its mean. So it takes no n. NaN for N < 2.

    >>> learnability(Tally(np.array([4, 1]), np.array([1, 1])))
    array([ 1., nan])
    """
    n_G, k_G = groups
    return np.where(n_G >= 2, 4.0 * k_G * (n_G - k_G) / np.maximum(n_G * (n_G - 1), 1), np.nan)


def mean_abs_advantage(groups: Tally, n: int, epsilon: float = ADVANTAGE_EPSILON) -> Floats:
    """(G,) expected mean |GRPO advantage| of a sub-group of n >= 2: (r - mean) / (std + epsilon), std with ddof 1.

    With k of n right it is 2 p (1 - p) / (sqrt(p (1 - p) n / (n - 1)) + epsilon), p = k / n. Unlike the learnability it
    grows with n. ``epsilon`` is on the scale of the scores.

    >>> mean_abs_advantage(Tally(np.array([4]), np.array([2])), 2, epsilon=0.0).round(4)  # 2/3 live, each with sqrt(1/2)
    array([0.4714])
    """
    _at_least(n, 2, "mean_abs_advantage")

    def size(k: Ints) -> Floats:
        variance = (k / n) * (1.0 - k / n)
        std = np.sqrt(variance * n / (n - 1))
        return np.divide(2.0 * variance, std + epsilon, out=np.zeros(n + 1), where=variance > 0)

    return _expected(groups, n, size)


def in_band(groups: Tally, n: int, low: float, high: float) -> Floats:
    """(G,) probability that the pass rate of n rollouts lies in [low, high], the ends included.

    >>> in_band(Tally(np.array([4]), np.array([1])), 2, 0.3, 0.7)
    array([0.5])
    """
    if not low <= high:
        raise CurriculaError(f"in_band: expected low <= high, got [{low}, {high}]")
    return _expected(groups, n, lambda k: (k / n >= low - SLACK) & (k / n <= high + SLACK))


def live_of_scores(run: LoggedRun, n: int) -> Floats:
    """(G,) `live` for scores of any kind: 1 - sum over the values v of C(c_v, n) / C(N, n), c_v rollouts having the score v."""
    _at_least(n, 1, "live_of_scores")
    scored = np.isfinite(run.score_R)
    score, group = run.score_R[scored], run.group_R[scored]
    n_G = counts(group, len(run))
    order = np.lexsort((score, group))
    score, group = score[order], group[order]
    first = np.ones(len(score), dtype=bool)
    first[1:] = (group[1:] != group[:-1]) | (score[1:] != score[:-1])
    start = np.flatnonzero(first)
    same = np.diff(np.append(start, len(score)))
    chance = np.ones(len(start))
    for drawn in range(n):  # C(c, n) / C(N, n), factor by factor
        chance *= np.maximum(same - drawn, 0) / np.maximum(n_G[group[start]] - drawn, 1)
    equal_G = np.bincount(group[start], weights=chance, minlength=len(run))
    return np.where(n_G >= n, np.maximum(1.0 - equal_G, 0.0), np.nan)


def learnability_of_scores(run: LoggedRun) -> Floats:
    """(G,) `learnability` for scores of any kind: 4 x unbiased variance, whatever the sub-group's size."""
    scored = np.isfinite(run.score_R)
    return 4.0 * sample_variances(run.score_R[scored], run.group_R[scored], len(run))


def pilot_then_more(groups: Tally, first: int, more: int, stop_if: Literal["mixed", "equal"]) -> Stopped:
    """``first`` rollouts, and ``more`` unless they are mixed, or unless they are all equal (as SPEED does, arXiv 2506.09016).

    >>> done = pilot_then_more(Tally(np.array([4]), np.array([2])), 2, 2, "equal")
    >>> done.rollouts_G.round(4), done.live_G.round(4)  # 2/3 of the pilots are mixed
    (array([3.3333]), array([0.6667]))
    """
    _at_least(first, 1, "pilot_then_more")
    _at_least(more, 1, "pilot_then_more")
    if stop_if not in ("mixed", "equal"):
        raise CurriculaError(f"pilot_then_more: expected stop_if 'mixed' or 'equal', got {stop_if!r}")

    def done(k: Ints, failures: Ints) -> Bools:
        mixed: Bools = (k > 0) & (failures > 0)
        return mixed if stop_if == "mixed" else ~mixed

    return _walk(groups, [first, more], done)


def rounds_until(groups: Tally, per_round: int, rounds: int, n_positive: int, n_negative: int) -> Stopped:
    """Rounds until ``n_positive`` successes and ``n_negative`` failures are there, ``rounds`` at most (Reinforce-Ada, 2510.04996).

    >>> done = rounds_until(Tally(np.array([4]), np.array([1])), 2, 2, n_positive=1, n_negative=0)
    >>> done.rollouts_G, done.live_G, done.stopped_GT  # half of the first rounds hold the success
    (array([3.]), array([1.]), array([[0.5, 1. ]]))
    """
    _at_least(per_round, 1, "rounds_until")
    _at_least(rounds, 1, "rounds_until")
    return _walk(groups, [per_round] * rounds, lambda k, failures: (k >= n_positive) & (failures >= n_negative))


def _expected(groups: Tally, n: int, value: Callable[[Ints], Floats | Bools]) -> Floats:
    _at_least(n, 1, "sub-group")
    kinds, place_G = _kinds(groups)
    chance_US = _start(kinds, n)
    for drawn in range(n):
        chance_US = _drawn(chance_US, kinds, drawn)
    result_U = chance_US @ np.asarray(value(np.arange(n + 1)), dtype=np.float64)
    return np.where(kinds.n_G >= n, result_U, np.nan)[place_G]


def _walk(groups: Tally, sizes: list[int], is_done: Stops) -> Stopped:
    """All paths of (successes, failures) without replacement; a path that is done keeps its rollouts and its state."""
    kinds, place_G = _kinds(groups)
    going_US = _start(kinds, sum(sizes))
    k = np.arange(going_US.shape[1])
    rollouts_U, live_U, told_U = np.zeros(len(kinds.n_G)), np.zeros(len(kinds.n_G)), np.ones(len(kinds.n_G), dtype=bool)
    left_UT, n = [], 0
    for place, size in enumerate(sizes):
        told_U &= (n + size <= kinds.n_G) | ~going_US.any(axis=1)
        rollouts_U += size * going_US.sum(axis=1)
        for drawn in range(n, n + size):
            going_US = _drawn(going_US, kinds, drawn)
        n += size
        stopped_S = is_done(k, n - k)
        left_UT.append(going_US[:, ~stopped_S].sum(axis=1))
        ends_S = stopped_S | (place == len(sizes) - 1)
        live_U += going_US[:, ends_S & (k > 0) & (k < n)].sum(axis=1)
        going_US[:, ends_S] = 0.0
    stopped_UT = 1.0 - np.stack(left_UT, axis=1)
    return Stopped(
        np.where(told_U, rollouts_U, np.nan)[place_G],
        np.where(told_U, live_U, np.nan)[place_G],
        np.where(told_U[:, None], stopped_UT, np.nan)[place_G],
    )


def _kinds(groups: Tally) -> tuple[Tally, Ints]:
    """The different (N, k), and which of them each group is."""
    n_G, k_G = (np.asarray(column, dtype=np.int64) for column in groups)
    if n_G.shape != k_G.shape or n_G.ndim != 1 or (len(n_G) and not ((k_G >= 0) & (k_G <= n_G)).all()):
        raise CurriculaError("subsampling: expected 0 <= k <= N for every group, in two columns of one length")
    base = int(n_G.max(initial=0)) + 1
    code, place_G = np.unique(n_G * base + k_G, return_inverse=True)
    return Tally(code // base, code % base), place_G.astype(np.int64)


def _start(kinds: Tally, most: int) -> Floats:
    chance_US = np.zeros((len(kinds.n_G), most + 1))
    chance_US[:, 0] = 1.0
    return chance_US


def _drawn(chance_US: Floats, kinds: Tally, drawn: int) -> Floats:
    """One more rollout: P(s) from P(s - 1) (k - s + 1) / (N - drawn) and P(s) (N - drawn - k + s) / (N - drawn)."""
    s = np.arange(chance_US.shape[1])
    rest_U = np.maximum(kinds.n_G - drawn, 1)[:, None]
    right_US = np.clip((kinds.k_G[:, None] - s) / rest_U, 0.0, 1.0)
    next_US: Floats = chance_US * (1.0 - right_US)
    next_US[:, 1:] += (chance_US * right_US)[:, :-1]
    return next_US


def _at_least(n: int, least: int, what: str) -> None:
    if n < least:
        raise CurriculaError(f"{what}: expected {least} rollouts at least, got {n}")

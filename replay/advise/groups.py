"""Numbers per logged group that several findings read; reckoned once per run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from curricula.groups import counts
from curricula.types import Bools, Floats, Ints
from replay.subsampling import Tally
from replay.types import LoggedRun

KEPT, REJECTED = 1, 0  # of LoggedRun.kept_G
MIN_GROUPS = 20  # of a distribution, before anything is said of it: at 20 groups a share is known to about 0.2


@dataclass(frozen=True, eq=False)
class Groups:
    """What the scored rollouts of each group show. A group is judged where two of them are scored: one alone shows no signal."""

    size_G: Ints  # rollouts, scored or not
    n_G: Ints  # scored rollouts
    sum_G: Floats  # of scores
    squares_G: Floats  # sum of squared scores
    high_G: Floats  # largest score; -inf where none
    low_G: Floats
    tokens_G: Floats  # of all rollouts; NaN where one is unknown
    distribution_G: Ints
    binary: bool  # every score is 0 or 1

    @cached_property
    def judged_G(self) -> Bools:
        return np.asarray(self.n_G >= 2)

    @cached_property
    def mean_G(self) -> Floats:
        """Mean score: the pass rate where scores are binary. NaN where nothing was scored."""
        return np.where(self.n_G > 0, self.sum_G / np.maximum(self.n_G, 1), np.nan)

    @cached_property
    def noise_G(self) -> Floats:
        """Unbiased variance of `mean_G` around the group's true mean score; NaN for a group that is not judged."""
        variance = (self.squares_G - self.n_G * np.nan_to_num(self.mean_G) ** 2) / np.maximum(self.n_G - 1, 1)
        return np.where(self.judged_G, np.maximum(variance, 0.0) / np.maximum(self.n_G, 1), np.nan)

    @cached_property
    def dead_G(self) -> Floats:
        """1 where all scores are equal, 0 where they differ, NaN for a group that is not judged."""
        return np.where(self.judged_G, self.high_G <= self.low_G, np.nan)

    @cached_property
    def right_G(self) -> Floats:
        """1 where every score is 1."""
        return np.where(self.judged_G, self.low_G >= 1.0, np.nan)

    @cached_property
    def wrong_G(self) -> Floats:
        """1 where every score is 0."""
        return np.where(self.judged_G, self.high_G <= 0.0, np.nan)

    @cached_property
    def tally(self) -> Tally:
        """(N, k); for binary scores only."""
        return Tally(self.n_G, np.rint(self.sum_G).astype(np.int64))


_KNOWN: WeakKeyDictionary[LoggedRun, Groups] = WeakKeyDictionary()


def groups_of(run: LoggedRun) -> Groups:
    """The groups of a run; the same record at every call."""
    if run not in _KNOWN:
        _KNOWN[run] = _reckoned(run)
    return _KNOWN[run]


def _reckoned(run: LoggedRun) -> Groups:
    g, scored = len(run), np.isfinite(run.score_R)
    score, group = run.score_R[scored], run.group_R[scored]
    high, low = np.full(g, -np.inf), np.full(g, np.inf)
    np.maximum.at(high, group, score)
    np.minimum.at(low, group, score)
    tokens = np.where(run.n_tokens_R >= 0, run.n_tokens_R, np.nan)
    return Groups(
        size_G=counts(run.group_R, g),
        n_G=counts(group, g),
        sum_G=_summed(score, group, g),
        squares_G=_summed(score * score, group, g),
        high_G=high,
        low_G=low,
        tokens_G=_summed(tokens, run.group_R, g),
        distribution_G=run.pool.distribution_N[run.prompt_G],
        binary=bool(((score == 0.0) | (score == 1.0)).all()),
    )


def _summed(value_R: Floats, group_R: Ints, g: int) -> Floats:
    return np.asarray(np.bincount(group_R, weights=value_R, minlength=g), dtype=np.float64)


def share_of_rollouts(run: LoggedRun, flag_R: Bools) -> Floats:
    """(G,) share of the group's rollouts that have the flag; NaN for an empty group."""
    size_G = groups_of(run).size_G
    return np.where(size_G > 0, np.bincount(run.group_R[flag_R], minlength=len(run)) / np.maximum(size_G, 1), np.nan)


def distributions(run: LoggedRun, value_G: Floats, weight_G: Floats | Ints | None = None) -> tuple[Floats, Ints]:
    """(K,) mean of the value per distribution, NaN where there is none, and (K,) groups that have a value."""
    groups, k = groups_of(run), run.pool.n_distributions
    has = np.isfinite(value_G)
    weight = np.ones(len(run)) if weight_G is None else np.asarray(weight_G, dtype=np.float64)
    at = groups.distribution_G[has]
    total = np.bincount(at, weights=(value_G * weight)[has], minlength=k)
    mass = np.bincount(at, weights=weight[has], minlength=k)
    return np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), np.nan), counts(at, k)


def of_distribution(run: LoggedRun, value_G: Floats, k: int) -> Floats:
    """(G,) the value in groups of distribution k, NaN in the others."""
    return np.where(groups_of(run).distribution_G == k, value_G, np.nan)


def visits_per_prompt(run: LoggedRun) -> float:
    """Groups per prompt, over the prompts that came at all."""
    n_prompts = int((np.bincount(run.prompt_G, minlength=1) > 0).sum())
    return len(run) / max(n_prompts, 1)


def next_visits(run: LoggedRun) -> tuple[Ints, Ints]:
    """Places of the groups that follow one another at the same prompt: (P,) earlier, (P,) later. By step, attempt, row."""
    order = np.lexsort((run.attempt_G, run.step_G, run.prompt_G))
    same = run.prompt_G[order][1:] == run.prompt_G[order][:-1]
    return order[:-1][same], order[1:][same]

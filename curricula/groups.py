"""Reductions over ragged groups: rollouts are a flat axis R, ``group_R`` says to which of B groups each belongs.

No reshape anywhere, so groups of unequal size, partial groups and empty groups need no special case.
"""

from __future__ import annotations

import numpy as np

from curricula.types import Feedback, Floats, Ints, Outcome

ADVANTAGE_EPSILON = 1e-6  # on the raw reward's scale, as in verl


def counts(group_R: Ints, n_groups: int) -> Ints:
    """(B,) entries per group."""
    return np.bincount(group_R, minlength=n_groups).astype(np.int64)


def means(value_R: Floats, group_R: Ints, n_groups: int) -> Floats:
    """(B,) mean per group; NaN for an empty group.

    >>> means(np.array([1.0, 0.0, 1.0]), np.array([0, 0, 2]), 3)
    array([0.5, nan, 1. ])
    """
    total = np.bincount(group_R, weights=value_R, minlength=n_groups)
    with np.errstate(invalid="ignore"):
        return total / counts(group_R, n_groups)


def sample_variances(value_R: Floats, group_R: Ints, n_groups: int) -> Floats:
    """(B,) unbiased variance (ddof 1) in two passes; NaN for groups with fewer than two entries."""
    deviation = value_R - means(value_R, group_R, n_groups)[group_R]
    n_B = counts(group_R, n_groups)
    squares = np.bincount(group_R, weights=deviation * deviation, minlength=n_groups)
    return np.where(n_B >= 2, squares / np.maximum(n_B - 1, 1), np.nan)


def spreads(value_R: Floats, group_R: Ints, n_groups: int) -> Floats:
    """(B,) largest minus smallest value; -inf for an empty group."""
    high, low = np.full(n_groups, -np.inf), np.full(n_groups, np.inf)
    np.maximum.at(high, group_R, value_R)
    np.minimum.at(low, group_R, value_R)
    width_B: Floats = high - low
    return width_B


def scored(outcome: Outcome) -> tuple[Floats, Ints]:
    """Scores and groups of the rollouts that carry a reward."""
    return outcome.score_R[outcome.ok_R], outcome.group_R[outcome.ok_R]


def n_scored(outcome: Outcome) -> Ints:
    """(B,) rollouts with a reward."""
    return counts(outcome.group_R[outcome.ok_R], len(outcome.plan))


def pass_rates(outcome: Outcome) -> Floats:
    """(B,) mean score in [0, 1]; the pass rate where rewards are binary. NaN where nothing was scored."""
    return means(*scored(outcome), len(outcome.plan))


def score_spreads(outcome: Outcome) -> Floats:
    """(B,) largest minus smallest score; 0 where all rewards are equal, -inf where nothing was scored."""
    return spreads(*scored(outcome), len(outcome.plan))


def learnability(outcome: Outcome) -> Floats:
    """(B,) 4 x unbiased sample variance of the score; NaN for fewer than two scored rollouts.

    Its expectation is 4 p (1 - p) for binary rewards whatever the group size (k (N - k) / (N (N - 1)) is unbiased for p (1 - p)),
    unlike the mean |advantage|, which grows with the size. Ours.
    """
    return 4.0 * sample_variances(*scored(outcome), len(outcome.plan))


def relative_variances(outcome: Outcome) -> Floats:
    """(B,) variance of the scores as a share of the most that a group of this size can have: in [0, 1]; NaN for fewer than two.

    For k correct of N binary rewards it is k (N - k) / (floor(N / 2) ceil(N / 2)).
    """
    n_B = n_scored(outcome)
    most_B = (n_B // 2) * ((n_B + 1) // 2) / np.maximum(n_B * (n_B - 1), 1)
    return np.asarray(sample_variances(*scored(outcome), len(outcome.plan)) / np.where(n_B >= 2, most_B, np.nan))


def normalised_advantages(outcome: Outcome) -> Floats:
    """(R,) GRPO advantage (r - mean) / (std + 1e-6) from raw rewards, std with ddof 1; NaN for unscored rollouts and singletons."""
    low, high = outcome.reward_range
    score, group = scored(outcome)
    mean = means(score, group, len(outcome.plan))
    std = np.sqrt(sample_variances(score, group, len(outcome.plan)))
    advantage_R = np.full(len(outcome.group_R), np.nan)
    advantage_R[outcome.ok_R] = (score - mean[group]) / (std[group] + ADVANTAGE_EPSILON / (high - low))
    return advantage_R


def abs_advantages(feedback: Feedback) -> Floats:
    """(R,) |advantage| as the host computed it, or GRPO's own where the host gave none; NaN where undefined."""
    given = feedback.advantage_R
    return np.abs(normalised_advantages(feedback.outcome) if given is None else given)


def mean_abs_advantages(feedback: Feedback) -> Floats:
    """(B,) mean |advantage| over the rollouts that have one; NaN where none has."""
    value_R = abs_advantages(feedback)
    has = np.isfinite(value_R)
    return means(value_R[has], feedback.outcome.group_R[has], len(feedback.plan))

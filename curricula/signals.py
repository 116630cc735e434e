"""What a bandit over distributions reads from a feedback: how much there was to learn from a group."""

from __future__ import annotations

from typing import Literal

import numpy as np

from curricula import groups
from curricula.types import Feedback, Floats, Ints

Signal = Literal["learnability", "mean_abs_advantage"]


def group_signal(feedback: Feedback, signal: Signal) -> Floats:
    """(B,) signal per group; NaN where the group carries none (fewer than two scored rollouts)."""
    return groups.learnability(feedback.outcome) if signal == "learnability" else groups.mean_abs_advantages(feedback)


def rollout_signal(feedback: Feedback, signal: Signal) -> Floats:
    """(R,) signal per rollout: its |advantage|, or its group's learnability; NaN where there is none."""
    if signal == "mean_abs_advantage":
        return groups.abs_advantages(feedback)
    value_R = groups.learnability(feedback.outcome)[feedback.outcome.group_R]
    return np.where(feedback.outcome.ok_R, value_R, np.nan)


def distribution_means(value: Floats, arm: Ints, n_distributions: int) -> Floats:
    """(K,) mean of the finite values per distribution; NaN where a distribution has none."""
    has = np.isfinite(value)
    return groups.means(value[has], arm[has], n_distributions)


def softmax(score_K: Floats, temperature: float) -> Floats:
    """(K,) exp(score / temperature), normalised; the largest score is subtracted first, so nothing overflows.

    >>> softmax(np.array([1e308, 0.0]), 1e-4)
    array([1., 0.])
    """
    with np.errstate(over="ignore"):
        weight_K: Floats = np.exp((score_K - score_K.max()) / temperature)
    weight_K /= weight_K.sum()
    return weight_K

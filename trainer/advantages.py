"""Advantages by explicit group: groups may have any size, in any order, and may be incomplete or empty."""

from __future__ import annotations

import numpy as np

from curricula.types import Bools, CurriculaError, Floats, Ints, known_or_raise

KINDS = ("grpo", "dr_grpo", "rloo", "remax")
STD_FLOOR = 1e-6  # added to the standard deviation (verl's value)


def group_advantages(
    kind: str, reward_R: Floats, group_R: Ints, scored_R: Bools, n_groups: int, baseline_B: Floats | None = None
) -> Floats:
    """(R,) how much better each rollout is than its group; ``group_R`` holds places 0..n_groups-1.

    With r the scored rewards of a group of size G, and their sample standard deviation (ddof 1):
    ``grpo`` (r - mean) / (std + 1e-6), arXiv 2402.03300; ``dr_grpo`` r - mean, arXiv 2503.20783;
    ``rloo`` G / (G - 1) (r - mean), arXiv 2402.14740. Equal rewards give exactly 0. Rollouts without a score, and groups with fewer
    than two scores (see `lacks_peers`), get 0.
    ``remax`` r - baseline, arXiv 2310.10505: the reward of the group's greedy completion, on the same scale; one score is enough.
    A group without a baseline (NaN, or none given) gets 0.

    >>> group_advantages("grpo", np.array([1.0, 0, 0, 0]), np.zeros(4, int), np.ones(4, bool), 1).round(4)
    array([ 1.5, -0.5, -0.5, -0.5])

    Errors: CurriculaError when a scored reward is not finite.
    """
    known_or_raise("advantage", kind, KINDS)
    _refuse_non_finite(reward_R, group_R, scored_R)
    if kind == "remax":
        return _above_baseline(reward_R, group_R, scored_R, baseline_B)
    place_R = group_R[scored_R]
    advantage_R = np.zeros(len(reward_R))
    advantage_R[scored_R] = _scaled(kind, _centred(reward_R[scored_R], place_R, n_groups), place_R, n_groups)
    return advantage_R


def lacks_peers(group_R: Ints, scored_R: Bools, n_groups: int) -> Bools:
    """(R,) rollouts whose advantage is 0 for want of a comparison: not scored, or fewer than two scores in the group."""
    n_B = np.bincount(group_R[scored_R], minlength=n_groups)
    return ~scored_R | (n_B[group_R] < 2)


def _above_baseline(reward_R: Floats, group_R: Ints, scored_R: Bools, baseline_B: Floats | None) -> Floats:
    if baseline_B is None:
        return np.zeros(len(reward_R))
    above_R = reward_R - baseline_B[group_R]
    return np.where(scored_R & np.isfinite(above_R), above_R, 0.0)


def _centred(reward_R: Floats, place_R: Ints, n_groups: int) -> Floats:
    """Reward minus the group's mean.

    The group's minimum is taken off first, so that equal rewards are exactly 0 whatever their mean rounds to.
    """
    low_B = np.full(n_groups, np.inf)
    np.minimum.at(low_B, place_R, reward_R)
    above_R = reward_R - low_B[place_R]
    n_B = np.bincount(place_R, minlength=n_groups)
    mean_B = np.bincount(place_R, above_R, minlength=n_groups) / np.maximum(n_B, 1)
    centred_R: Floats = above_R - mean_B[place_R]
    return centred_R


def _scaled(kind: str, centred_R: Floats, place_R: Ints, n_groups: int) -> Floats:
    if kind == "dr_grpo":
        return centred_R
    n_B = np.bincount(place_R, minlength=n_groups)
    others_B = np.maximum(n_B - 1, 1)  # a group of one is centred to 0, so its divisor does not matter
    if kind == "rloo":
        return np.asarray(centred_R * (n_B / others_B)[place_R])
    std_B = np.sqrt(np.bincount(place_R, centred_R**2, minlength=n_groups) / others_B)
    return np.asarray(centred_R / (std_B[place_R] + STD_FLOOR))


def _refuse_non_finite(reward_R: Floats, group_R: Ints, scored_R: Bools) -> None:
    bad = np.flatnonzero(scored_R & ~np.isfinite(reward_R))
    if len(bad):
        r = int(bad[0])
        raise CurriculaError(
            f"advantages: rollout {r} of group {group_R[r]} is scored but its reward is {reward_R[r]} ({len(bad)} such rollouts); "
            "expected a finite number; give rollouts without a reward another status"
        )

"""Advantages by explicit group: groups may have any size, in any order, and may be incomplete or empty."""

from __future__ import annotations

import numpy as np

from curricula.types import Bools, CurriculaError, Floats, Ints, Outcome, known_or_raise

KINDS = ("grpo", "dr_grpo", "rloo", "remax", "opo", "oblr", "oblr_logits")
WEIGHTED = ("opo", "oblr", "oblr_logits")  # baselines weigh rollouts by their gradients, see `trainer.gradient_weights`
STD_FLOOR = 1e-6  # added to the standard deviation (verl's value)
LEAST_WEIGHT = (
    1e-3  # no sum over the others is lost to rounding; not relative to the group, as a rollout's own weight may not count
)


def feedback_advantages(kind: str, outcome: Outcome) -> Floats:
    """(R,) the advantages that a run gives to its curriculum: of raw rewards, NaN where there is none. The log has all they need.

    Where rollouts are weighed it is by their tokens, as policies read logs, which have no log-probabilities per token.
    """
    advantage_R = group_advantages(
        kind,
        outcome.reward_R,
        outcome.group_R,
        outcome.ok_R,
        len(outcome.plan),
        baseline_B=outcome.baseline_B,
        weight_R=outcome.n_tokens_R.astype(np.float64),
    )
    return np.where(outcome.ok_R, advantage_R, np.nan)


def group_advantages(
    kind: str,
    reward_R: Floats,
    group_R: Ints,
    scored_R: Bools,
    n_groups: int,
    baseline_B: Floats | None = None,
    weight_R: Floats | None = None,
) -> Floats:
    """(R,) how much better each rollout is than its group; ``group_R`` holds places 0..n_groups-1.

    With r the scored rewards of a group of size G, and their sample standard deviation (ddof 1):
    ``grpo`` (r - mean) / (std + 1e-6), arXiv 2402.03300; ``dr_grpo`` r - mean, arXiv 2503.20783;
    ``rloo`` G / (G - 1) (r - mean), arXiv 2402.14740. Equal rewards give exactly 0. Rollouts without a score, and groups with fewer
    than two scores (see `lacks_peers`), get 0.
    ``remax`` r - baseline, arXiv 2310.10505: the reward of the group's greedy completion, on the same scale; one score is enough.
    A group without a baseline (NaN, or none given) gets 0.
    ``opo`` r - sum(w r) / sum(w), arXiv 2505.23585, with ``weight_R`` w the squared norm of each rollout's gradient up to a factor,
    from the tokens that it drew (equal weights by default): the baseline of least variance. A rollout's own reward is in its
    baseline, so the gradient is biased, as that of ``dr_grpo`` is by the factor 1 - 1/G. ``oblr`` sums over the others alone: their
    mean is independent of the rollout, so the gradient is unbiased whatever the weights (b* = E[w r] / E[w] is that of arXiv
    2511.23310; leaving out is ours, ``rloo`` where weights are equal). ``oblr_logits``: the same with the weights of
    `trainer.gradient_weights.by_logits`.

    >>> group_advantages("grpo", np.array([1.0, 0, 0, 0]), np.zeros(4, int), np.ones(4, bool), 1).round(4)
    array([ 1.5, -0.5, -0.5, -0.5])

    Errors: CurriculaError when a scored reward is not finite, or its weight negative or not finite.
    """
    known_or_raise("advantage", kind, KINDS)
    _refuse_non_finite(reward_R, group_R, scored_R)
    if kind == "remax":
        return _above_baseline(reward_R, group_R, scored_R, baseline_B)
    place_R = group_R[scored_R]
    advantage_R = np.zeros(len(reward_R))
    if kind in WEIGHTED:
        weight_R = np.ones(len(reward_R)) if weight_R is None else weight_R
        _refuse_bad_weights(weight_R, group_R, scored_R)
        advantage_R[scored_R] = _above_weighted_mean(kind != "opo", reward_R[scored_R], place_R, weight_R[scored_R], n_groups)
        return advantage_R
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


def _above_weighted_mean(leave_out: bool, reward_R: Floats, place_R: Ints, weight_R: Floats, n_groups: int) -> Floats:
    """Reward minus the weighted mean of the group, or of its other rollouts; equal rewards give exactly 0, as in `_centred`."""
    above_R = reward_R - _lowest(reward_R, place_R, n_groups)[place_R]
    weight_R = np.maximum(weight_R, LEAST_WEIGHT)
    total_R = np.bincount(place_R, weight_R, minlength=n_groups)[place_R]
    sum_R = np.bincount(place_R, weight_R * above_R, minlength=n_groups)[place_R]
    if not leave_out:
        return np.asarray(above_R - sum_R / total_R)
    alone_R = np.bincount(place_R, minlength=n_groups)[place_R] < 2
    others_R = np.where(alone_R, 1.0, total_R - weight_R)
    return np.where(alone_R, 0.0, above_R - (sum_R - weight_R * above_R) / others_R)


def _lowest(reward_R: Floats, place_R: Ints, n_groups: int) -> Floats:
    """(B,) the smallest reward of each group, inf where there is none."""
    low_B = np.full(n_groups, np.inf)
    np.minimum.at(low_B, place_R, reward_R)
    return low_B


def _centred(reward_R: Floats, place_R: Ints, n_groups: int) -> Floats:
    """Reward minus the group's mean.

    The group's minimum is taken off first, so that equal rewards are exactly 0 whatever their mean rounds to.
    """
    above_R = reward_R - _lowest(reward_R, place_R, n_groups)[place_R]
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


def _refuse_bad_weights(weight_R: Floats, group_R: Ints, scored_R: Bools) -> None:
    bad = np.flatnonzero(scored_R & ~(np.isfinite(weight_R) & (weight_R >= 0)))
    if len(bad):
        r = int(bad[0])
        raise CurriculaError(
            f"advantages: rollout {r} of group {group_R[r]} has weight {weight_R[r]} ({len(bad)} such rollouts); expected a finite "
            "number >= 0, such as the tokens that it drew"
        )

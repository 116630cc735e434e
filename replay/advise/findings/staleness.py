"""Rollouts made by weights that were no longer the newest."""

from __future__ import annotations

import numpy as np

from curricula.groups import spreads
from curricula.types import Ints
from replay.advise import register
from replay.advise.finding import Finding, Suggestion, counted, not_estimable, number, percent
from replay.advise.groups import groups_of, share_of_rollouts
from replay.advise.intervals import has_steps, mean_of
from replay.types import LoggedRun

NOTICED = 0.05  # share of rollouts below which staleness is a matter of a few stragglers
FEWEST_STEPS = 5  # in which versions follow steps at a fixed distance, before that counts as a delay
FAR = 4.0  # updates of mean lag from which importance weights of a clipped loss are mostly at their cap. Ours, a guess


@register
def staleness(run: LoggedRun) -> Finding | None:
    """Lag of each rollout behind the newest policy version that the log shows or implies; the true lag may be larger."""
    known = run.policy_version_R >= 0
    if "policy version" in run.lacks or not has_steps(run) or not known.all():
        lacks = [] if "policy version" not in run.lacks and known.all() else ["policy version"]
        return not_estimable(
            "staleness", "how old the weights behind the rollouts were", lacks + ([] if has_steps(run) else ["step"])
        )
    lag_R = _lag(run)
    stale = mean_of(run, share_of_rollouts(run, lag_R > 0), groups_of(run).size_G)
    if not stale.value >= NOTICED:
        return None
    size = groups_of(run).size_G
    lag_G = np.bincount(run.group_R, weights=lag_R, minlength=len(run)) / np.maximum(size, 1)
    lag = mean_of(run, np.where(size > 0, lag_G, np.nan), size, (0, float("inf")))
    mixed = mean_of(run, np.where(size > 0, spreads(run.policy_version_R.astype(np.float64), run.group_R, len(run)) > 0, np.nan))
    return Finding(
        "staleness",
        "medium" if lag.low > FAR else "low",
        f"{percent(stale)} of the rollouts were made by weights older than the newest, by {lag.value:.2g} updates "
        f"on average over all rollouts and up to {lag_R.max()}; {percent(mixed)} of the groups mix versions.",
        (
            number("rollouts behind the newest version, at least", "share of rollouts", stale),
            number("lag", "updates", lag),
            counted("largest lag", float(lag_R.max()), "updates", len(lag_R), "rollouts"),
            number("groups of several versions", "share of groups", mixed),
        ),
        (
            Suggestion("rollouts of the newest weights only; engines wait for the update", setting="run.mode=on_policy"),
            Suggestion("where the lag is wanted: weights of stale rollouts are cut", setting="learner.importance_cap=2.0"),
        ),
        "versions that count something else than updates of the weights, or first steps that made no update",
    )


def _lag(run: LoggedRun) -> Ints:
    """(R,) updates between the weights that drew a rollout and those that learned from it, as far as the log shows."""
    steps, place_G = np.unique(run.step_G, return_inverse=True)
    newest_T = np.zeros(len(steps), dtype=np.int64)
    np.maximum.at(newest_T, place_G[run.group_R], run.policy_version_R)
    newest_T = np.maximum.accumulate(newest_T)
    learner_T = newest_T + _ahead(steps, newest_T)
    lag_R: Ints = learner_T[place_G[run.group_R]] - run.policy_version_R
    return lag_R


def _ahead(steps: Ints, newest_T: Ints) -> Ints:
    """(T,) updates that no rollout of the step had seen, where versions follow the steps at a fixed distance; else 0.

    Updates per step u and delay d fit when the newest version of step t is u max(t - d, 0) in every step from 0 on.
    """
    none = np.zeros(len(steps), dtype=np.int64)
    if len(steps) < FEWEST_STEPS or steps[0] != 0 or newest_T[0] != 0 or newest_T[-1] == 0:
        return none
    delay = int(steps[newest_T == 0][-1])
    updates = int(newest_T[-1] // max(steps[-1] - delay, 1))
    fits = np.array_equal(newest_T, updates * np.maximum(steps - delay, 0))
    return updates * steps - newest_T if fits else none

"""A logged run as the decisions that made it: plan after plan, as outcomes that a curriculum can learn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from curricula.types import CurriculaError, Floats, Ints, Outcome, RolloutPlan, Selection, group_ids
from replay.types import LoggedRun


class Decision(NamedTuple):
    """The groups of one plan, and what came of them."""

    step: int
    attempt: int
    group_B: Ints  # places in the run's group columns
    rollout_R: Ints  # places in the run's rollout columns, group by group, in logged order
    outcome: Outcome


def decisions(run: LoggedRun) -> Iterator[Decision]:
    """All decisions in their order. A prompt that comes twice in one goes on as a later attempt: a plan has each prompt once.

    What the log does not say is filled in so that policies can learn from it: a propensity of 1, arm probabilities as even as the
    known ones allow, and no tokens. Estimates read the run's own columns, where it stays unknown.

    Errors: CurriculaError when the log lacks steps, or has them out of order.
    """
    run.needs("step")
    attempt_G = _attempts(run)
    order = np.lexsort((np.arange(len(run)), attempt_G, run.step_G))
    starts = np.flatnonzero(np.diff(run.step_G[order], prepend=-1) | np.diff(attempt_G[order], prepend=-1))
    by_group = np.argsort(run.group_R, kind="stable")
    first_G = np.searchsorted(run.group_R[by_group], np.arange(len(run) + 1))
    for group_B in np.split(order, starts[1:]):
        n_B = first_G[group_B + 1] - first_G[group_B]
        within = np.arange(int(n_B.sum())) - np.repeat(np.cumsum(n_B) - n_B, n_B)
        rollout_R = by_group[np.repeat(first_G[group_B], n_B) + within]
        step, attempt = int(run.step_G[group_B[0]]), int(attempt_G[group_B[0]])
        yield Decision(step, attempt, group_B, rollout_R, _outcome(run, (step, attempt), group_B, n_B, rollout_R))


def _attempts(run: LoggedRun) -> Ints:
    """(G,) the logged attempt, counted on where a prompt comes again in it."""
    order = np.lexsort((np.arange(len(run)), run.prompt_G, run.attempt_G, run.step_G))
    columns = np.stack([run.step_G[order], run.attempt_G[order], run.prompt_G[order]])
    same = np.concatenate([[False], (columns[:, 1:] == columns[:, :-1]).all(axis=0)])
    if not same.any():
        return run.attempt_G
    place = np.arange(len(run))
    again = place - np.maximum.accumulate(np.where(same, 0, place))
    if again.max() >= 2**11:
        g = int(order[int(again.argmax())])
        raise CurriculaError(
            f"{run.source}: prompt {run.pool.ids[run.prompt_G[g]]!r} has {again.max() + 1} groups in step {run.step_G[g]}; "
            "expected one or a few; is it the number of the step?"
        )
    most = int(run.attempt_G.max(initial=0)) + 1
    attempt_G = run.attempt_G.copy()
    attempt_G[order] += again * most
    return attempt_G


def _outcome(run: LoggedRun, place: tuple[int, int], group_B: Ints, n_B: Ints, rollout_R: Ints) -> Outcome:
    prompt_B, propensity_B = run.prompt_G[group_B], run.propensity_G[group_B]
    distribution_B = run.pool.distribution_N[prompt_B]
    plan = RolloutPlan(
        step=place[0],
        attempt=place[1],
        round=0,
        selection=Selection(prompt_B, distribution_B, np.where(np.isfinite(propensity_B), propensity_B, 1.0)),
        n_rollouts_B=n_B,
        group_B=group_ids(*place, len(group_B)),
        probability_K=_probabilities(run, distribution_B, run.arm_probability_G[group_B]),
    )
    return Outcome(
        plan=plan,
        group_R=np.repeat(np.arange(len(group_B)), n_B),
        reward_R=run.reward_R[rollout_R],
        status_R=run.status_R[rollout_R],
        n_tokens_R=np.maximum(run.n_tokens_R[rollout_R], 0),
        policy_version_R=np.maximum(run.policy_version_R[rollout_R], 0),
        reward_range=run.reward_range,
    )


def _probabilities(run: LoggedRun, distribution_B: Ints, probability_B: Floats) -> Floats:
    """(K,) those of the arms that were drawn, the rest shared evenly among the others; by the groups where the log says none."""
    k = run.pool.n_distributions
    if not np.isfinite(probability_B).all():
        return (np.bincount(distribution_B, minlength=k) + 1.0) / (len(distribution_B) + k)
    probability_K = np.full(k, np.nan)
    probability_K[distribution_B] = probability_B
    unknown_K = np.isnan(probability_K)
    if unknown_K.any():
        probability_K[unknown_K] = max(1.0 - float(np.nansum(probability_K)), 0.0) / unknown_K.sum()
    return probability_K

"""What was rolled out and then rejected."""

from __future__ import annotations

import numpy as np

from replay.advise import register
from replay.advise.finding import Finding, Number, Suggestion, counted, not_estimable, number, percent
from replay.advise.groups import KEPT, REJECTED, groups_of, visits_per_prompt
from replay.advise.intervals import has_steps, mean_of
from replay.types import LoggedRun

NOTICED = 0.05  # share of rejected rollouts below which a filter costs next to nothing
DEAR = 0.40  # more than 1.7 rollouts drawn per rollout trained on
ALIVE = 0.2  # of the rejected groups had signal: more than a filter on equal scores throws away
RETURNS = 2.0  # visits per prompt from which a dead prompt can be skipped at its next turn


@register
def filter_waste(run: LoggedRun) -> Finding | None:
    """Rollouts of rejected groups, whether those had signal, and attempts per step."""
    known = run.kept_G != 2
    if "rejected groups" in run.lacks or not known.any():
        lack = "rejected groups" if "rejected groups" in run.lacks else "which groups entered the update"
        return not_estimable("filter_waste", "what a filter rejected", [lack])
    groups = groups_of(run)
    rejected_G = np.where(known, run.kept_G == REJECTED, np.nan)
    wasted = mean_of(run, rejected_G, groups.size_G)
    if not wasted.value >= NOTICED:
        return None
    alive = mean_of(run, np.where(run.kept_G == REJECTED, 1.0 - groups.dead_G, np.nan))
    drawn = f"{1 / (1 - wasted.value):.2g} rollouts drawn per rollout kept" if wasted.value < 1 else "nothing was kept"
    evidence = [
        number("rollouts of rejected groups", "share of rollouts", wasted),
        number("rejected groups that had signal", "share of groups", alive),
        counted("groups kept", float((run.kept_G == KEPT).sum()), "groups", int(known.sum()), "groups"),
    ]
    if "tokens" not in run.lacks and np.isfinite(groups.tokens_G).any():
        evidence.append(number("tokens of rejected groups", "share of tokens", mean_of(run, rejected_G, groups.tokens_G)))
    attempts = _attempts(run)
    evidence += attempts
    refills = f" A step took {attempts[0].value:.2g} attempts." if attempts else ""
    return Finding(
        "filter_waste",
        "high" if wasted.low > DEAR else "medium",
        f"{percent(wasted)} of the rollouts belong to rejected groups ({drawn}); {percent(alive)} of those groups had "
        f"signal.{refills}",
        tuple(evidence),
        _suggestions(run, alive.low > ALIVE),
        "equal-rollout runs in which the filtered one ends higher: fuller batches can be worth their price, which a log cannot "
        "show",
    )


def _attempts(run: LoggedRun) -> list[Number]:
    """Plans per step, where there was any refill."""
    if not has_steps(run) or not run.attempt_G.any():
        return []
    steps, place = np.unique(run.step_G, return_inverse=True)
    last = np.zeros(len(steps), dtype=np.int64)
    np.maximum.at(last, place, run.attempt_G)
    return [counted("attempts per step", float(last.mean()) + 1, "attempts", len(steps), "steps")]


def _suggestions(run: LoggedRun, alive: bool) -> tuple[Suggestion, ...]:
    found = []
    if alive:
        found.append(
            Suggestion(
                "it rejects groups of equal scores alone; the filter here threw live ones away too", recipe="nonzero_variance"
            )
        )
    elif visits_per_prompt(run) >= RETURNS:
        found.append(
            Suggestion("prompts come back, so those that were dead can be left out before they are rolled out", recipe="greso")
        )
    if run.pool.n_distributions > 1:
        found.append(Suggestion("it chooses where signal is instead of paying for groups and rejecting them", recipe="dump_ucb"))
    found.append(Suggestion("no filter: the same rollouts make more updates", recipe="uniform"))
    return tuple(found)

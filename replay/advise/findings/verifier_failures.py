"""Rollouts without a score because a verifier or an engine failed."""

from __future__ import annotations

import numpy as np

from curricula.types import Status
from replay.advise import register
from replay.advise.finding import Finding, Suggestion, listed, not_estimable, number, percent
from replay.advise.groups import MIN_GROUPS, distributions, groups_of, of_distribution, share_of_rollouts
from replay.advise.intervals import mean_of
from replay.types import LoggedRun

NOTICED = 0.005  # share of rollouts: one in 200 costs a group of 8 a member in every 25th
MUCH = 0.05  # the share of a step at which a run should stop rather than train on what is left
FAILURES = (Status.TIMEOUT, Status.ERROR, Status.INVALID, Status.LOST)
REMEDY = {
    Status.TIMEOUT: Suggestion(
        "the verifier was killed at its deadline", change="read answers that time out, then set rollout.verifier.deadline_s"
    ),
    Status.ERROR: Suggestion(
        "the verifier raised: its message is in the trainer's log", change="mend the verifier for these answers"
    ),
    Status.INVALID: Suggestion("the verifier gave no finite number", change="mend the reward function for these answers"),
    Status.LOST: Suggestion("engines died and retries ran out", change="look for engines out of memory"),
}


@register
def verifier_failures(run: LoggedRun) -> Finding | None:
    """Share of rollouts per kind of failure, and the distributions where they are."""
    failed_R = np.isin(run.status_R, FAILURES)
    if "status" in run.lacks and not failed_R.any():
        return not_estimable("verifier_failures", "how many rollouts have no score because something failed", ["status"])
    size, share_G = groups_of(run).size_G, share_of_rollouts(run, failed_R)
    failed = mean_of(run, share_G, size)
    if not failed.value >= NOTICED:
        return None
    kinds = [status for status in FAILURES if (run.status_R == status).any()]
    of_kind = {kind: mean_of(run, share_of_rollouts(run, run.status_R == kind), size) for kind in kinds}
    share_K, n_K = distributions(run, share_G, size)
    worse = [int(k) for k in np.argsort(-np.nan_to_num(share_K)) if n_K[k] >= MIN_GROUPS and share_K[k] > 2 * failed.value]
    sentence = f"{percent(failed)} of the rollouts have no score: " + ", ".join(
        f"{100 * share.value:.2g} % {kind.name.lower()}" for kind, share in of_kind.items()
    )
    if worse:
        sentence += f"; most in {listed([f'{run.pool.distribution_names[k]} {100 * share_K[k]:.2g} %' for k in worse])}"
    return Finding(
        "verifier_failures",
        "high" if failed.low > MUCH else "medium",
        sentence + ".",
        (
            number("rollouts that failed", "share of rollouts", failed),
            *(number(kind.name.lower(), "share of rollouts", share) for kind, share in of_kind.items()),
            *(
                number(
                    f"failed in {run.pool.distribution_names[k]}",
                    "share of rollouts",
                    mean_of(run, of_distribution(run, share_G, k), size),
                )
                for k in worse[:5]
            ),
        ),
        tuple(REMEDY[kind] for kind in sorted(kinds, key=lambda kind: -of_kind[kind].value)),
        "failures that fall on right and wrong answers alike: then groups are smaller, but not biased",
    )

"""Distributions that the model has mastered."""

from __future__ import annotations

import numpy as np

from replay.advise import register
from replay.advise.finding import Finding, Suggestion, listed, number, percent
from replay.advise.groups import MIN_GROUPS, distributions, groups_of, of_distribution
from replay.advise.intervals import mean_of
from replay.types import LoggedRun

MASTERED = 0.9  # mean score; at 0.9 a group of 8 is all right with probability 0.43, at 0.95 with 0.66


@register
def saturated(run: LoggedRun) -> Finding | None:
    """Distributions with a mean score from `MASTERED` on, and what they were given; low severity while no interval is past it."""
    groups = groups_of(run)
    mean_K, n_K = distributions(run, groups.mean_G, groups.n_G)
    found = {
        int(k): mean_of(run, of_distribution(run, groups.mean_G, int(k)), groups.n_G)
        for k in np.flatnonzero((n_K >= MIN_GROUPS) & (np.nan_to_num(mean_K) >= MASTERED))
    }
    if not found:
        return None
    right_G = np.where(groups.n_G > 0, groups.low_G >= 1.0, np.nan)
    names = [run.pool.distribution_names[k] for k in found]
    inside = np.isin(groups.distribution_G, list(found)).astype(np.float64)
    spent = mean_of(run, inside, groups.size_G)
    others = int((n_K > 0).sum()) - len(found)
    suggestions = (
        Suggestion("arms whose groups have signal get the places of arms that have none", recipe="dump_ucb")
        if others
        else Suggestion("all that was visited is nearly always right", change="add harder levels"),
    )
    return Finding(
        "saturated",
        "low" if not any(score.low >= MASTERED for score in found.values()) else "high" if spent.low > 0.5 else "medium",
        f"Nearly always right: {listed(names)}; {percent(spent)} of the rollouts went there.",
        (
            number("rollouts spent there", "share of rollouts", spent),
            *(number(f"mean score in {run.pool.distribution_names[k]}", "score", found[k]) for k in list(found)[:5]),
            *(
                number(
                    f"all right in {run.pool.distribution_names[k]}",
                    "share of groups",
                    mean_of(run, of_distribution(run, right_G, k)),
                )
                for k in list(found)[:5]
            ),
        ),
        suggestions,
        "scores there that fall when the distribution is left out: then it was being kept up, not wasted",
    )

"""Distributions that hardly got a group."""

from __future__ import annotations

import numpy as np

from curricula.groups import counts
from replay.advise import register
from replay.advise.finding import Finding, Suggestion, counted, listed, number
from replay.advise.groups import MIN_GROUPS, groups_of
from replay.advise.intervals import mean_of
from replay.types import LoggedRun

HARDLY = 0.1  # of what an even split over distributions, or over prompts, would have given: below both


@register
def rarely_visited(run: LoggedRun) -> Finding | None:
    """Distributions with less than a tenth of an even share of the groups, where an even share is `MIN_GROUPS` at least."""
    pool, at = run.pool, groups_of(run).distribution_G
    if pool.n_distributions < 2 or "rejected groups" in run.lacks:
        return None
    n_K = counts(at, pool.n_distributions)
    even_K = len(run) * np.minimum(1.0 / pool.n_distributions, pool.size_K / len(pool))
    rare = np.flatnonzero((even_K >= MIN_GROUPS) & (n_K < HARDLY * even_K))
    if len(rare) == 0:
        return None
    names = [f"{pool.distribution_names[k]} ({n_K[k]})" for k in rare]
    share = mean_of(run, np.isin(at, rare).astype(np.float64))
    return Finding(
        "rarely_visited",
        "medium" if (n_K[rare] == 0).any() else "low",
        f"Hardly visited: {listed(names)} of {len(run):,} groups. What the model can do there is not known.",
        (
            number("groups given to them together", "share of groups", share),
            *(counted(f"groups of {pool.distribution_names[k]}", n_K[k], "groups", len(run), "groups") for k in rare[:5]),
        ),
        (
            Suggestion("a share of every plan that is spread evenly keeps each distribution in sight", change="exploration 0.05"),
            Suggestion("its bonus returns to arms that it has not drawn for long", recipe="dump_ucb"),
        ),
        "a curriculum that leaves them out on purpose, with results of its own there",
    )

"""Distributions in which next to nothing is right."""

from __future__ import annotations

import numpy as np

from replay.advise import register
from replay.advise.finding import Finding, Suggestion, listed, number, percent
from replay.advise.groups import MIN_GROUPS, distributions, groups_of, of_distribution
from replay.advise.intervals import mean_of
from replay.types import LoggedRun

HOPELESS = 0.05  # mean score; at 0.05 a group of 8 is all wrong with probability 0.66 even if all prompts are alike


@register
def starving(run: LoggedRun) -> Finding | None:
    """Distributions with a mean score up to `HOPELESS`, and what they were given; low severity while no interval is past it."""
    groups = groups_of(run)
    mean_K, n_K = distributions(run, groups.mean_G, groups.n_G)
    found = {
        int(k): mean_of(run, of_distribution(run, groups.mean_G, int(k)), groups.n_G)
        for k in np.flatnonzero((n_K >= MIN_GROUPS) & (np.nan_to_num(mean_K, nan=1.0) <= HOPELESS))
    }
    if not found:
        return None
    names = [run.pool.distribution_names[k] for k in found]
    inside = np.isin(groups.distribution_G, list(found))
    spent = mean_of(run, inside.astype(np.float64), groups.size_G)
    wrong = mean_of(run, np.where(inside & (groups.n_G > 0), groups.high_G <= 0.0, np.nan))
    some = wrong.value < 1.0
    suggestions = []
    if int((n_K > 0).sum()) > len(found):
        suggestions.append(Suggestion("arms whose groups have signal get the places of arms that have none", recipe="dump_ucb"))
    if some:
        suggestions.append(
            Suggestion("some of it is solved now and then: more rollouts until a success is there", recipe="reinforce_ada")
        )
    else:
        suggestions.append(
            Suggestion(
                "nothing of it was ever right: rollouts alone find nothing", change="easier levels of it, or worked examples first"
            )
        )
    return Finding(
        "starving",
        "low" if not any(score.high <= HOPELESS for score in found.values()) else "high" if spent.low > 0.5 else "medium",
        f"Nearly always wrong: {listed(names)}; {percent(spent)} of the rollouts went there, {percent(wrong)} of those groups "
        "are all wrong.",
        (
            number("rollouts spent there", "share of rollouts", spent),
            number("all wrong there", "share of groups", wrong),
            *(number(f"mean score in {run.pool.distribution_names[k]}", "score", found[k]) for k in list(found)[:5]),
        ),
        tuple(suggestions),
        "a verifier that refuses right answers there (read some completions first): then the reward is wrong, not the model",
    )

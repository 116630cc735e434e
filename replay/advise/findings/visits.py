"""Prompts that come back: does an earlier visit tell about the next one, and how far do pass rates move in between?"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from replay.advise import register
from replay.advise.finding import Finding, Suggestion, counted, not_estimable, number, percent
from replay.advise.groups import groups_of, next_visits, visits_per_prompt
from replay.advise.intervals import Measured, clusters, has_steps, ratio
from replay.types import LoggedRun

FEWEST = 50  # pairs of visits, below which the shares are known to 0.15 or worse
OFTEN = 10.0  # visits per prompt: docs/choosing.md, "prompts that come back ten times and more"
PERSISTS = 0.2  # difference of the live shares after a live and after a dead visit that makes the last outcome worth remembering


@register
def visits(run: LoggedRun) -> Finding | None:
    """Live share after a live and after a dead visit, and the change of the true mean score from visit to visit."""
    if visits_per_prompt(run) < 1.5:
        return None
    lacks = [lack for lack in ("fixed budget", "rejected groups") if lack in run.lacks] + ([] if has_steps(run) else ["step"])
    if lacks:
        return not_estimable("visits", "whether an earlier visit of a prompt tells about the next one", lacks)
    groups = groups_of(run)
    earlier, later = next_visits(run)
    both = groups.judged_G[earlier] & groups.judged_G[later]
    earlier, later = earlier[both], later[both]
    if len(earlier) < FEWEST:
        return None
    cluster_G, of = clusters(run)
    cluster, one = cluster_G[later], np.ones(len(earlier))
    was_dead = groups.dead_G[earlier] == 1
    live = 1.0 - groups.dead_G[later]
    after = {name: ratio(live[flag], one[flag], cluster[flag], of) for name, flag in (("live", ~was_dead), ("dead", was_dead))}
    step = groups.mean_G[later] - groups.mean_G[earlier]
    drift = ratio(step, one, cluster, of, (-math.inf, math.inf))
    moved = ratio(step**2 - groups.noise_G[later] - groups.noise_G[earlier], one, cluster, of, (-math.inf, math.inf))
    often = visits_per_prompt(run)
    gap = _Gap(after["live"].low - after["dead"].high, after["live"].high - after["dead"].low)
    said = (
        f" After a live visit {percent(after['live'])} of the groups are live, after a dead one {percent(after['dead'])}."
        if after["live"].n and after["dead"].n
        else ""
    )
    return Finding(
        "visits",
        "medium" if gap.low > PERSISTS else "low",
        f"A prompt came {often:.1f} times.{said} Its true pass rate moves by {_root(moved):.2f} (root mean square) from visit to "
        f"visit, on average by {drift.value:+.3f} [{drift.low:+.3f}, {drift.high:+.3f}].",
        (
            counted("visits per prompt", often, "groups", len(run), "groups"),
            *(number(f"live after a {name} visit", "share of groups", value) for name, value in after.items() if value.n),
            number("change of the mean score per visit", "score", drift),
            number("squared change of the true mean score per visit, noise taken off", "score^2", moved),
        ),
        _suggestions(often, gap),
        "a log of a belief's own choices in which the chosen groups are live no more often than uniform ones",
    )


class _Gap(NamedTuple):
    """Least and largest difference of the live shares that both intervals allow."""

    low: float
    high: float


def _root(moved: Measured) -> float:
    return math.sqrt(max(moved.value, 0.0))


def _suggestions(often: float, gap: _Gap) -> tuple[Suggestion, ...]:
    if gap.low <= PERSISTS <= gap.high:
        return ()  # not told apart
    if gap.high < PERSISTS:
        return (
            Suggestion("the last outcome tells little about the next: a belief per prompt has little to hold", recipe="uniform"),
        )
    if often >= OFTEN:
        return (
            Suggestion("outcomes persist and prompts come back ten times or more; compare with uniform", recipe="mopps"),
            Suggestion("it skips prompts that were dead, with a chance to return; compare with uniform", recipe="greso"),
        )
    return (
        Suggestion(
            "outcomes persist, but with so few visits a belief per prompt learns late: one that pools over its distribution",
            change="belief: pooled, under a selector such as nearest",
        ),
    )

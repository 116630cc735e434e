"""Nearly every group carries signal: leaving the others out can save next to nothing."""

from __future__ import annotations

from replay.advise import register
from replay.advise.finding import Finding, Suggestion, number, percent
from replay.advise.findings.no_signal import LITTLE
from replay.advise.groups import MIN_GROUPS, groups_of
from replay.advise.intervals import mean_of
from replay.types import LoggedRun


@register
def little_to_win(run: LoggedRun) -> Finding | None:
    """Says so where the share of groups without signal is surely small."""
    groups = groups_of(run)
    if "rejected groups" in run.lacks or groups.judged_G.sum() < MIN_GROUPS:
        return None
    live = mean_of(run, 1.0 - groups.dead_G)
    if live.low < 1.0 - LITTLE:
        return None
    return Finding(
        "little_to_win",
        "low",
        f"{percent(live)} of the groups carry signal, so leaving out the others saves at most {100 * (1 - live.value):.2g} % of "
        "the groups.",
        (number("groups with signal", "share of groups", live),),
        (Suggestion("there is little that selection or a filter could leave out", recipe="uniform"),),
        "signal that differs much among live groups: then choosing the best of them could still matter, which a log cannot show",
    )

"""Rewards that are not right or wrong, or that hardly vary."""

from __future__ import annotations

import numpy as np

from replay.advise import register
from replay.advise.finding import Finding, Suggestion, counted, number, percent
from replay.advise.groups import groups_of
from replay.advise.intervals import mean_of
from replay.types import LoggedRun

SMALL = 0.05  # of the reward range: a spread of scores that a difference of format makes, not one of right and wrong
NARROW = 0.05  # of groups with signal whose scores differ by no more than that
MANY = 1000  # different values, beyond which they are not counted


@register
def reward_scale(run: LoggedRun) -> Finding | None:
    """Speaks where scores are not 0 or 1, or all one value."""
    groups = groups_of(run)
    scored = groups.n_G > 0
    if not scored.any():
        return None
    high, low = float(groups.high_G.max()), float(groups.low_G.min())
    n_scored = int(groups.n_G.sum())
    if high == low:
        return Finding(
            "reward_scale",
            "high" if n_scored >= 100 else "medium",
            f"Every one of the {n_scored:,} scores is {high:g}: no reward differs from any other, so nothing can be learned or "
            "chosen.",
            (
                counted("different scores", 1, "values", n_scored, "rollouts"),
                counted("the score", high, "score", n_scored, "rollouts"),
            ),
            (
                Suggestion(
                    "a reward range that is not the reward function's would also do this", change="check reward and reward_range"
                )
                if high in (0.0, 1.0)
                else Suggestion("a reward that is one number between the ends of its range", change="check the reward function"),
            ),
            "a longer log with other scores",
        )
    if groups.binary:
        return None
    spread_G = np.where(groups.judged_G & (groups.dead_G == 0), groups.high_G - groups.low_G, np.nan)
    narrow = mean_of(run, np.where(np.isfinite(spread_G), spread_G <= SMALL, np.nan))
    n_values = len(np.unique(run.score_R[np.isfinite(run.score_R)][:1_000_000]))
    used = (high - low, low, high)
    risky = bool(narrow.n) and narrow.low > NARROW
    return Finding(
        "reward_scale",
        "medium" if risky else "low",
        f"Scores are not right or wrong: {'over ' if n_values > MANY else ''}{min(n_values, MANY):,} different values from "
        f"{used[1]:g} to {used[2]:g} of the declared range 0 to 1. In {percent(narrow)} of the groups with signal they differ by "
        f"{SMALL:g} or less, which an advantage divided by the group's deviation makes as large as right against wrong.",
        (
            counted("different scores", n_values, "values", n_scored, "rollouts"),
            counted("span of the scores", used[0], "of the reward range", n_scored, "rollouts"),
            number("groups with signal whose scores differ by 0.05 or less", "share of groups", narrow),
        ),
        (Suggestion("advantages that are not divided by the group's deviation", setting="learner.advantage=dr_grpo"),)
        if risky
        else (
            Suggestion(
                "pass rates read as mean scores; filters by a band of them need a threshold", change="nothing, or a binary reward"
            ),
        ),
        "small differences of reward that are differences of quality",
    )

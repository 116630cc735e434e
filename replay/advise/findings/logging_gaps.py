"""What to write down so that a log can answer more."""

from __future__ import annotations

from typing import get_args

import numpy as np

from replay.advise import register
from replay.advise.finding import Finding, Suggestion, counted
from replay.types import Lack, LoggedRun

OPENS: dict[Lack, str] = {
    "group id": "which rollouts were compared with one another, even where a prompt comes twice in a step",
    "prompt id": "prompts that come back, across files and runs",
    "step": "changes over the run, and intervals that count steps",
    "propensity": "what another selection rule would have got at the logged states (inclusion probability per group)",
    "arm probability": "what a distribution policy would have drawn",
    "rejected groups": "what a filter cost, and pass rates that a filter has not chosen",
    "status": "failures apart from wrong answers",
    "tokens": "costs in tokens, and truncation",
    "policy version": "how stale rollouts were",
    "fixed budget": "groups of other sizes: log whether a group's size was fixed before its first score",
}


@register
def logging_gaps(run: LoggedRun) -> Finding | None:
    """What the log lacks, and which question each lack leaves open."""
    missing: list[Lack] = [lack for lack in get_args(Lack) if lack in run.lacks]
    tips = [Suggestion(f"to see {OPENS[lack]}", change=f"log {_wanted(lack)}") for lack in missing]
    words: list[str] = [*missing]
    if (run.kept_G == 2).any() and "rejected groups" not in missing:
        words.append("which groups entered the update")
        tips.append(Suggestion("to see what a filter cost", change="log whether each group entered the update"))
    if not words:
        return None
    known = int(np.isfinite(run.propensity_G).sum())
    return Finding(
        "logging_gaps",
        "low",
        f"The log lacks {', '.join(words)}.",
        (counted("groups with a known propensity", known, "groups", len(run), "groups"),),
        tuple(tips),
        "a format setting of the importer that finds these columns in the same file",
    )


def _wanted(lack: Lack) -> str:
    return {"rejected groups": "rejected groups too", "fixed budget": "fixed group sizes"}.get(lack, f"the {lack}")

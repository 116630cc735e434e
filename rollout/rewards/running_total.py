"""The reward of running totals: the last one decides."""

from __future__ import annotations

import re
from string import ascii_lowercase as LABELS
from typing import Any

from rollout.rewards import register

TOTAL = re.compile(r"([a-z])(\d+)")


@register("running_total")
def running_total(completion: str, answer: Any, extra: dict[str, Any]) -> float:
    """1 where the completion is one total per operation (``extra["n_operations"]``) and the last one is the answer, else 0."""
    totals = TOTAL.findall(completion)
    if "".join(label + total for label, total in totals) != completion or len(totals) != extra["n_operations"]:
        return 0.0
    return float("".join(label for label, _ in totals) == LABELS[: len(totals)] and int(totals[-1][1]) == int(answer))

"""No filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import Outcome, PromptPool, Reason, Refill, Verdict
from curricula.verdicts import verdict


@register("filter", "keep_all")
@dataclass(frozen=True)
class KeepAll(Stateless):
    """Every group with at least two scored rollouts enters the update. Plain GRPO (arXiv 2402.03300).

    A group of one has no baseline: verl would push its reward as the advantage, so it is left out here (`Reason.TOO_FEW`).

    >>> from curricula.types import Reason
    >>> Reason.TOO_FEW.name
    'TOO_FEW'
    """

    def judge(self, state: Any, pool: PromptPool, outcome: Outcome) -> Verdict:
        return verdict(outcome, np.full(len(outcome.plan), Reason.KEPT, dtype=np.uint8), Refill.NONE)

"""No down-sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import Outcome, PromptPool, Verdict


@register("downsampling", "none")
@dataclass(frozen=True)
class KeepRollouts(Stateless):
    """Every scored rollout of a kept group carries gradient. Plain GRPO (arXiv 2402.03300).

    >>> KeepRollouts().thin((), None, None, "the verdict")
    'the verdict'
    """

    def thin(self, state: Any, pool: PromptPool, outcome: Outcome, verdict: Verdict) -> Verdict:
        return verdict

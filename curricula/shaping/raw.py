"""The reward as it came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from curricula.registry import register
from curricula.stages import Stateless, Unlimited
from curricula.types import Floats, Outcome, PromptPool


@register("shaping", "raw")
@dataclass(frozen=True)
class Raw(Unlimited, Stateless):
    """Advantages are made of the raw reward, and completions may be as long as the recipe says. Plain GRPO (arXiv 2402.03300).

    >>> Raw().limit((), None, (3, 5))
    array([0, 0])
    """

    def shape(self, state: Any, pool: PromptPool, outcome: Outcome) -> Floats:
        return outcome.reward_R

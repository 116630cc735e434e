"""Prompts for the simulated engine: levels of difficulty without texts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rollout.engines.simulated import level_of
from rollout.prompts import Prompt, PromptSet, RewardSpec
from rollout.tasks import register


@register("simulated")
@dataclass(frozen=True)
class Simulated:
    """One distribution of ``prompts_per_level`` prompts per level; the engine answers by the prompt's id."""

    n_levels: int = 8
    lowest_level: int = 0  # lower ones have no prompts, unless the pool grows by easier levels
    prompts_per_level: int = 200
    held_out_per_level: int = 50
    reward: str = "exact"

    def build(self, seed: int) -> tuple[PromptSet, PromptSet]:
        total = self.prompts_per_level + self.held_out_per_level
        train = self._prompts(range(self.prompts_per_level))
        held_out = self._prompts(range(self.prompts_per_level, total))
        return train, held_out

    def easier(self, prompt: Prompt, by: int, rng: np.random.Generator) -> Prompt | None:
        """A prompt of a lower level; what it is called decides how hard it is inside it."""
        own = level_of(prompt.id)
        level = max(own - by, 0)
        return replace(prompt, id=f"level-{level}", content=str(level)) if level < own else None

    def _prompts(self, numbers: range) -> PromptSet:
        prompts = [
            Prompt(id=f"level-{level}/{number:06d}", distribution=f"level-{level}", content=str(level), answer="1")
            for level in range(self.lowest_level, self.n_levels)
            for number in numbers
        ]
        return PromptSet(prompts, RewardSpec(self.reward))

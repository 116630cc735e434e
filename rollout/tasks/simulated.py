"""Prompts for the simulated engine: levels of difficulty without texts."""

from __future__ import annotations

from dataclasses import dataclass

from rollout.prompts import Prompt, PromptSet, RewardSpec
from rollout.tasks import register


@register("simulated")
@dataclass(frozen=True)
class Simulated:
    """``n_levels`` distributions of ``prompts_per_level`` prompts each; the engine answers by the prompt's id."""

    n_levels: int = 8
    prompts_per_level: int = 200
    held_out_per_level: int = 50
    reward: str = "exact"

    def build(self, seed: int) -> tuple[PromptSet, PromptSet]:
        total = self.prompts_per_level + self.held_out_per_level
        train = self._prompts(range(self.prompts_per_level))
        held_out = self._prompts(range(self.prompts_per_level, total))
        return train, held_out

    def _prompts(self, numbers: range) -> PromptSet:
        prompts = [
            Prompt(id=f"level-{level}/{number:06d}", distribution=f"level-{level}", content=str(level), answer="1")
            for level in range(self.n_levels)
            for number in numbers
        ]
        return PromptSet(prompts, RewardSpec(self.reward))

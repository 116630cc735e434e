"""A ladder of difficulties for small models: chains of additions whose completion is its working.

Level k is a prompt with k operations, ``3a+4b-2=`` for k = 2, answered by every running total, ``a7b5``. The letters tell which
operation a total belongs to; without them a small model loses its place before it learns to add. Level k needs k right steps,
so the pass rate falls smoothly with k, and whatever makes one step better lifts every level above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from string import ascii_lowercase as LABELS

import numpy as np

from curricula.types import CurriculaError
from rollout.prompts import Prompt, PromptSet, RewardSpec
from rollout.tasks import register

TRIES_PER_PROMPT = 100  # draws of one new prompt before the level counts as exhausted


@register("running_total")
@dataclass(frozen=True)
class RunningTotal:
    """Totals stay in a range of equally long numbers, so a step costs the same tokens at every level."""

    levels: tuple[int, ...] = (2, 3, 4, 6, 8, 10, 12, 14)  # numbers of operations; one distribution each
    n_train: int = 500  # prompts per level
    n_held_out: int = 100  # prompts per level
    largest_term: int = 9  # what one operation adds or takes away, at most
    lowest_total: int = 0
    highest_total: int = 9
    reward: str = "exact"

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 1 or len(set(self.levels)) < len(self.levels):
            raise CurriculaError(f"task.levels: expected different numbers >= 1, got {list(self.levels)}")
        if max(self.levels) > len(LABELS):
            raise CurriculaError(
                f"task.levels: expected at most {len(LABELS)} operations (one letter each), got {max(self.levels)}"
            )
        if not self.largest_term >= 1 or self.highest_total <= self.lowest_total:
            raise CurriculaError(
                f"task: expected largest_term >= 1 and lowest_total < highest_total, got {self.largest_term}, "
                f"{self.lowest_total} and "
                f"{self.highest_total}"
            )

    def build(self, seed: int) -> tuple[PromptSet, PromptSet]:
        train: list[Prompt] = []
        held_out: list[Prompt] = []
        for level in sorted(self.levels):
            prompts = self._distinct(level, seed)
            held_out += prompts[: self.n_held_out]
            train += prompts[self.n_held_out :]
        reward = RewardSpec(self.reward)
        return PromptSet(train, reward), PromptSet(held_out, reward)

    def worked_example(self, prompt: Prompt) -> str:
        """The completion of somebody who makes no mistake."""
        return str(prompt.answer)

    def easier(self, prompt: Prompt, by: int, rng: np.random.Generator) -> Prompt | None:
        """A chain of fewer operations, down to one."""
        own = sum(label in LABELS for label in str(prompt.content))
        level = max(own - by, 1)
        return self._draw(level, rng) if level < own else None

    def _distinct(self, level: int, seed: int) -> list[Prompt]:
        wanted = self.n_train + self.n_held_out
        found: dict[str, Prompt] = {}
        draws = self._draws(level, seed)
        for _ in range(TRIES_PER_PROMPT * wanted):
            prompt = next(draws)
            found.setdefault(prompt.id, prompt)
            if len(found) == wanted:
                return list(found.values())
        raise CurriculaError(
            f"task: level {level} has fewer than n_train + n_held_out = {wanted} different prompts (found {len(found)}); "
            "lower n_train, or widen largest_term or the range of totals"
        )

    def _draws(self, level: int, seed: int) -> Iterator[Prompt]:
        rng = np.random.default_rng((seed, level))
        while True:
            yield self._draw(level, rng)

    def _draw(self, level: int, rng: np.random.Generator) -> Prompt:
        total = int(rng.integers(self.lowest_total, self.highest_total + 1))
        text, working = str(total), ""
        for label in LABELS[:level]:
            term = self._term(total, rng)
            total += term
            text += f"{label}{term:+d}"
            working += f"{label}{total}"
        name = self._name(level)
        return Prompt(id=f"{name}/{text}", distribution=name, content=f"{text}=", answer=working)

    def _term(self, total: int, rng: np.random.Generator) -> int:
        """One of the terms that keep the total in its range, all equally likely."""
        lowest = max(-self.largest_term, self.lowest_total - total)
        highest = min(self.largest_term, self.highest_total - total)
        draw = int(rng.integers(lowest, highest))
        return draw + (draw >= 0)  # no operation adds nothing

    def _name(self, level: int) -> str:
        return f"ops-{level:0{len(str(max(self.levels)))}d}"

"""One simulated world and the budget that is spent in it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import get_type_hints

from curricula.types import CurriculaError, known_or_raise
from rollout.ranges import at_least


@dataclass(frozen=True)
class Setting:
    """Defaults are fitted to the accuracy history of one GRPO run; docs/choosing.md says how, and what it leaves open."""

    steps: int = 200  # the budget is steps x groups x rollouts, rejected and pilot rollouts included
    groups: int = 32
    rollouts: int = 8
    max_attempts: int = 4  # plans per step, the first included
    prompts: int = 2000
    levels: int = 8  # distributions
    slope: float = 1.1  # difficulty of one level above the one before, in logits
    spread: float = 0.8  # standard deviation of difficulty inside a level
    start: float = 2.5  # skill of every level before training
    transfer: float = 1.0  # what one level learns reaches its neighbours with weight exp(-distance / transfer); 0 = not at all
    noise: float = 0.0  # chance that the verifier says the opposite
    rate: float = 0.08  # skill per unit of gradient
    jitter: float = 0.3  # standard deviation of the log of a step's learning rate
    constant: int = 0  # 1: an update is divided by groups x rollouts; 0: by the rollouts in it, as token means are

    def __post_init__(self) -> None:
        at_least("simulate", 1, steps=self.steps, groups=self.groups, max_attempts=self.max_attempts, levels=self.levels)
        at_least("simulate", 2, rollouts=self.rollouts)
        at_least("simulate", self.levels, prompts=self.prompts)
        at_least("simulate", 0, spread=self.spread, transfer=self.transfer, rate=self.rate, jitter=self.jitter)
        if self.constant not in (0, 1):
            raise CurriculaError(f"simulate.constant: expected 0 or 1, got {self.constant}")
        if not 0 <= self.noise <= 0.5:
            raise CurriculaError(f"simulate.noise: expected a chance in 0..0.5, got {self.noise}")

    @property
    def budget(self) -> int:
        """Rollouts that every recipe may spend."""
        return self.steps * self.groups * self.rollouts

    @property
    def visits(self) -> float:
        """Groups per prompt over the whole run if all prompts come alike."""
        return self.steps * self.groups / self.prompts

    def with_value(self, key: str, value: float) -> Setting:
        """The setting with one number changed; ``visits`` is reached by the size of the pool.

        >>> Setting(steps=100, groups=10).with_value("visits", 2).prompts
        500
        """
        if key == "visits":
            if not value > 0:
                raise CurriculaError(f"simulate.visits: expected a number above 0, got {value}")
            return replace(self, prompts=max(round(self.steps * self.groups / value), self.levels))
        known_or_raise("number of a simulation:", key, (*KEYS, "visits"))
        if KEYS[key] is int and value != int(value):
            raise CurriculaError(f"simulate.{key}: expected a whole number, got {value}")
        return replace(self, **{key: KEYS[key](value)})


KEYS: dict[str, type] = {field.name: get_type_hints(Setting)[field.name] for field in dataclasses.fields(Setting)}

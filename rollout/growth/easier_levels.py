"""LADDER (arXiv 2503.00735) for procedural tasks: new, easier puzzles where a prompt is too hard."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from curricula.types import CurriculaError
from rollout.growth import Child, Occasion, register, text_key
from rollout.prompts import Prompt, PromptSet, Task
from rollout.ranges import at_least

TRIES = 100  # draws of a child that is not held out, before the level counts as exhausted


@register("easier_levels")
@dataclass(frozen=True)
class EasierLevels:
    """The task makes the puzzles and their answers (``task.easier``). The paper has a model write the variants and checks them by
    numbers; here the level is known and the answer exact. Children that are too hard themselves get children in their turn.
    """

    per_parent: int = 2
    by: int = 1  # levels below the parent; the lowest level where there are not so many

    def __post_init__(self) -> None:
        at_least("growth.source", 1, per_parent=self.per_parent, by=self.by)

    def check(self, task: Task, prompts: PromptSet) -> None:
        if not hasattr(task, "easier"):
            raise CurriculaError(
                f"growth.source 'easier_levels': the task {type(task).__name__} makes no easier prompts (it has no method 'easier')"
                "; take a procedural task with levels, or write a source of your own"
            )
        task.easier(prompts.prompts[0], self.by, np.random.default_rng(0))

    def expand(self, parents: Sequence[Prompt], occasion: Occasion) -> Iterator[Child]:
        for parent in parents:
            rng = occasion.rng(parent)
            for number in range(self.per_parent):
                easier = self._easier(parent, occasion, rng)
                if easier is not None:
                    yield Child(replace(easier, id=f"{easier.id}/{_short(parent.id)}-{number}"), parent.id)

    def _easier(self, parent: Prompt, occasion: Occasion, rng: np.random.Generator) -> Prompt | None:
        """None where the parent is at the lowest level, or everything below it is held out."""
        for _ in range(TRIES):
            easier: Prompt | None = occasion.task.easier(parent, self.by, rng)  # type: ignore[attr-defined]
            if easier is None or text_key(easier.content) not in occasion.held_out:
                return easier
        return None


def _short(prompt_id: str) -> str:
    """The id of a parent in 12 characters: whole ids would grow with every generation. The log has them."""
    return hashlib.blake2b(prompt_id.encode(), digest_size=6).hexdigest()

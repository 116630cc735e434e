"""Where a run stands: at one of its checkpoints, with the course and the learning rate that it has there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from curricula.types import CurriculaError
from trainer.checkpoint import Checkpoint
from trainer.operations import Course, course_of
from trainer.recipe import Recipe
from trainer.run_folder import recipe_of
from trainer.schedules.build import build_rate
from trainer.schedules.rate import LearningRate


@dataclass(frozen=True)
class Standing:
    """A run at one of its checkpoints or at its start, with what is decided for that moment applied."""

    recipe: Recipe
    step: int
    n_tokens: int
    course: Course
    rate: LearningRate


def standing(folder: Path, start: Checkpoint | None) -> Standing:
    """Where a run would go on from this checkpoint; from its start where there is none.

    Errors: CurriculaError where the checkpoint does not belong to the folder's recipe and operations.
    """
    recipe = recipe_of(folder)
    rate = build_rate(recipe.schedule, recipe.length)
    if start is None:
        return Standing(recipe, 0, 0, course_of(recipe, folder, None).apply_due(0, 0, rate), rate)
    if "rate" not in start.facts:
        raise CurriculaError(
            f"{start.folder}: it says nothing of the learning rate; resume the run, and ask again at its next checkpoint"
        )
    rate.load_state_dict(start.facts["rate"])
    n_tokens = int(start.facts.get("tokens", 0))
    course = course_of(recipe, folder, start.facts).apply_due(start.step, n_tokens, rate)
    return Standing(recipe, start.step, n_tokens, course, rate)

"""The log of a run in numbers: its steps and its evaluations, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollout.log import read_log
from trainer.observer import EvaluationResult, StepRecord, read_evaluation, read_step
from trainer.recipe import Recipe
from trainer.run_folder import recipe_of

Hear = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class RunLog:
    """What a run was to do, and what its log has of it; a step that was made anew after a resume stands as it was made last."""

    folder: Path
    recipe: Recipe
    steps: list[StepRecord]
    evaluations: list[EvaluationResult]

    @property
    def n_steps(self) -> int:
        """Of the whole run, as its newest step knew."""
        return self.steps[-1].n_steps if self.steps else self.recipe.run.n_steps


def read_run_log(folder: Path, hear: Hear | None = None) -> RunLog:
    """``hear`` is told every record in order, also those of groups, which would not fit into memory for a long run.

    Errors: CurriculaError when there is no run, or its log is damaged. A run without a step has none here.
    """
    recipe = recipe_of(folder)
    steps: dict[int, StepRecord] = {}
    evaluations: dict[int, EvaluationResult] = {}
    for record in read_log(folder / "log"):
        if hear is not None:
            hear(record)
        if record["kind"] == "step":
            steps[record["step"]] = read_step(record)
        elif record["kind"] == "evaluation":
            evaluations[record["step"]] = read_evaluation(record)
    return RunLog(folder, recipe, [steps[step] for step in sorted(steps)], [evaluations[step] for step in sorted(evaluations)])

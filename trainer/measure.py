"""A model folder, a checkpoint or a recipe's starting model, measured as a run of the recipe measures its own.

Prompts, seeds, engine and verifier are the recipe's, so two measurements pair prompt by prompt, and that of a run's last checkpoint
is the evaluation that the run logged at its end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curricula.types import CurriculaError
from rollout.journal import plain
from trainer.assembly import Bench, assemble_bench, build_learner, prepare_model
from trainer.checkpoint import Checkpoint
from trainer.cluster import connected
from trainer.evaluation import PromptScores, summarised
from trainer.observer import EvaluationResult, to_dict
from trainer.recipe import Recipe, load_recipe
from trainer.run_folder import RECIPE_OR_RUN, checkpoint_after, newest, recipe_of


@dataclass(frozen=True)
class Subject:
    """What is measured, and by which recipe."""

    recipe: Recipe
    model: Path | None = None  # folder; None = the recipe's starting model
    saved: Checkpoint | None = None  # that the folder belongs to

    @property
    def name(self) -> str:
        """For a title."""
        if self.saved is not None:
            return f"the checkpoint after {self.saved.step:,} steps"
        return f"the starting model of {self.recipe.name}" if self.model is None else str(self.model)


@dataclass(frozen=True, eq=False)
class Measured:
    """A subject's scores."""

    subject: Subject
    scores: dict[str, PromptScores]

    @property
    def result(self) -> EvaluationResult:
        """As a run would log it; the step is the checkpoint's, 0 for other models."""
        return summarised(self.subject.saved.step if self.subject.saved else 0, self.scores)

    def as_json(self) -> str:
        """Everything, prompt by prompt; absent numbers are null."""
        result, recipe, model = self.result, self.subject.recipe, self.subject.model
        facts: dict[str, Any] = {
            "recipe": {"name": recipe.name, "fingerprint": recipe.fingerprint, "seed": recipe.seed},
            "model": None if model is None else str(model),
            "step": self.subject.saved.step if self.subject.saved else None,
            "sampled": result.sampled,
            "standard_error": result.standard_error,
            "greedy": result.greedy,
            "greedy_standard_error": result.greedy_standard_error,
            "scores": to_dict(result)["scores"],
            "prompts": {
                name: {"ids": one.ids, "sampled": one.sampled_N, "greedy": one.greedy_N} for name, one in self.scores.items()
            },
        }
        return json.dumps(plain(facts), indent=1, allow_nan=False) + "\n"


def subject_of(where: Path, overrides: Sequence[str], model: Path | None, step: int | None) -> Subject:
    """``where`` is a recipe file or the folder of a run, whose newest checkpoint is measured where nothing else is named.

    Errors: CurriculaError where the model or the checkpoint is not there.
    """
    if model is not None and step is not None:
        raise CurriculaError("evaluate: --model and --step each name a model; give one of them")
    is_run = where.is_dir()
    if not is_run and step is not None:
        raise CurriculaError(f"evaluate: --step {step} is of a run's checkpoints; give the folder of the run instead of {where}")
    recipe = recipe_of(where, overrides, RECIPE_OR_RUN) if is_run else load_recipe(where, overrides)
    if model is not None:
        return Subject(recipe, _model_folder(recipe, model))
    if not is_run:
        return Subject(recipe)
    saved = newest(where) if step is None else checkpoint_after(where, step)
    return Subject(recipe, saved.folder / "model", saved)


def _model_folder(recipe: Recipe, model: Path) -> Path:
    if recipe.rollout.engine.backend == "simulated":
        raise CurriculaError("evaluate: a simulated engine has no model folder; give the folder of a run, or a recipe")
    if not (model / "config.json").is_file():
        raise CurriculaError(f"{model}: no config.json in it; expected a Hugging Face model folder")
    return model


def measure(subject: Subject, ray_address: str | None = None) -> Measured:
    """Start the recipe's engines with the model, measure, and stop them. Nothing is written."""
    recipe = subject.recipe
    with ExitStack() as stack:
        stack.enter_context(connected(_without_learner(recipe), ray_address))
        simulated = recipe.rollout.engine.backend == "simulated"
        path = str(subject.model) if subject.model and not simulated else prepare_model(recipe)
        bench = assemble_bench(recipe, path, stack)
        if simulated and subject.saved is not None:
            _publish_skills(recipe, subject.saved, bench)
        return Measured(subject, bench.evaluator.measure(bench.source.producer))


def _without_learner(recipe: Recipe) -> Recipe:
    """Nothing is asked of Ray for a learner."""
    return replace(recipe, learner=replace(recipe.learner, placement="driver", n_ranks=1))


def _publish_skills(recipe: Recipe, saved: Checkpoint, bench: Bench) -> None:
    """A simulated engine reads no folder; it is told the checkpoint's skills."""
    learner = build_learner(recipe, "")
    learner.load(saved.folder)
    bench.source.fleet.publish(learner.weights())

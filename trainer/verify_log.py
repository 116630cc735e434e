"""`curricula log verify RUN`: is the log the whole truth?

Folded into a fresh curriculum it has to give every checkpoint's state bit for bit, and the run's collector, fed from the log, has
to make every decision of the run again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from curricula import Curriculum
from curricula.types import CurriculaError
from replay.own_log import LoggedStep, logged_steps
from replay.reexecute import LoggedProducer, Replayed, reexecute
from replay.verify import Difference, first_difference, fold_log
from rollout.budget_note import note_of_words
from rollout.collector import Collector, EncodedPrompts
from rollout.producer import Producer
from rollout.prompts import PromptSet
from rollout.tasks import build_task
from trainer import checkpoint
from trainer.advantages import feedback_advantages
from trainer.assembly import encoder_of, prepare_model
from trainer.growth import GROWTH, Lineage
from trainer.growth import prompts_of as children_of
from trainer.operations import read_operations
from trainer.recipe import Recipe
from trainer.run_folder import recipe_of


class Verified(NamedTuple):
    """One checkpoint against the log."""

    step: int
    n_logged: int  # steps of the log that lie before it
    difference: Difference | None


def verify_run(folder: Path) -> list[Verified]:
    """Every checkpoint of a run, oldest first.

    Errors: CurriculaError when the folder is no run, has no checkpoint, or its log is damaged or of other data.
    """
    recipe = recipe_of(folder)
    pool, advantages = starting_prompts(recipe).pool, partial(feedback_advantages, recipe.learner.advantage)
    found = []
    for saved in reversed(checkpoint.valid_folders(folder / "checkpoints")):
        step = checkpoint.step_of(saved)
        curriculum = Curriculum.from_recipe(recipe.curriculum, pool, seed=recipe.seed)
        lineage = Lineage(recipe.growth, pool) if recipe.growth else None
        n_logged = fold_log(curriculum, folder / "log", step, advantages, lineage.hear if lineage else None)
        state = checkpoint.Checkpoint(saved, {})
        difference = first_difference(curriculum.state_dict(), state.curriculum_state())
        if lineage is not None:
            difference = difference or first_difference(lineage.state_dict(), state.arrays(GROWTH))
        found.append(Verified(step, n_logged, difference))
    if not found:
        raise CurriculaError(f"{folder}: it has no complete checkpoint yet")
    return found


def reexecuted(folder: Path) -> Replayed:
    """Every decision of the log made again by the run's recipe.

    A run of one_step_ahead that was stopped and resumed planned some steps with other knowledge than one that never stopped; the
    first such step is reported as a departure.
    """
    recipe = recipe_of(folder)
    prompts = replace(blank(starting_prompts(recipe)), note=note_of_words(recipe.rollout.budget_note))
    pool = prompts.prompt_set.pool
    curriculum, producer = Curriculum.from_recipe(recipe.curriculum, pool, seed=recipe.seed), LoggedProducer()
    collector = Collector(curriculum, prompts, cast(Producer, producer), recipe.rollout, recipe.seed)
    lineage = Lineage(recipe.growth, pool) if recipe.growth else None
    decided = {operation.step for operation in read_operations(folder)}  # the run stood still there, with nothing in flight
    run, steps = recipe.run, logged_steps(folder / "log", pool, partial(feedback_advantages, recipe.learner.advantage))

    def ahead(step: int) -> bool:
        drains = (step + 1) % run.checkpoint_every == 0 or (lineage is not None and lineage.due(step))
        return run.mode == "one_step_ahead" and not drains and step + 1 not in decided

    def learn(logged: LoggedStep) -> str | None:
        nonlocal prompts
        curriculum.update(logged.feedbacks)
        if lineage is None:
            return None
        lineage.learn(logged.feedbacks)
        if logged.grown is None and logged.step + 1 in decided:
            return None  # the run ended here once, and a run does not grow its pool behind its last step
        if (said := other_parents(lineage, curriculum, logged)) is not None or logged.grown is None:
            return said
        curriculum.grow(lineage.take(logged.grown))
        prompts = prompts.with_children(blank(children_of(logged.grown, prompts)), {})
        collector.take_prompts(prompts)
        return None

    return reexecute(steps, collector, producer, learn, ahead)


def other_parents(lineage: Lineage, curriculum: Curriculum, logged: LoggedStep) -> str | None:
    """What the run asked children of, where the replay asks others."""
    asked = list(logged.grown.parents) if logged.grown else []
    ours = [str(lineage.pool.ids[row]) for row in lineage.parents(curriculum.estimate)] if lineage.due(logged.step) else []
    return None if ours == asked else f"children were asked of {asked}, the replay asks {ours}"


def blank(prompts: PromptSet) -> EncodedPrompts:
    """Prompts whose tokens nobody reads."""
    return EncodedPrompts(prompts, [()] * len(prompts))


def starting_prompts(recipe: Recipe) -> PromptSet:
    """The prompts that a run of this recipe begins with; those that are too long are left out where the run leaves them out."""
    train, _ = build_task(recipe.task).build(recipe.seed)
    if recipe.rollout.engine.backend == "simulated" or not recipe.rollout.drop_long_prompts:
        return train
    return encoder_of(recipe, prepare_model(recipe), train).encode(train, True).prompt_set

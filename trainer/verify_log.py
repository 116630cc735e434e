"""`curricula log verify RUN`: does the log, folded into a fresh curriculum, give every checkpoint's state bit for bit?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curricula import Curriculum
from curricula.types import CurriculaError, Floats, Outcome, PromptPool
from replay.verify import Difference, first_difference, fold_log
from rollout.tasks import build_task
from trainer import checkpoint
from trainer.advantages import group_advantages
from trainer.assembly import encoded, prepare_model
from trainer.recipe import Recipe, load_recipe
from trainer.resume import RECIPE


class Verified(NamedTuple):
    """One checkpoint against the log."""

    step: int
    n_logged: int  # steps of the log that lie before it
    difference: Difference | None


def verify_run(folder: Path) -> list[Verified]:
    """Every checkpoint of a run, oldest first.

    Errors: CurriculaError when the folder is no run, has no checkpoint, or its log is damaged or of other data.
    """
    if not (folder / RECIPE).is_file():
        raise CurriculaError(f"{folder}: no {RECIPE}; expected the folder of a run")
    recipe = load_recipe(folder / RECIPE)
    pool, advantages = pool_of(recipe), partial(feedback_advantages, recipe.learner.advantage)
    found = []
    for saved in reversed(checkpoint.valid_folders(folder / "checkpoints")):
        step = int(saved.name.removeprefix("step-"))
        curriculum = Curriculum.from_recipe(recipe.curriculum, pool, seed=recipe.seed)
        n_logged = fold_log(curriculum, folder / "log", step, advantages)
        state = checkpoint.Checkpoint(saved, {}).curriculum_state()
        found.append(Verified(step, n_logged, first_difference(curriculum.state_dict(), state)))
    if not found:
        raise CurriculaError(f"{folder}: it has no complete checkpoint yet")
    return found


def pool_of(recipe: Recipe) -> PromptPool:
    """The pool that a run of this recipe chooses from; prompts that are too long are left out where the run leaves them out."""
    train, held_out = build_task(recipe.task).build(recipe.seed)
    if recipe.rollout.engine.backend == "simulated" or not recipe.rollout.drop_long_prompts:
        return train.pool
    return encoded(recipe, prepare_model(recipe), train, held_out)[0].prompt_set.pool


def feedback_advantages(estimator: str, outcome: Outcome) -> Floats:
    """(R,) the advantages that the run gave to its curriculum: of raw rewards, NaN where there is no reward."""
    n = len(outcome.plan)
    advantage_R = group_advantages(estimator, outcome.reward_R, outcome.group_R, outcome.ok_R, n, outcome.baseline_B)
    return np.where(outcome.ok_R, advantage_R, np.nan)

"""A log with what is known of the run that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from curricula import Curriculum
from curricula.types import CurriculaError
from replay.own_run import log_folder
from replay.passes import Terms
from replay.sources import load
from replay.types import LoggedRun
from trainer.advantages import feedback_advantages
from trainer.cli_log import run_folder
from trainer.recipe import Recipe, load_recipe
from trainer.resume import RECIPE
from trainer.verify_log import starting_prompts


class Source(NamedTuple):
    """What there is to replay."""

    run: LoggedRun
    terms: Terms
    recipe: Recipe | None  # of a run of this project
    folder: Path | None  # of that run


def source(path: Path, log_format: str | Mapping[str, Any] | None = None, asked: Terms | None = None) -> Source:
    """A log of any trainer; a run of this project comes with its recipe, so with its whole pool and its order of events.

    ``asked`` holds what is asked of the recipes; how the run went on is filled in here.

    Of any other log the pool is made of the prompts that it names, and its steps are taken as learned from one after the other.
    Errors: CurriculaError when the log cannot be read.
    """
    folder, asked = run_folder(path), asked or Terms()
    if log_format is not None or log_folder(path) is None or not (folder / RECIPE).is_file():
        return Source(load(path, log_format), asked, None, None)
    recipe = load_recipe(folder / RECIPE)
    if recipe.growth is not None:
        raise CurriculaError(
            f"{folder}: this run's pool grew while it trained, and replay through other policies needs one pool for the whole run; "
            "`curricula log verify` makes its own decisions again"
        )
    run = load(folder, pool=starting_prompts(recipe).pool)
    terms = replace(
        asked,
        ahead=partial(_ahead, recipe),
        advantages=partial(feedback_advantages, recipe.learner.advantage),
        own=partial(Curriculum.from_recipe, recipe.curriculum, run.pool, recipe.seed),
    )
    return Source(run, terms, recipe, folder)


def _ahead(recipe: Recipe, step: int) -> bool:
    """Was step planned before the run had learned from the one before it?"""
    run = recipe.run
    return run.mode == "one_step_ahead" and step > 0 and step % run.checkpoint_every != 0

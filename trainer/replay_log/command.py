"""What `curricula replay` does: read, replay, print, write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from curricula import Curriculum
from curricula.types import CurriculaError
from replay.documents import document
from replay.evaluate import NEVER_TOLD, Replay, replay
from replay.passes import Terms
from trainer.log_format import format_of
from trainer.recipe_words import read_recipes
from trainer.replay_log.page import write_page
from trainer.replay_log.source import Source, source
from trainer.replay_log.tables import choice_table, spending_table
from trainer.verify_log import reexecuted

OWN = "as logged"  # the run's own recipe
DEFAULT = ("uniform", "dump_ucb", "knapsack", "mopps")


@dataclass(frozen=True)
class Options:
    """How to replay, and where the results go."""

    log_format: str | None  # a name, or YAML with the format's settings
    terms: Terms
    seed: int
    out: Path


def replay_command(log: Path, words: Sequence[str], options: Options, console: Console) -> Replay:
    """Replay a log through recipes: two tables, ``replay.json`` and ``replay.html`` in the folder of the results."""
    found = source(log, format_of(options.log_format), options.terms)
    said = executed(found)
    replayed = replay(found.run, curricula_of(found, words, options.seed), found.terms)
    console.print(said, highlight=False, soft_wrap=True)
    console.print(choice_table(replayed), spending_table(replayed))
    for what, why in NEVER_TOLD.items():
        console.print(f"not told: {what} ({why})", style="yellow", highlight=False, soft_wrap=True)
    options.out.mkdir(parents=True, exist_ok=True)
    numbers = {"decisions_made_again": said, **document(replayed)}
    (options.out / "replay.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    console.print(f"report: {write_page(options.out / 'replay.html', replayed, said)}", highlight=False, soft_wrap=True)
    return replayed


def curricula_of(found: Source, words: Sequence[str], seed: int) -> dict[str, Curriculum]:
    """Fresh curricula of the log's pool; the run's own recipe first, with its own seed, where it is known."""
    fresh = {}
    if found.recipe is not None:
        fresh[OWN] = Curriculum.from_recipe(found.recipe.curriculum, found.run.pool, found.recipe.seed)
    for name, recipe in read_recipes(words or DEFAULT).items():
        if name in fresh:
            raise CurriculaError(f"replay: {name!r} is what the run's own recipe is called here; give the file another name")
        fresh[name] = Curriculum.from_recipe(recipe, found.run.pool, seed=seed)
    return fresh


def executed(found: Source) -> str:
    """Whether the run's own recipe decides everything again as it is in the log."""
    if found.folder is None:
        return f"{found.run.source}: a log without its recipe, so its own decisions cannot be made again"
    again = reexecuted(found.folder)
    if again.departure is None:
        return f"{found.run.source}: {again.n_steps} steps, {again.n_attempts} plans decided again as logged, bit for bit"
    return f"{found.run.source}: decided again as logged for {again.n_steps} steps, then {again.departure}"

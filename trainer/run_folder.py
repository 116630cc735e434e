"""The folder of a run, to be read: its recipe, and its checkpoints by step, intact, and its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from curricula.types import CurriculaError
from rollout.log import read_log
from trainer import checkpoint
from trainer.checkpoint import Checkpoint
from trainer.recipe import Recipe, load_recipe
from trainer.resume import RECIPE

RUN = "the folder of a run, as `curricula train` writes it"
RECIPE_OR_RUN = "a recipe file, or the folder of a run"


def recipe_of(run: Path, overrides: Sequence[str] = (), expected: str = RUN) -> Recipe:
    """The recipe that a run left in its folder, with ``a.b=c`` overrides.

    Errors: CurriculaError where there is none, with what was ``expected``; and whatever `load_recipe` refuses.
    """
    if not (run / RECIPE).is_file():
        raise CurriculaError(f"{run}: no {RECIPE} in it; expected {expected}")
    return load_recipe(run / RECIPE, overrides)


def newest(run: Path) -> Checkpoint:
    """The newest checkpoint that is intact. Errors: CurriculaError where there is none."""
    found = checkpoint.newest(run / "checkpoints")
    if found is None:
        raise CurriculaError(f"{run}: no intact checkpoint yet; ask again after run.checkpoint_every steps")
    return found


def checkpoint_after(run: Path, step: int) -> Checkpoint:
    """The checkpoint after so many steps. Errors: as of `chosen`."""
    return chosen(run, steps=[step])[0]


def chosen(run: Path, last: int | None = None, steps: Sequence[int] | None = None) -> list[Checkpoint]:
    """Checkpoints of a run, oldest first: the last ones, those after some numbers of steps, or all that there are.

    Errors: CurriculaError where there is no run, where a checkpoint is not there or is damaged, or is another run's.
    """
    recipe = recipe_of(run)
    there = {checkpoint.step_of(folder): folder for folder in reversed(checkpoint.valid_folders(run / "checkpoints"))}
    wanted = sorted(set(steps)) if steps else sorted(there)[-last:] if last else sorted(there)
    missing = [step for step in wanted if step not in there]
    if missing or len(wanted) < (last or 1):
        asked = f"no checkpoint after {_listed(missing)} steps" if missing else f"expected {last or 1} checkpoints or more"
        kept = recipe.run.keep_checkpoints
        raise CurriculaError(
            f"{run}: {asked}; there are {len(there)}, after {_listed(there)} steps. run.keep_checkpoints = {kept} removes all but "
            f"the newest {kept}: ask for those that are there, or raise it (it may be changed at --resume)"
        )
    found = [_intact(there[step]) for step in wanted]
    _refuse_other_runs(run, recipe, found)
    return found


def _intact(folder: Path) -> Checkpoint:
    found = checkpoint.read(folder)
    if found is None:
        raise CurriculaError(f"checkpoint {folder}: a file does not agree with its manifest; it is damaged, take others")
    return found


def _refuse_other_runs(run: Path, recipe: Recipe, found: Sequence[Checkpoint]) -> None:
    """A resumed run may have had several recipes (what decides where things run may change); its log knows all of them."""
    own = {recipe.fingerprint}
    if {one.facts.get("recipe") for one in found} <= own:
        return
    own |= {str(record["facts"].get("recipe")) for record in read_log(run / "log") if "facts" in record}
    for one in found:
        if one.facts.get("recipe") not in own:
            raise CurriculaError(
                f"checkpoint {one.folder}: it is of the recipe {one.facts.get('recipe')}, which the log of {run} does not know "
                f"(it knows {_listed(own)}); take checkpoints of one run"
            )


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in sorted(values)) or "none"

"""The checkpoints of a run, to be read: by step, intact, and its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from curricula.types import CurriculaError
from rollout.log import read_log
from trainer import checkpoint
from trainer.checkpoint import Checkpoint
from trainer.recipe import load_recipe
from trainer.resume import RECIPE


def chosen(run: Path, last: int | None = None, steps: Sequence[int] | None = None) -> list[Checkpoint]:
    """Checkpoints of a run, oldest first: the last ones, those after some numbers of steps, or all that there are.

    Errors: CurriculaError where there is no run, where a checkpoint is not there or is damaged, or is another run's.
    """
    if not (run / RECIPE).is_file():
        raise CurriculaError(f"{run}: no {RECIPE} in it; expected the folder of a run, as `curricula train` writes it")
    there = {checkpoint.step_of(folder): folder for folder in reversed(checkpoint.valid_folders(run / "checkpoints"))}
    wanted = sorted(set(steps)) if steps else sorted(there)[-last:] if last else sorted(there)
    missing = [step for step in wanted if step not in there]
    if missing or len(wanted) < (last or 1):
        asked = f"no checkpoint after {_listed(missing)} steps" if missing else f"expected {last or 1} checkpoints or more"
        kept = load_recipe(run / RECIPE).run.keep_checkpoints
        raise CurriculaError(
            f"{run}: {asked}; there are {len(there)}, after {_listed(there)} steps. run.keep_checkpoints = {kept} removes all but "
            f"the newest {kept}: ask for those that are there, or raise it (it may be changed at --resume)"
        )
    found = [_intact(there[step]) for step in wanted]
    _refuse_other_runs(run, found)
    return found


def _intact(folder: Path) -> Checkpoint:
    found = checkpoint.read(folder)
    if found is None:
        raise CurriculaError(f"checkpoint {folder}: a file does not agree with its manifest; take others (--steps)")
    return found


def _refuse_other_runs(run: Path, found: Sequence[Checkpoint]) -> None:
    """A resumed run may have had several recipes (what decides where things run may change); its log knows all of them."""
    own = {load_recipe(run / RECIPE).fingerprint}
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

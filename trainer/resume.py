"""May this run go on from that checkpoint, and from where?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curricula.types import CurriculaError
from trainer import checkpoint
from trainer.recipe import Recipe, load_recipe

# What may change between a run and its continuation: it decides where and how fast things run, or what is measured, not what is
# learned.
FREE = (
    "evaluation.",
    "rollout.engine.",
    "rollout.verifier.n_workers",
    "rollout.verifier.max_failure_share",
    "rollout.log_texts",
    "run.keep_checkpoints",
    "run.checkpoint_every",
    "run.folder",
    "learner.n_ranks",
    "learner.placement",
    "learner.gpus_per_rank",
    "learner.cpus_per_rank",
    "learner.tokens_per_micro_batch",
    "learner.logprob_chunk_tokens",
)
BY_OPERATION = {  # what changes them in a run that is under way
    "run.n_steps": "curricula lr extend {folder} --steps {value}",
    "run.n_tokens": "curricula lr extend {folder} --tokens {value}",
    "schedule.horizon": "curricula lr extend {folder} --steps N --horizon {value}",
}
RECIPE = "recipe.yaml"


def start_folder(recipe: Recipe, folder: Path, resume: bool) -> checkpoint.Checkpoint | None:
    """Prepare the run's folder; the newest checkpoint when resuming, None for a run from the start.

    Errors: CurriculaError when a fresh run would overwrite another, or when a resumed run has another recipe.
    """
    saved = folder / RECIPE
    if saved.exists() and not resume:
        raise CurriculaError(
            f"{folder}: a run is there already; go on with --resume, or choose another run.folder (or remove the folder)"
        )
    if saved.exists():
        refuse_changes(load_recipe(saved), recipe, folder)
    folder.mkdir(parents=True, exist_ok=True)
    saved.write_text(recipe.to_yaml())
    return checkpoint.newest(folder / "checkpoints") if resume else None


def refuse_changes(before: Recipe, now: Recipe, folder: Path) -> None:
    """CurriculaError naming the first key that decides what is learned and differs, and the operation that changes it."""
    old, new = dict(flat(before.resolved)), dict(flat(now.resolved))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key) and not key.startswith(FREE):
            how = "start a new run.folder to change it"
            if key in BY_OPERATION:
                command = BY_OPERATION[key].format(folder=folder, value=new.get(key))
                how = f"to go on for longer: `{command}`, then resume with the recipe as it was"
            raise CurriculaError(
                f"resume: {key} was {old.get(key)!r} when the run began and is {new.get(key)!r} now; a resumed run has to keep it "
                f"({how})"
            )


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings under dotted names.

    >>> list(flat({"a": {"b": 1}, "c": [2]}))
    [('a.b', 1), ('c', [2])]
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value

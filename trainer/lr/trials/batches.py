"""Batches of rollouts as a run would draw them, and the learner that would learn from them. Nothing is written into a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from curricula.types import CurriculaError
from trainer import checkpoint
from trainer import optimizer as optimizers
from trainer.assembly import Parts, assemble, take_cpus
from trainer.batch import sequences_of, with_own_logprobs
from trainer.cluster import connected
from trainer.recipe import Recipe, load_recipe
from trainer.run_folder import RECIPE_OR_RUN, checkpoint_after, recipe_of
from trainer.types import Learner, TrainSequence

MOST_EMPTY_STEPS = 25  # steps in a row without signal, after which there is nothing to measure


@dataclass(frozen=True)
class Start:
    """Where rates are tried from."""

    recipe: Recipe
    saved: checkpoint.Checkpoint | None  # None = the recipe's model, with an optimiser that has seen nothing

    @property
    def words(self) -> str:
        return "the recipe's model" if self.saved is None else f"the checkpoint of step {self.saved.step}"


@dataclass(frozen=True, eq=False)
class Drawn:
    """Batches that the start's weights drew, one per step, and a learner to try rates on."""

    recipe: Recipe
    learner: Learner
    state: Path  # the learner's files, of before any trial
    batches: tuple[list[TrainSequence], ...]


def start_of(path: Path, step: int | None) -> Start:
    """A recipe file, or the folder of a run: its newest checkpoint or the one of ``step``.

    Errors: CurriculaError for anything else, a simulated learner, a run whose pool grows, an optimiser that needs no rate.
    """
    start = _of_run(path, step) if path.is_dir() else Start(load_recipe(path), None)
    if step is not None and start.saved is None:
        raise CurriculaError(f"{path}: --checkpoint {step} needs the folder of a run with checkpoints")
    if start.recipe.rollout.engine.backend == "simulated":
        raise CurriculaError(f"{path}: a simulated learner has no policy whose change could be measured; expected a real model")
    if optimizers.chosen(start.recipe.learner.optimizer).fit.peak is not None:
        name = start.recipe.learner.optimizer["name"]
        raise CurriculaError(f"{path}: the optimiser {name} finds its step size itself; there is no rate to look for")
    return start


def _of_run(folder: Path, step: int | None) -> Start:
    recipe = recipe_of(folder, expected=RECIPE_OR_RUN)
    saved = checkpoint.newest(folder / "checkpoints") if step is None else checkpoint_after(folder, step)
    if recipe.growth is not None and saved is not None:
        raise CurriculaError(
            f"{folder}: its pool grows, and only the run itself takes up a grown pool; give a recipe without growth with "
            f"model.path: {saved.folder / 'model'}"
        )
    return Start(recipe, saved)


@contextmanager
def drawn(start: Start, n_batches: int) -> Iterator[Drawn]:
    """Draw ``n_batches`` batches of different prompts with the start's weights, as the steps after it would.

    Files go to a folder that is gone afterwards; it needs the room of one checkpoint. Steps without signal are passed over.

    Errors: CurriculaError after 25 such steps in a row, and whatever a run's start refuses.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="curricula-lr-")))
        stack.enter_context(connected(start.recipe, None))
        parts = assemble(start.recipe, scratch, stack)
        first = _restore(parts, start.saved)
        state = start.saved.folder if start.saved is not None else scratch / "start"
        if start.saved is None:
            state.mkdir()
            parts.learner.save(state)
        batches = _collect(parts, start.recipe, first, n_batches)
        take_cpus(start.recipe.learner)
        yield Drawn(start.recipe, parts.learner, state, tuple(batches))


def _restore(parts: Parts, saved: checkpoint.Checkpoint | None) -> int:
    if saved is None:
        return 0
    parts.curriculum.load_state_dict(saved.curriculum_state())
    parts.learner.load(saved.folder)
    parts.fleet.publish(parts.learner.weights())
    return saved.step


def _collect(parts: Parts, recipe: Recipe, first: int, n_batches: int) -> list[list[TrainSequence]]:
    batches: list[list[TrainSequence]] = []
    taken: list[int] = []
    empty = 0
    step = first
    while len(batches) < n_batches:
        attempts = parts.collector.collect(step, exclude=taken)
        taken += [int(i) for attempt in attempts for i in attempt.plan.selection.prompt_B]
        sequences = sequences_of(attempts, recipe.learner.advantage, parts.prompts)
        live = any(sequence.mean_abs_advantage for sequence in sequences)
        step, empty = step + 1, 0 if live else empty + 1
        if live:
            batches.append(with_own_logprobs(sequences, parts.learner))
        elif empty >= MOST_EMPTY_STEPS or not attempts:
            raise CurriculaError(
                f"lr: {empty} steps without a group that has a signal, after {len(batches)} batches; expected {n_batches}: ask for "
                "fewer batches, or mend the task's levels"
            )
    return batches

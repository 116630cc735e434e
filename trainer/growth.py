"""Growing pools in a run: who becomes a parent, what the source is asked, and what is remembered of it.

LADDER (arXiv 2503.00735) adds easier variants of what is too hard, EGSR (arXiv 2505.08364) the same prompts with a hint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curricula.growth import carried_fields, inherited, rows_of
from curricula.stuck import Attempts, Believed, attempted, no_attempts
from curricula.types import CurriculaError, Feedback, PromptPool
from replay.own_log import LoggedStep
from rollout.collector import EncodedPrompts
from rollout.grown import Grown, as_logged, grown_pool, refuse_bad_children
from rollout.growth import Child, Occasion, build_source, text_key
from rollout.prompts import Prompt, PromptSet, Task
from trainer.settings import GrowthSettings

GROWTH = "growth.npz"  # in a checkpoint: how the prompts of a growing pool fared


class Lineage:
    """The pool as it grows, and how its prompts fared. A fold over the log, like the curriculum's own state."""

    def __init__(self, settings: GrowthSettings, pool: PromptPool) -> None:
        self._settings = settings
        self.pool = pool
        self._attempts = no_attempts(pool)

    def learn(self, feedbacks: Sequence[Feedback]) -> None:
        """All attempts of one step; each step once."""
        self._attempts = attempted(self._attempts, feedbacks)

    def hear(self, logged: LoggedStep) -> None:
        """Learn a step of a log, and take what it added."""
        self.learn(logged.feedbacks)
        if logged.grown is not None:
            self.take(logged.grown)

    def due(self, step: int) -> bool:
        """May the pool grow after this step?"""
        return (step + 1) % self._settings.every == 0

    def parents(self, believed: Believed) -> list[int]:
        """Rows of the prompts to ask children of, hardest first."""
        settings = self._settings
        row = settings.when.rows(self._attempts, self.pool, believed, settings.most_parents, settings.most_depth)
        found: list[int] = row.tolist()
        return found

    def take(self, grown: Grown) -> PromptPool:
        """Go on with the children; the larger pool."""
        old, self.pool = self.pool, grown_pool(self.pool, grown)
        self._attempts = carried_fields(self._attempts, no_attempts(self.pool), old, self.pool)
        closed_N = self._attempts.closed_N
        closed_N[rows_of(self.pool, list(grown.parents))] = True
        closed_N[len(old) :] = [child.hinted for child in grown.children]
        return self.pool

    def trained_as(self, grown: Grown) -> dict[int, int]:
        """By row of each hinted child, the row of its parent; after `take`."""
        first = len(self.pool) - len(grown.children)
        return {row: int(self.pool.parent_N[row]) for row, child in enumerate(grown.children, first) if child.hinted}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """For ``np.savez``."""
        return {name: value.copy() for name, value in self._attempts._asdict().items()}

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """After `take` of every growth before."""
        if any(arrays[name].shape != value.shape for name, value in self._attempts._asdict().items()):
            raise CurriculaError(
                f"growth: the checkpoint is of {len(arrays['closed_N'])} prompts, the log gives {len(self.pool)}; log and "
                "checkpoint are not of the same run: restore the log's files"
            )
        self._attempts = Attempts(**{name: np.array(arrays[name]) for name in Attempts._fields})


class Grower:
    """Asks the source for children."""

    def __init__(self, settings: GrowthSettings, task: Task, prompts: PromptSet, held_out: PromptSet, seed: int) -> None:
        self._settings, self._task, self._seed = settings, task, seed
        self._name = str(settings.source["name"])
        self._source = build_source(settings.source)
        if hasattr(self._source, "check"):
            self._source.check(task, prompts)
        self._held_out = frozenset(text_key(prompt.content) for prompt in held_out.prompts)

    def children(self, step: int, parents: Sequence[Prompt], pool: PromptPool, believed: Believed) -> Grown:
        """What the source makes of these prompts of the pool; a child that is held out is left out.

        Errors: CurriculaError for a child of another prompt, an id that is taken, values that do not survive JSON.
        """
        occasion = Occasion(self._task, self._seed, step, self._held_out)
        made = list(self._source.expand(parents, occasion))
        names = [parent.id for parent in parents]
        refuse_bad_children(made, names, pool, self._name)
        free = [child for child in made if text_key(child.prompt.content) not in self._held_out]
        by_id = {parent.id: parent for parent in parents}
        prior = dict(zip(names, inherited(believed(rows_of(pool, names)).mean_B, self._settings.easier_by).tolist(), strict=True))
        placed = [self._placed(child, by_id[child.parent], prior[child.parent]) for child in free]
        left_out = {"held_out": len(made) - len(free)} if len(free) < len(made) else {}
        return as_logged(Grown(step, tuple(names), tuple(placed), left_out), self._name)

    def _placed(self, child: Child, parent: Prompt, prior: float) -> Child:
        return replace(child, prompt=replace(child.prompt, distribution=parent.distribution, prior_pass_rate=prior))


def prompts_of(grown: Grown, like: EncodedPrompts) -> PromptSet:
    """The children as a prompt set with the same reward."""
    return PromptSet([child.prompt for child in grown.children], like.prompt_set.reward)


def without_long(grown: Grown, fitting: PromptSet) -> Grown:
    """The growth without the children that are too long for the window."""
    known = {prompt.id for prompt in fitting.prompts}
    kept = tuple(child for child in grown.children if child.prompt.id in known)
    if len(kept) == len(grown.children):
        return grown
    left_out = Counter(grown.left_out) + Counter({"too_long": len(grown.children) - len(kept)})
    return replace(grown, children=kept, left_out=dict(left_out))

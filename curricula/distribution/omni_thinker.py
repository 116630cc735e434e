"""One distribution after another, in the order in which they help the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curricula.distribution.staged import Staged, StagedState
from curricula.levels import named_order, natural_key
from curricula.registry import register
from curricula.types import CurriculaError, Feedback, Floats, PromptPool


@register("distribution", "omni_thinker")
@dataclass(frozen=True)
class OmniThinker:
    """One distribution after another, first the one whose training helps the others most. Omni-Thinker, arXiv 2507.14783.

    ``transfer[i][j]`` = held-out accuracy of j after a pilot run on i alone - before, rows and columns in the order of ``names``.
    Score S_i = mean over j != i of transfer[i][j]; order by falling S, equals by falling own gain transfer[i][i], then by name
    (both ours). Each stage lasts ``steps`` as in `staged`. Without a matrix the stages follow the natural order of the names.

    It needs one pilot run and one evaluation per distribution, which belong in the bill. If transfer were additive and constant,
    the order could not matter; it matters through what is forgotten after a stage.

    >>> rows = ((8, 2, 1, 0), (3, 6, 1, -1), (-1, 0, 9, 1), (-3, -4, -1, 7))
    >>> OmniThinker(names=("code", "math", "qa", "write"), transfer=rows).order
    ('code', 'math', 'qa', 'write')
    """

    names: tuple[str, ...] = ()
    transfer: tuple[tuple[float, ...], ...] = ()
    steps: tuple[int, ...] = (100,)

    def __post_init__(self) -> None:
        k = len(self.names)
        if len(self.transfer) != k or any(len(row) != k for row in self.transfer):
            raise CurriculaError(f"omni_thinker.transfer: expected {k} rows of {k} numbers, one per name, got {self.transfer}")
        if not np.isfinite(np.array(self.transfer, dtype=np.float64)).all():
            raise CurriculaError(f"omni_thinker.transfer: expected finite numbers, got {self.transfer}")
        if not self.steps or min(self.steps) < 1:
            raise CurriculaError(f"omni_thinker.steps: expected one number >= 1, or one per stage in their order, got {self.steps}")

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Names in the order of training."""
        rank = {name: (-score, -self.transfer[i][i]) for i, (name, score) in enumerate(zip(self.names, self.scores(), strict=True))}
        return tuple(sorted(self.names, key=lambda name: (*rank[name], natural_key(name))))

    def scores(self) -> list[float]:
        """How much training on each name helps the others, on average."""
        return [
            round(sum(gain for j, gain in enumerate(row) if j != i) / max(len(row) - 1, 1), 12)
            for i, row in enumerate(self.transfer)
        ]

    def init(self, pool: PromptPool) -> StagedState:
        if self.names:
            named_order(pool, self.names, "omni_thinker.names")
        return self._staged.init(pool)

    def probabilities(self, state: StagedState, pool: PromptPool) -> Floats:
        return self._staged.probabilities(state, pool)

    def update(self, state: StagedState, pool: PromptPool, feedback: Feedback) -> StagedState:
        return self._staged.update(state, pool, feedback)

    @cached_property
    def _staged(self) -> Staged:
        return Staged(order=self.order, steps=self.steps)

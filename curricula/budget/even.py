"""The same number of rollouts for every group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import Estimate, Ints, Outcome, PromptPool, Selection


@register("budget", "even")
@dataclass(frozen=True)
class Even(Stateless):
    """The budget in equal parts; what does not divide goes to the lowest prompt ids, one each. GRPO's own rule (arXiv 2402.03300).

    A group needs two rollouts: where the budget is too small for all, the lowest ids get two and the others none.

    >>> pool = PromptPool.from_columns("abc", "xxx")
    >>> selection = Selection([2, 0, 1], [0, 0, 0], [1, 1, 1])
    >>> [Even().allocate(None, pool, selection, None, n).tolist() for n in (10, 5, 1)]
    [[3, 4, 3], [0, 3, 2], [0, 0, 0]]
    """

    def allocate(self, state: Any, pool: PromptPool, selection: Selection, estimate: Estimate, n_rollouts: int) -> Ints:
        n_B = np.zeros(len(selection), dtype=np.int64)
        n_groups = min(len(selection), n_rollouts // 2)
        if n_groups:
            first = np.argsort(pool.ids[selection.prompt_B])[:n_groups]
            n_B[first] = n_rollouts // n_groups
            n_B[first[: n_rollouts % n_groups]] += 1
        return n_B

    def extend(self, state: Any, pool: PromptPool, outcome: Outcome, estimate: Estimate) -> None:
        return None

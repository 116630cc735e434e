"""A greedy completion for every group, to measure its rollouts against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curricula.budget.even import Even
from curricula.growth import carried_state
from curricula.registry import register
from curricula.stages import Budget
from curricula.types import Bools, Estimate, Feedback, Ints, Outcome, PromptPool, Selection


@register("budget", "remax")
@dataclass(frozen=True)
class Remax:
    """One greedy completion for every group with rollouts; the rest of the budget by another policy. ReMax, arXiv 2310.10505.

    The learner's part is ``learner.advantage: remax``: r(rollout) - r(greedy completion), without a standard deviation. The greedy
    completion is verified, charged to the budget, logged and never trained on, and no belief counts it. At binary rewards the
    advantage is -1, 0 or 1, and 0 wherever rollout and greedy completion agree: a group of equal rewards has signal when the greedy
    completion differs, so a filter that drops such groups throws away what was paid for.

    Of n rollouts min(B, (n + 1) div 3) are set aside: with two rollouts at least in a group, no more groups can be served. What is
    set aside and not asked for stays unspent. Greedy completions belong to the first allocation round; groups without one get no
    rollouts in later rounds either.

    Departure: the paper draws one rollout per prompt. A group here has two at least, as under every budget policy: groups of one
    would be enough for this advantage, but beliefs, filters and signals compare rollouts.

    >>> pool = PromptPool.from_columns("abc", "xxx")
    >>> selection = Selection([2, 0, 1], [0, 0, 0], [1, 1, 1])
    >>> [Remax().allocate(None, pool, selection, None, n).tolist() for n in (13, 6, 2)]
    [[3, 4, 3], [0, 2, 2], [0, 0, 0]]
    """

    inner: Budget = Even()

    def init(self, pool: PromptPool) -> Any:
        return self.inner.init(pool)

    def carry(self, state: Any, old: PromptPool, new: PromptPool) -> Any:
        """The inner policy's state for a grown pool."""
        return carried_state(self.inner, state, old, new)

    def update(self, state: Any, pool: PromptPool, feedback: Feedback) -> Any:
        return self.inner.update(state, pool, feedback)

    def allocate(self, state: Any, pool: PromptPool, selection: Selection, estimate: Estimate, n_rollouts: int) -> Ints:
        set_aside = min(len(selection), (n_rollouts + 1) // 3)
        return self.inner.allocate(state, pool, selection, estimate, n_rollouts - set_aside)

    def baselines(self, state: Any, pool: PromptPool, selection: Selection, n_B: Ints) -> Bools:
        """(B,) the groups that have rollouts."""
        return np.asarray(n_B > 0)

    def extend(self, state: Any, pool: PromptPool, outcome: Outcome, estimate: Estimate) -> Ints | None:
        more_B = self.inner.extend(state, pool, outcome, estimate)
        return None if more_B is None else np.where(outcome.plan.greedy_B, more_B, 0)

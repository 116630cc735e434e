"""Prompts in the order of the data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from curricula.growth import row_in
from curricula.registry import register
from curricula.stages import Believed, Quota
from curricula.types import Feedback, PromptPool, Selection
from curricula.visits import Visits, inclusion, moved_visits, no_visits, rungs, visited


@register("selector", "sequential")
@dataclass(frozen=True)
class Sequential:
    """The next prompts of each distribution in row order, from the front again after the last. Ours; a data loader's order.

    The cursor is the first row with the fewest visits, so groups that never came back are not skipped, and prompts in flight are.
    The propensity is the probability that the drawn quota reaches the prompt.

    >>> from curricula.curriculum import Curriculum
    >>> pool = PromptPool.from_columns("cab", "xxx")
    >>> curriculum = Curriculum.from_recipe({"selector": {"name": "sequential"}}, pool)
    >>> curriculum.plan(step=0, n_groups=2, n_rollouts=4).selection.prompt_B
    array([0, 1])
    """

    follows_rows: ClassVar[bool] = True  # shuffling the rows changes the plan, by design

    def init(self, pool: PromptPool) -> Visits:
        return no_visits(pool.size_K)

    def carry(self, state: Visits, old: PromptPool, new: PromptPool) -> Visits:
        return moved_visits(state, new.row_place_N[row_in(old, new)[old.row_order_N]], new.start_K)

    def select(self, state: Visits, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        row_N = pool.row_order_N
        blocked = np.flatnonzero(quota.blocked_N[row_N])
        prompts, propensities = [], []
        for k in pool.name_order_K[quota.asked_K[pool.name_order_K]]:
            start, stop = pool.start_K[k], pool.start_K[k + 1]
            inside = blocked[(blocked >= start) & (blocked < stop)] - start
            most = int(np.ceil(quota.expected_K[k]))
            place = np.concatenate(rungs(state.visits_N[start:stop], inside, most))[:most]
            chance = inclusion(quota.expected_K[k], np.arange(len(place)), 1)
            if quota.tell is not None:
                quota.tell(row_N[start + place], chance)
            prompts.append(row_N[start + place[: quota.drawn_K[k]]])
            propensities.append(chance[: quota.drawn_K[k]])
        prompt_B = np.concatenate([np.empty(0, np.int64), *prompts])
        return Selection(prompt_B, pool.distribution_N[prompt_B], np.concatenate([np.empty(0), *propensities]))

    def update(self, state: Visits, pool: PromptPool, feedback: Feedback) -> Visits:
        selection = feedback.plan.selection
        return visited(state, pool.start_K, pool.row_place_N[selection.prompt_B], selection.distribution_B)

"""No prompt twice before all came once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from curricula.combinators import Around
from curricula.growth import carried_state, row_in
from curricula.registry import register
from curricula.selector.uniform import UniformWithoutReplacement
from curricula.stages import Believed, Quota, Selector
from curricula.types import Feedback, Ints, PromptPool, Selection
from curricula.visits import Visits, moved_visits, no_visits, rungs, visited


class EpochState(NamedTuple):
    """4 bytes per prompt, in canonical order."""

    visits: Visits
    inner: Any


@register("selector", "epoch")
@dataclass(frozen=True)
class Epoch(Around):
    """No prompt again before every open one of its distribution came once, whatever the selector inside prefers. Ours.

    The inner selector chooses among the prompts with the fewest visits. When they are too few for a plan, all of them come, with
    propensity 1, and the inner selector fills the rest from the next epoch. Rules that take what is nearest to a target repeat a
    few prompts while the target stands still; around them, this is the mask of used prompts.

    >>> from curricula.curriculum import Curriculum
    >>> pool = PromptPool.from_columns("abc", "xxx", prior_pass_rate=[0.5, 0.7, 0.9])
    >>> nearest = {"name": "nearest", "floor": 0.0}
    >>> curriculum = Curriculum.from_recipe({"selector": {"name": "epoch", "inner": nearest}}, pool)
    >>> pool.ids[curriculum.plan(0, n_groups=2, n_rollouts=4).selection.prompt_B]
    array(['a', 'b'], dtype='<U1')
    """

    inner: Selector = UniformWithoutReplacement()

    def init(self, pool: PromptPool) -> EpochState:
        return EpochState(no_visits(pool.size_K), self.inner.init(pool))

    def carry(self, state: EpochState, old: PromptPool, new: PromptPool) -> EpochState:
        visits = moved_visits(state.visits, new.place_N[row_in(old, new)[old.canonical_N]], new.start_K)
        return EpochState(visits, carried_state(self.inner, state.inner, old, new))

    def select(self, state: EpochState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        certain, left = _split(state.visits, pool, quota)
        if quota.tell is not None:
            quota.tell(certain, np.ones(len(certain)))
        chosen = self.inner.select(state.inner, pool, left, believed, rng)
        prompt_B = np.concatenate([certain, chosen.prompt_B])
        propensity_B = np.concatenate([np.ones(len(certain)), chosen.propensity_B])
        return Selection(prompt_B, pool.distribution_N[prompt_B], propensity_B)

    def update(self, state: EpochState, pool: PromptPool, feedback: Feedback) -> EpochState:
        chosen = feedback.plan.selection
        visits = visited(state.visits, pool.start_K, pool.place_N[chosen.prompt_B], chosen.distribution_B)
        return EpochState(visits, self.inner.update(state.inner, pool, feedback))


def _split(visits: Visits, pool: PromptPool, quota: Quota) -> tuple[Ints, Quota]:
    """Prompts that come for certain, and the quota of the inner selector: what is left, among the next in line."""
    blocked_N, drawn_K, expected_K = np.ones(len(pool), np.bool_), quota.drawn_K.copy(), quota.expected_K.copy()
    certain = [np.empty(0, np.int64)]
    for k in pool.name_order_K[quota.asked_K[pool.name_order_K]]:
        member = pool.members(k)
        inside = np.flatnonzero(quota.blocked_N[member])
        found = rungs(visits.visits_N[pool.start_K[k] : pool.start_K[k + 1]], inside, int(np.ceil(quota.expected_K[k])))
        certain.extend(member[rung] for rung in found[:-1])
        n_certain = sum(map(len, found[:-1]))  # below the ceiling of the expectation, so at most what was drawn
        drawn_K[k] -= n_certain
        expected_K[k] -= n_certain
        blocked_N[member[found[-1]]] = False
    return np.concatenate(certain), replace(quota, drawn_K=drawn_K, expected_K=expected_K, blocked_N=blocked_N)

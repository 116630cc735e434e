"""Easiest first, slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.growth import row_in
from curricula.inclusion import by_parts, choose, top
from curricula.ladder import certain_then, pass_rate_order
from curricula.registry import register
from curricula.stages import Believed, Quota
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool, Selection
from curricula.visits import Visits, moved_visits, no_visits, visited


class AdclState(NamedTuple):
    """6 bytes per prompt, in canonical order."""

    visits: Visits
    slice_of_N: NDArray[np.int16]  # 0 = the easiest


@register("selector", "adcl")
@dataclass(frozen=True)
class Adcl:
    """The easiest prompts first, in slices that are ordered anew by what is believed when their turn comes. ADCL, arXiv 2505.08364.

    Each distribution is sorted by prior pass rate (unknown = 1/2) and cut into ``slices`` equal parts. A part is opened when every
    prompt of the part before it came back; inside it, the highest believed pass rate goes first and equals share alike. After the
    last part the first begins again. The paper orders a part by pilot rollouts before it starts; here the belief has
    learned from rollouts that were paid for anyway. The number of slices is ours: the paper's is not known to us.

    >>> from curricula.curriculum import Curriculum
    >>> pool = PromptPool.from_columns("abcd", "xxxx", prior_pass_rate=[0.1, 0.45, 0.8, 0.95])
    >>> curriculum = Curriculum.from_recipe({"selector": {"name": "adcl", "slices": 2}}, pool)
    >>> pool.ids[curriculum.plan(0, n_groups=3, n_rollouts=6).selection.prompt_B]
    array(['b', 'c', 'd'], dtype='<U1')
    """

    slices: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.slices <= 10_000:
            raise CurriculaError(f"adcl.slices: expected 1..10000, got {self.slices}")

    def init(self, pool: PromptPool) -> AdclState:
        slice_of_N = np.zeros(len(pool), np.int16)
        for k, start in enumerate(pool.start_K[:-1]):
            order = start + pass_rate_order(pool.prior_pass_rate_N[pool.members(k)])
            slice_of_N[order] = np.arange(len(order)) * self.slices // len(order)
        return AdclState(no_visits(pool.size_K), slice_of_N)

    def carry(self, state: AdclState, old: PromptPool, new: PromptPool) -> AdclState:
        visits = moved_visits(state.visits, new.place_N[row_in(old, new)[old.canonical_N]], new.start_K)
        return AdclState(visits, self.init(new).slice_of_N)

    def select(self, state: AdclState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        def weigh(prompt_n: Ints, expected: float) -> Floats:
            k = pool.distribution_N[prompt_n[0]]
            whole = len(prompt_n) == pool.size_K[k]  # then its places are a range
            place_n = slice(pool.start_K[k], pool.start_K[k + 1]) if whole else pool.place_N[prompt_n]
            rung_n = state.visits.visits_N[place_n] * np.int32(self.slices) + state.slice_of_N[place_n]

            def decide(at: Ints, n: float) -> Floats:
                return top(by_parts(lambda part: believed(part).mean_B, prompt_n[at]), n)

            return certain_then(rung_n, expected, decide)

        return choose(pool, quota, weigh, 0.0, rng)

    def update(self, state: AdclState, pool: PromptPool, feedback: Feedback) -> AdclState:
        chosen = feedback.plan.selection
        visits = visited(state.visits, pool.start_K, pool.place_N[chosen.prompt_B], chosen.distribution_B)
        return state._replace(visits=visits)

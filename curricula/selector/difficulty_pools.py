"""Hard, normal and easy prompts by their latest group, with a weight for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.groups import pass_rates
from curricula.inclusion import choose_among_candidates, proportional
from curricula.registry import register
from curricula.stages import Believed, Quota
from curricula.types import CurriculaError, Feedback, Floats, PromptPool, Selection


class PoolsState(NamedTuple):
    """8 bytes per prompt."""

    mean_N: NDArray[np.float32]  # (N,) mean score of the newest group; NaN = none yet
    stamp_N: NDArray[np.int32]  # (N,) step of that group


@register("selector", "difficulty_pools")
@dataclass(frozen=True)
class DifficultyPools:
    """Chances by pool: hard (latest pass rate up to 0.25), normal (up to 0.75) or easy; unseen prompts have a weight of their own.

    As in prime-rl (the trainer of INTELLECT-2, arXiv 2505.07291), weights 0.2, 1, 0.2 and 1 for unseen. It draws with replacement;
    here a prompt comes at most once in a plan, with an exact chance. A late group does not replace a newer one, and ``floor`` is
    the share of each quota spread evenly over all open prompts (both ours). It needs no belief; it forgets all but the last group,
    so with small groups a prompt changes its pool by chance alone.

    >>> DifficultyPools().weights(np.array([0.0, 0.5, np.nan, 0.9]))
    array([0.2, 1. , 1. , 0.2])
    """

    hard_up_to: float = 0.25
    normal_up_to: float = 0.75
    hard_weight: float = 0.2
    normal_weight: float = 1.0
    easy_weight: float = 0.2
    unseen_weight: float = 1.0
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.hard_up_to <= self.normal_up_to <= 1:
            raise CurriculaError(
                "difficulty_pools: expected 0 <= hard_up_to <= normal_up_to <= 1, "
                f"got hard_up_to={self.hard_up_to}, normal_up_to={self.normal_up_to}"
            )
        for key in ("hard_weight", "normal_weight", "easy_weight", "unseen_weight"):
            if not 0 <= getattr(self, key) < np.inf:
                raise CurriculaError(f"difficulty_pools.{key}: expected a finite number >= 0, got {getattr(self, key)}")
        if not 0 <= self.floor <= 1:
            raise CurriculaError(f"difficulty_pools.floor: expected 0..1, got {self.floor}")

    def init(self, pool: PromptPool) -> PoolsState:
        return PoolsState(np.full(len(pool), np.nan, np.float32), np.full(len(pool), -1, np.int32))

    def select(self, state: PoolsState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        return choose_among_candidates(
            pool, quota, lambda prompt_n, n: proportional(self.weights(state.mean_N[prompt_n]), n), self.floor, rng
        )

    def weights(self, mean_n: NDArray[np.floating]) -> Floats:
        """(n,) the weight of each prompt's pool."""
        edges = np.array([self.hard_up_to, self.normal_up_to], dtype=mean_n.dtype)  # NaN sorts past both, like 1
        by_pool = np.array([self.hard_weight, self.normal_weight, self.easy_weight])
        weight_n: Floats = np.where(np.isnan(mean_n), self.unseen_weight, by_pool[np.searchsorted(edges, mean_n, side="left")])
        return weight_n

    def update(self, state: PoolsState, pool: PromptPool, feedback: Feedback) -> PoolsState:
        mean_B, prompt_B, step = pass_rates(feedback.outcome), feedback.plan.selection.prompt_B, feedback.plan.step
        newest_B = ~np.isnan(mean_B) & (state.stamp_N[prompt_B] <= step)
        state.mean_N[prompt_B[newest_B]] = mean_B[newest_B]
        state.stamp_N[prompt_B[newest_B]] = step
        return state

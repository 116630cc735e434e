"""Prompts that had much to learn from come again soon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.groups import means, relative_variances
from curricula.inclusion import choose, top
from curricula.registry import register
from curricula.stages import Believed, Quota
from curricula.types import CurriculaError, Feedback, Floats, PromptPool, Reason, Selection


class Memory(NamedTuple):
    """5 bytes per prompt."""

    priority_N: NDArray[np.float32]  # 0 = not in the memory
    replays_N: NDArray[np.uint8]  # how often the entry came back


@register("selector", "vcrl_replay")
@dataclass(frozen=True)
class PriorityReplay:
    """Give a ``share`` of each plan to remembered prompts of high priority, the rest to all. VCRL's memory, arXiv 2509.19803.

    A prompt enters the memory when the filter finds its group good (kept or surplus), with priority v = its variance as a share of
    the largest possible, and leaves after ``replays`` returns; each return makes the priority P <- decay x P + (1 - decay) x v. The
    paper fills the places of rejected groups from the memory; a selector does not know which plan is a refill, so a fixed share of
    every plan is used (ours: 0.25). Made for filter ``vcrl``; a replayed prompt is rolled out anew.

    >>> float(PriorityReplay().moved(0.9375, 0.75))
    0.91875
    """

    share: float = 0.25
    decay: float = 0.9
    replays: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise CurriculaError(f"vcrl_replay.share: expected a share in [0, 1), got {self.share}")
        if not 0 <= self.decay <= 1:
            raise CurriculaError(f"vcrl_replay.decay: expected a number in 0..1, got {self.decay}")
        if not 1 <= self.replays <= 255:
            raise CurriculaError(f"vcrl_replay.replays: expected 1..255, got {self.replays}")

    def init(self, pool: PromptPool) -> Memory:
        return Memory(np.zeros(len(pool), np.float32), np.zeros(len(pool), np.uint8))

    def select(self, state: Memory, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        return choose(pool, quota, lambda prompt_n, n: self._weigh(state.priority_N[prompt_n], n), 0.0, rng)

    def _weigh(self, priority_n: NDArray[np.float32], expected: float) -> Floats:
        remembered_n = priority_n > 0
        probability_n = np.zeros(len(priority_n))
        n_replayed = min(self.share * expected, float(np.count_nonzero(remembered_n)))
        if n_replayed > 0:
            probability_n[remembered_n] = top(priority_n[remembered_n].astype(np.float64), n_replayed)
        open_n = 1.0 - probability_n
        return probability_n + (expected - n_replayed) * open_n / max(float(open_n.sum()), 1e-300)

    def update(self, state: Memory, pool: PromptPool, feedback: Feedback) -> Memory:
        share_B = relative_variances(feedback.outcome)
        known_B = np.isfinite(share_B)
        good_B = np.isin(feedback.verdict.reason_B, (Reason.KEPT, Reason.SURPLUS)) & (share_B > 0)
        prompt, place_b = np.unique(feedback.plan.selection.prompt_B[known_B], return_inverse=True)
        v = means(share_B[known_B], place_b, len(prompt))
        good = np.bincount(place_b, weights=good_B[known_B], minlength=len(prompt)) > 0
        before, replays = state.priority_N[prompt], state.replays_N[prompt]
        there = before > 0
        replays = np.where(there, replays + 1, 0)
        leaves = there & (replays >= self.replays)
        stays = there & ~leaves
        state.priority_N[prompt] = np.where(stays, np.maximum(self.moved(before, v), 1e-6), np.where(good & ~there, v, 0.0))
        state.replays_N[prompt] = np.where(stays, replays, 0)
        return state

    def moved(self, priority: Floats | float, v: Floats | float) -> Floats:
        """The priority of an entry whose prompt came back with relative variance v."""
        return np.asarray(self.decay * np.asarray(priority) + (1.0 - self.decay) * np.asarray(v))

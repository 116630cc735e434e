"""No more of what is solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.combinators import Around, narrowed
from curricula.groups import n_scored, scored
from curricula.registry import register
from curricula.selector.uniform import UniformWithoutReplacement
from curricula.stages import Believed, Quota, Selector
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool, Selection


class SkipSolvedState(NamedTuple):
    """12 bytes per prompt."""

    score_N: NDArray[np.float32]  # sum over all scored rollouts
    rollouts_N: NDArray[np.int32]  # how many they are
    stamp_N: NDArray[np.int32]  # newest step that brought some
    step: Ints  # () newest step learned from
    inner: Any


@register("selector", "skip_solved")
@dataclass(frozen=True)
class SkipSolved(Around):
    """Leaves out prompts that are solved, around any selector. ScaleRL's no-positive-resampling, arXiv 2510.13786.

    Solved: a pass rate of at least ``at`` over at least ``least`` rollouts. The rate is that of the prompt's whole history, or the
    one that is believed (a belief that forgets lets it return). After ``revisit`` steps without a visit it is open for one more
    look; 0 = never, the paper's rule. Where too few prompts are left, those with the lowest rate are opened again, equals
    together. ``least`` and ``revisit`` are ours, and so is the whole history: which one the paper means is not known to us.

    >>> SkipSolved(at=0.9, least=8, revisit=0).retired(np.array([0.95, 0.95, 0.5]), np.array([8, 4, 16]), np.array([3, 3, 3]))
    array([ True, False, False])
    """

    inner: Selector = UniformWithoutReplacement()
    at: float = 0.9
    least: int = 8
    revisit: int = 200
    by: Literal["history", "belief"] = "history"

    def __post_init__(self) -> None:
        if not 0 < self.at <= 1:
            raise CurriculaError(f"skip_solved.at: expected a pass rate above 0 and at most 1, got {self.at}")
        if self.least < 1 or self.revisit < 0:
            raise CurriculaError(
                f"skip_solved: expected least >= 1 and revisit >= 0, got least={self.least}, revisit={self.revisit}"
            )

    def init(self, pool: PromptPool) -> SkipSolvedState:
        n = len(pool)
        return SkipSolvedState(
            np.zeros(n, np.float32), np.zeros(n, np.int32), np.zeros(n, np.int32), np.array(0, np.int64), self.inner.init(pool)
        )

    def retired(self, rate_n: Floats, rollouts_n: NDArray[Any], idle_n: NDArray[Any]) -> NDArray[np.bool_]:
        """(n,) which prompts are left out, given pass rates, rollouts, and steps since the last visit."""
        solved_n = (rollouts_n >= self.least) & (rate_n >= self.at - 1e-6)  # sums of 32-bit scores
        return np.asarray(solved_n & (idle_n < self.revisit) if self.revisit else solved_n)

    def select(
        self, state: SkipSolvedState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator
    ) -> Selection:
        history_N = state.score_N / np.maximum(state.rollouts_N, 1)
        rate_N = believed(np.arange(len(pool))).mean_B if self.by == "belief" else history_N
        out_N = self.retired(rate_N, state.rollouts_N, state.step - state.stamp_N)
        return self.inner.select(state.inner, pool, narrowed(pool, quota, np.where(out_N, rate_N, 0.0)), believed, rng)

    def update(self, state: SkipSolvedState, pool: PromptPool, feedback: Feedback) -> SkipSolvedState:
        prompt_B, step, b = feedback.plan.selection.prompt_B, feedback.plan.step, len(feedback.plan)
        score, group = scored(feedback.outcome)
        n_B = n_scored(feedback.outcome)
        np.add.at(state.score_N, prompt_B, np.bincount(group, weights=score, minlength=b).astype(np.float32))
        np.add.at(state.rollouts_N, prompt_B, n_B.astype(np.int32))
        np.maximum.at(state.stamp_N, prompt_B[n_B > 0], np.int32(step))
        return state._replace(step=np.maximum(state.step, step), inner=self.inner.update(state.inner, pool, feedback))

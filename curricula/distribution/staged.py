"""One distribution after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from curricula.groups import pass_rates
from curricula.histories import History, no_history, noted
from curricula.levels import LevelOrder, level_order
from curricula.registry import register
from curricula.types import Bools, CurriculaError, Feedback, Floats, Ints, PromptPool


class StagedState(NamedTuple):
    """Which stages are over, and the pass rates that decide about the present one."""

    done_K: Bools
    since: Ints  # () the step in which the present stage began
    n_steps: Ints  # () the newest step learned from, plus one
    scores: History


@register("distribution", "staged")
@dataclass(frozen=True)
class Staged:
    """One distribution after another, easiest first, each for its steps or until its pass rate is reached. Ours.

    ``advance="steps"``: a stage lasts ``steps`` (one number for all, or one per stage; sequential training as in Omni-Thinker,
    arXiv 2507.14783). ``"pass_rate"``: until the mean pass rate over ``window`` steps of the stage is at least ``threshold``.
    ``"either"``: whichever comes first. The last stage never ends. The order is ``order``, or the natural order of names, or
    falling prior pass rate. What is not the present stage gets 0; the curriculum's exploration, `floored` or `mixture` keep it
    alive.

    >>> pool = PromptPool.from_columns("abc", ["level-10", "level-2", "level-2"])
    >>> staged = Staged()
    >>> pool.distribution_names, staged.probabilities(staged.init(pool), pool)
    (('level-10', 'level-2'), array([0., 1.]))
    """

    order: tuple[str, ...] = ()
    by: LevelOrder = "name"
    advance: Literal["steps", "pass_rate", "either"] = "steps"
    steps: tuple[int, ...] = (100,)
    threshold: float = 0.8
    window: int = 5  # steps of the stage

    def __post_init__(self) -> None:
        if not self.steps or min(self.steps) < 1:
            raise CurriculaError(f"staged.steps: expected one number >= 1, or one per stage, got {self.steps}")
        if not 0 <= self.threshold <= 1:
            raise CurriculaError(f"staged.threshold: expected a number in 0..1, got {self.threshold}")
        if self.window < 1:
            raise CurriculaError(f"staged.window: expected >= 1, got {self.window}")

    def init(self, pool: PromptPool) -> StagedState:
        k = pool.n_distributions
        level_order(pool, self.order, self.by, "staged.order")
        if len(self.steps) not in (1, k):
            raise CurriculaError(f"staged.steps: expected 1 or {k} numbers for {k} distributions, got {len(self.steps)}")
        zero = np.array(0, np.int64)
        return StagedState(np.zeros(k, dtype=np.bool_), zero, zero, no_history(k, self.window))

    def probabilities(self, state: StagedState, pool: PromptPool) -> Floats:
        share_K = np.zeros(pool.n_distributions)
        share_K[self._present(state, pool)[1]] = 1.0
        return share_K

    def update(self, state: StagedState, pool: PromptPool, feedback: Feedback) -> StagedState:
        step, arm_B = feedback.plan.step, feedback.plan.selection.distribution_B
        state = state._replace(
            n_steps=np.maximum(state.n_steps, step + 1),
            scores=noted(state.scores, step, pass_rates(feedback.outcome), arm_B),
        )
        for _ in range(pool.n_distributions - 1 - int(state.done_K.sum())):
            end = self._end(state, pool)
            if end is None:
                break
            done_K = state.done_K.copy()
            done_K[self._present(state, pool)[1]] = True
            state = state._replace(done_K=done_K, since=np.array(end, np.int64))
        return state

    def _present(self, state: StagedState, pool: PromptPool) -> tuple[int, int]:
        """Number of the present stage, and its distribution."""
        order = level_order(pool, self.order, self.by, "staged.order")
        place = int(np.append(np.flatnonzero(~state.done_K[order]), len(order) - 1)[0])
        return place, int(order[place])

    def _end(self, state: StagedState, pool: PromptPool) -> int | None:
        """The step in which the next stage begins, or None while the present one goes on."""
        place, k = self._present(state, pool)
        last = int(state.since) + self.steps[place if len(self.steps) > 1 else 0]
        if self.advance != "steps" and self._reached(state.scores, k, int(state.since)):
            return int(state.n_steps)
        return last if self.advance != "pass_rate" and state.n_steps >= last else None

    def _reached(self, scores: History, k: int, since: int) -> bool:
        """Has the distribution been at the threshold, on average over a full window of steps since its stage began?"""
        if not ((scores.step_KW[k] >= since) & (scores.n_KW[k] > 0)).all():
            return False
        return float(scores.sum_KW[k].sum() / scores.n_KW[k].sum()) >= self.threshold - 1e-9

"""Prompts nearest to a difficulty that follows the pass rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.growth import row_in
from curricula.inclusion import choose_among_candidates, top
from curricula.moving import Moving, moved, starting_at
from curricula.ranking import PRIOR, column_of, refuse_missing_column
from curricula.registry import register
from curricula.stages import Believed, Quota
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool, Selection
from curricula.visits import Visits, moved_visits, no_visits, visited


class AdaRFTState(NamedTuple):
    """4 bytes per prompt."""

    target: Moving
    used: Visits  # in the pool's canonical order


@register("selector", "adarft")
@dataclass(frozen=True)
class AdaRFT:
    """Prompts nearest to a target difficulty that rises while they are solved and falls while they are not. arXiv 2504.05520.

    T <- clip(T + speed x tanh(slope (R - goal)), 0, 100) after each step, R the mean score of its rollouts. Difficulty is
    100 x (1 - prior pass rate), or what is believed where no rate is stated (ours); or else feature ``column`` of the pool, on
    the scale from ``lowest`` to ``highest``. Ties share alike.

    The released code may take the same prompts again and again while T stands still. ``once_per_epoch`` (ours, on) takes the
    nearest of those that came least often in their distribution; False is the paper's rule. ``floor`` is the share of each quota
    spread evenly over all open prompts (ours). With skewed difficulties, give ranks as the feature.

    >>> float(np.round(AdaRFT().move(0.0, 0.8), 4))  # 50 x tanh(2 x 0.3)
    26.8525
    """

    column: int = PRIOR
    start: float = 0.0
    speed: float = 50.0
    slope: float = 2.0
    goal: float = 0.5
    lowest: float = 0.0
    highest: float = 100.0
    once_per_epoch: bool = True
    floor: float = 0.05

    def __post_init__(self) -> None:
        for key in ("goal", "floor"):
            if not 0 <= getattr(self, key) <= 1:
                raise CurriculaError(f"adarft.{key}: expected 0..1, got {getattr(self, key)}")
        for key in ("speed", "slope"):
            if not 0 <= getattr(self, key) < np.inf:
                raise CurriculaError(f"adarft.{key}: expected a finite number >= 0, got {getattr(self, key)}")
        if not -np.inf < self.lowest <= self.start <= self.highest < np.inf:
            raise CurriculaError(
                f"adarft: expected lowest <= start <= highest, got lowest={self.lowest}, start={self.start}, highest={self.highest}"
            )
        if self.column < PRIOR:
            raise CurriculaError(f"adarft.column: expected a feature column, or -1 for the prior pass rate; got {self.column}")

    def init(self, pool: PromptPool) -> AdaRFTState:
        refuse_missing_column(pool, self.column, "adarft")
        return AdaRFTState(starting_at(self.start), no_visits(pool.size_K))

    def carry(self, state: AdaRFTState, old: PromptPool, new: PromptPool) -> AdaRFTState:
        refuse_missing_column(new, self.column, "adarft")
        place = new.place_N[row_in(old, new)[old.canonical_N]]
        return state._replace(used=moved_visits(state.used, place, new.start_K))

    def select(self, state: AdaRFTState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        def weigh(prompt_n: Ints, expected: float) -> Floats:
            score_n = -np.abs(self._difficulty(pool, prompt_n, believed) - float(state.target.now))
            if not self.once_per_epoch:
                return top(score_n, expected)
            return fewest_first(state.used.visits_N[pool.place_N[prompt_n]], score_n, expected)

        return choose_among_candidates(pool, quota, weigh, self.floor, rng)

    def _difficulty(self, pool: PromptPool, prompt_n: Ints, believed: Believed) -> Floats:
        value_n = column_of(pool, self.column, prompt_n)
        if self.column != PRIOR:
            return value_n
        unknown_n = np.isnan(value_n)
        if unknown_n.any():
            value_n = value_n.copy()
            value_n[unknown_n] = believed(prompt_n[unknown_n]).mean_B
        return 100.0 * (1.0 - value_n)

    def update(self, state: AdaRFTState, pool: PromptPool, feedback: Feedback) -> AdaRFTState:
        selection = feedback.plan.selection
        used = visited(state.used, pool.start_K, pool.place_N[selection.prompt_B], selection.distribution_B)
        return AdaRFTState(moved(state.target, feedback, self.move), used)

    def move(self, target: float, pass_rate: float) -> float:
        """The target after a step with this mean score."""
        return float(np.clip(target + self.speed * np.tanh(self.slope * (pass_rate - self.goal)), self.lowest, self.highest))


def fewest_first(visits_n: np.ndarray, score_n: Floats, expected: float) -> Floats:
    """(n,) inclusion probabilities of the largest scores among those visited least; who is visited more comes after them."""
    probability_n, left = np.zeros(len(score_n)), expected
    rest = np.arange(len(score_n))
    while left > 0 and len(rest):
        fewest = visits_n[rest] == visits_n[rest].min()
        here, rest = rest[fewest], rest[~fewest]
        n = min(left, float(len(here)))
        probability_n[here] = top(score_n[here], n)
        left -= n
    return probability_n

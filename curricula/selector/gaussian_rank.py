"""Prompts around a place in a static ranking that moves on as the model gets better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.growth import carried_fields
from curricula.inclusion import boltzmann, choose_among_candidates
from curricula.moving import Moving, moved, starting_at
from curricula.ranking import PRIOR, column_of, rank_shares, refuse_missing_column
from curricula.registry import register
from curricula.stages import Believed, Quota
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool, Selection


class RankState(NamedTuple):
    """4 bytes per prompt."""

    rank_N: NDArray[np.float32]  # (N,) share of the pool that is ranked before the prompt; never changes
    shift: Moving  # how far the centre has moved


@register("selector", "gaussian_rank")
@dataclass(frozen=True)
class GaussianRank:
    """Chances by a bell curve over a static ranking whose centre moves on with the pass rate. GAIN-RL, arXiv 2506.02281.

    Weight exp(-(q - mean)^2 / (2 width^2)) for a prompt of rank q, largest value first: feature ``column`` of the pool (GAIN-RL's
    angle concentration of the hidden states), or the prior pass rate (``column = -1``: easiest first; ours). Ranks, mean and width
    are shares of the pool; 0.05, 0.1 and 0.1 are the released 500, 1000 and 1000 of 10,000 prompts. After each step the mean moves
    by speed x (tanh(slope (pass rate - goal)) + tanh(slope x angle)), at least 0 and at most ``most``.

    Departures: hosts do not measure the angle of the hidden states while training, so ``angle`` is a number (0 = leave it out). One
    move per step; the released code moves once per subset of about 1000 prompts, so scale ``speed`` by batch / 1000. Chances are
    min(1, c x weight) inside each distribution, exact without replacement. Equal values share a rank, prompts of unknown pass rate
    stand in the middle, and ``floor`` is the share of each quota spread evenly (all ours). For a schedule instead, set ``speed`` to
    0 and give ``mean`` a pacing.

    >>> round(GaussianRank().move(0.1, 0.8), 6)  # by 0.05 x tanh(2 x 0.3)
    0.126852
    """

    column: int = PRIOR
    mean: float = 0.0
    width: float = 0.1
    speed: float = 0.05
    slope: float = 2.0
    goal: float = 0.5
    angle: float = 0.0
    most: float = 0.1  # largest move in a step
    floor: float = 0.05

    def __post_init__(self) -> None:
        for key in ("mean", "goal", "floor"):
            if not 0 <= getattr(self, key) <= 1:
                raise CurriculaError(f"gaussian_rank.{key}: expected 0..1, got {getattr(self, key)}")
        for key in ("speed", "slope", "most"):
            if not 0 <= getattr(self, key) < np.inf:
                raise CurriculaError(f"gaussian_rank.{key}: expected a finite number >= 0, got {getattr(self, key)}")
        if not (0 < self.width < np.inf and np.isfinite(self.angle)):
            raise CurriculaError(
                f"gaussian_rank: expected a width above 0 and a finite angle, got width={self.width}, angle={self.angle}"
            )
        if self.column < PRIOR:
            raise CurriculaError(
                f"gaussian_rank.column: expected a feature column, or -1 for the prior pass rate; got {self.column}"
            )

    def init(self, pool: PromptPool) -> RankState:
        refuse_missing_column(pool, self.column, "gaussian_rank")
        return RankState(rank_shares(column_of(pool, self.column)).astype(np.float32), starting_at(0.0))

    def carry(self, state: RankState, old: PromptPool, new: PromptPool) -> RankState:
        fresh = self.init(new)  # every rank may change
        return fresh._replace(shift=carried_fields(state.shift, fresh.shift, old, new))

    def select(self, state: RankState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        centre = min(self.mean + float(state.shift.now), 1.0)

        def weigh(prompt_n: Ints, expected: float) -> Floats:
            distance_n = (state.rank_N[prompt_n].astype(np.float64) - centre) / self.width
            return boltzmann(-0.5 * distance_n**2, 1.0, expected)

        return choose_among_candidates(pool, quota, weigh, self.floor, rng)

    def update(self, state: RankState, pool: PromptPool, feedback: Feedback) -> RankState:
        return state._replace(shift=moved(state.shift, feedback, self.move))

    def move(self, shift: float, pass_rate: float) -> float:
        """The shift after a step with this mean score; the whole pool at most."""
        by = self.speed * (np.tanh(self.slope * (pass_rate - self.goal)) + np.tanh(self.slope * self.angle))
        return min(shift + float(np.clip(by, 0.0, self.most)), 1.0)

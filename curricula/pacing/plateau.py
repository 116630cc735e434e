"""Moves on when nothing moves any more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curricula.groups import scored
from curricula.paced import Moving
from curricula.registry import register
from curricula.types import CurriculaError, Floats, Outcome


@register("pacing", "plateau")
@dataclass(frozen=True)
class Plateau(Moving):
    """Moves by ``step`` when the mean score has stayed within ``eta`` for ``patience`` steps. After SPaCE, ICML 2021; ours for RL.

    The score that others are compared with is the first one since the last move of the score or of the value. Single steps are
    noisy: over G independent scores of 0 or 1 the mean scatters by up to 0.5 / sqrt(G), and ``eta`` should not be below that.
    The value is clipped to [low, high].

    >>> state = Plateau(step=0.1, patience=2).start()
    >>> for mean in (0.50, 0.51, 0.49):
    ...     state = Plateau(step=0.1, patience=2).moved(state, mean)
    >>> float(state[0])
    0.1
    """

    first: float = 0.0
    step: float = 0.1
    eta: float = 0.05
    patience: int = 10
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low <= self.first <= self.high:
            raise CurriculaError(
                f"plateau: expected low <= first <= high, got low={self.low}, first={self.first}, high={self.high}"
            )
        if self.patience < 1 or not self.eta >= 0:
            raise CurriculaError(f"plateau: expected patience >= 1 and eta >= 0, got patience={self.patience}, eta={self.eta}")

    def start(self) -> Floats:
        return np.array([self.first, np.nan, 0.0])  # value, score to compare with, steps that stayed near it

    def measure(self, outcome: Outcome) -> tuple[float, int]:
        score, _ = scored(outcome)
        return float(score.sum()), len(score)

    def moved(self, settled: Floats, mean: float) -> Floats:
        value, anchor, n_still = settled
        if not abs(mean - anchor) <= self.eta + 1e-12:
            return np.array([value, mean, 0.0])
        if n_still + 1 < self.patience:
            return np.array([value, anchor, n_still + 1])
        return np.array([np.clip(value + self.step, self.low, self.high), mean, 0.0])

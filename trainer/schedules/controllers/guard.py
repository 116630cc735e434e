"""A brake."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from curricula.types import CurriculaError
from trainer.schedules.controller import register


class Braked(NamedTuple):
    """How far."""

    scale: float
    clean: int  # updates since the last trip
    mean: float  # of the gradient norm
    square: float
    n: int


@register("guard")
@dataclass(frozen=True)
class Guard:
    """Halves the scale when something trips, holds it for ``hold`` updates, then lets it grow by a tenth per ``hold`` clean ones.

    Trips: ``kl`` above ``most_kl``, ``clip_fraction`` above ``most_clipped``, or ``grad_norm`` more than ``sigmas`` standard
    deviations above its own average. Bounded by [least, 1]. Ours.
    """

    most_kl: float = 0.1
    most_clipped: float = 0.3
    sigmas: float = 6.0
    hold: int = 20
    least: float = 0.1
    memory: float = 0.98

    def __post_init__(self) -> None:
        positive = min(self.most_kl, self.most_clipped, self.sigmas) > 0
        if not (positive and self.hold >= 1 and 0 < self.least <= 1 and 0 <= self.memory < 1):
            raise CurriculaError(f"guard: expected limits above 0, hold >= 1, least in (0, 1] and memory in [0, 1), got {self}")

    def begin(self) -> Braked:
        return Braked(1.0, 0, 0.0, 0.0, 0)

    def observe(self, state: Braked, metrics: Mapping[str, float]) -> Braked:
        if self._trips(state, metrics):
            return state._replace(scale=max(0.5 * state.scale, self.least), clean=0)
        norm, clean = metrics.get("grad_norm", math.nan), state.clean + 1
        scale = min(1.1 * state.scale, 1.0) if clean % self.hold == 0 else state.scale
        if not math.isfinite(norm):
            return state._replace(scale=scale, clean=clean)
        kept = min(self.memory, state.n / (state.n + 1))
        mean, square = kept * state.mean + (1 - kept) * norm, kept * state.square + (1 - kept) * norm * norm
        return Braked(scale, clean, mean, square, state.n + 1)

    def _trips(self, state: Braked, metrics: Mapping[str, float]) -> bool:
        norm = metrics.get("grad_norm", 0.0)
        spread = math.sqrt(max(state.square - state.mean**2, 0.0))
        is_wild = state.n >= self.hold and norm > state.mean + self.sigmas * max(spread, 0.05 * state.mean)
        return is_wild or metrics.get("kl", 0.0) > self.most_kl or metrics.get("clip_fraction", 0.0) > self.most_clipped

    def scale(self, state: Braked) -> float:
        return state.scale

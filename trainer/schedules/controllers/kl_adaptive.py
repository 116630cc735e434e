"""The rate keeps the policy's steps at a size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from curricula.types import CurriculaError
from trainer.schedules.controller import register


class Held(NamedTuple):
    """The scale."""

    scale: float


@register("kl_adaptive")
@dataclass(frozen=True)
class KlAdaptive:
    """Down by ``factor`` when the update's KL divergence is above twice the target, up by it when below half. As PPO practice does.

    Metric ``kl``: from the policy before the update to the one after it, mean per token. In a run it is of a whole step, all its
    updates together, over a sample of the step's sequences, and holds for the step after (see `trainer.learner_statistics`).
    Between the bounds nothing changes; the scale stays in [least, 1].
    """

    needs: ClassVar[tuple[str, ...]] = ("kl",)

    target: float = 0.01
    factor: float = 1.5
    least: float = 0.1

    def __post_init__(self) -> None:
        if not (self.target > 0 and self.factor > 1 and 0 < self.least <= 1):
            raise CurriculaError(f"kl_adaptive: expected target > 0, factor > 1 and least in (0, 1], got {self}")

    def begin(self) -> Held:
        return Held(1.0)

    def observe(self, state: Held, metrics: Mapping[str, float]) -> Held:
        kl = metrics.get("kl")
        if kl is None or not kl >= 0:
            return state
        if kl > 2 * self.target:
            return Held(max(state.scale / self.factor, self.least))
        return Held(min(state.scale * self.factor, 1.0)) if 0 < kl < self.target / 2 else state

    def scale(self, state: Held) -> float:
        return state.scale

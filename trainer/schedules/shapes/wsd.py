"""Full rate, then a short cool-down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from curricula.types import CurriculaError, known_or_raise
from trainer.schedules.cool_downs import COOL_DOWNS, NEED_A_FLOOR
from trainer.schedules.progress import Progress, share_of, units
from trainer.schedules.shape import register, require_share

CoolDown = Literal["linear", "one_minus_sqrt", "one_minus_square", "cosine", "geometric", "inverse", "half_life"]


@register("wsd")
@dataclass(frozen=True)
class WarmupStableDecay:
    """Full rate, then a cool-down at the end, arXiv 2404.06395; one_minus_sqrt is the shape of arXiv 2405.18392.

    ``half_life`` is the paper's own: 0.5^((u - S) / half_life) from the start S of the decay; it ends where it ends.

    >>> from trainer.schedules import build_schedule
    >>> build_schedule({"name": "wsd", "peak": 1.0, "decay": 200}, horizon=1000).lr(850)
    0.5
    """

    decay: float = 0.1  # units of cool-down; below 1 a share of the horizon
    shape: CoolDown = "one_minus_sqrt"
    floor: float = 0.0
    half_life: float = 0.0  # units, for the shape of that name

    def __post_init__(self) -> None:
        require_share("floor", self.floor)
        known_or_raise("schedule.shape", self.shape, [*COOL_DOWNS, "half_life"])
        if self.decay <= 0:
            raise CurriculaError(f"schedule.decay: expected > 0 updates, or a share of the run below 1; got {self.decay}")
        if self.shape in NEED_A_FLOOR and self.floor <= 0:
            raise CurriculaError(f"schedule.floor: a decay of shape {self.shape!r} never reaches 0; give a floor above 0")
        if (self.shape == "half_life") != (self.half_life > 0):
            raise CurriculaError(f"schedule.half_life: expected it above 0 with shape half_life alone, got {self.half_life}")

    def multiplier(self, progress: Progress) -> float:
        start = max(progress.horizon - units(self.decay, progress.horizon), progress.warmup)
        if self.shape == "half_life":
            cooled = 0.5 ** (max(min(progress.done, progress.horizon) - start, 0.0) / self.half_life)
            return float(max(cooled, self.floor))
        return COOL_DOWNS[self.shape](share_of(progress.done, start, progress.horizon), self.floor)

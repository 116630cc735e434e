"""Triangles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from curricula.types import known_or_raise
from trainer.schedules.progress import Progress
from trainer.schedules.shape import above, register, require_positive, require_share


@register("cyclical")
@dataclass(frozen=True)
class Cyclical:
    """Triangle waves between the floor and the peak, arXiv 1506.01186: equal, halved every cycle, or shrunk by gamma every unit.

    As torch's CyclicLR with base = floor x peak. Needs no horizon. For GRPO an experiment, no default.
    """

    half: float = 100.0  # units from the floor to the peak
    form: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: float = 0.999
    floor: float = 0.1

    def __post_init__(self) -> None:
        require_positive("half", self.half, "a number of units above 0")
        known_or_raise("schedule.form", self.form, ["triangular", "triangular2", "exp_range"])
        require_share("gamma", self.gamma)
        require_share("floor", self.floor)

    def multiplier(self, progress: Progress) -> float:
        u = progress.since_warmup
        cycle = math.floor(1 + u / (2 * self.half))
        height = max(0.0, 1 - abs(u / self.half - 2 * cycle + 1))
        shrunk = {"triangular": 1.0, "triangular2": 0.5 ** (cycle - 1), "exp_range": self.gamma**u}[self.form]
        return above(self.floor, height * shrunk)

"""The rate comes down when a score stops rising."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from curricula.types import CurriculaError, known_or_raise
from trainer.schedules.controller import register


class Stalled(NamedTuple):
    """What was seen so far."""

    scale: float
    n: int  # values
    best: float  # 0 before the first
    stalled: int  # values in a row that were not better than the best
    risen: int  # values in a row that were
    newest: tuple[float, ...]  # values, before they are averaged


@register("plateau")
@dataclass(frozen=True)
class Plateau:
    """Times ``factor`` when more than ``patience`` values in a row are no better than the best, down to ``least``.

    Better is above it by ``threshold``: torch's ReduceLROnPlateau with mode "max" and an absolute threshold (a relative one takes
    a worse score for a better when scores are negative). ``rises``: divided by the factor, up to 1, after more than ``patience``
    better ones in a row, as GreedyLR (arXiv 2512.14527). ``least`` is a share of the schedule, the same at 1e-6 as at 1e-1.

    Values are means of the newest ``window``: the highest of single noisy ones is hard to beat, and then everything is a plateau.
    Metric ``mean_score`` of the step's own rollouts, or ``held_out``, the accuracy of an evaluation. The former stalls too when
    a curriculum keeps its prompts at the edge of what the policy can do: a plateau of the choice, not of the policy. The latter
    is no longer a clean measure of the run, whose rate it has moved.
    """

    metric: Literal["mean_score", "held_out"] = "mean_score"
    factor: float = 0.5
    patience: int = 20
    window: int = 10
    threshold: float = 1e-4
    least: float = 0.1
    rises: bool = False

    def __post_init__(self) -> None:
        known_or_raise("plateau.metric", self.metric, ["mean_score", "held_out"])
        counts = self.patience >= 0 and self.window >= 1
        if not (0 < self.factor < 1 and counts and self.threshold >= 0 and 0 < self.least <= 1):
            raise CurriculaError(
                f"plateau: expected factor in (0, 1), patience >= 0, window >= 1, threshold >= 0 and least in (0, 1], got {self}"
            )

    def begin(self) -> Stalled:
        return Stalled(1.0, 0, 0.0, 0, 0, ())

    def observe(self, state: Stalled, metrics: Mapping[str, float]) -> Stalled:
        given = metrics.get(self.metric, math.nan)
        if not math.isfinite(given):
            return state
        newest = (*state.newest, float(given))[-self.window :]
        value = sum(newest) / len(newest)
        if state.n == 0 or value > state.best + self.threshold:
            seen = Stalled(state.scale, state.n + 1, value, 0, state.risen + 1, newest)
        else:
            seen = Stalled(state.scale, state.n + 1, state.best, state.stalled + 1, 0, newest)
        if seen.stalled > self.patience:
            return seen._replace(scale=max(seen.scale * self.factor, self.least), stalled=0)
        if seen.risen > self.patience:
            return seen._replace(scale=min(seen.scale / self.factor, 1.0) if self.rises else seen.scale, risen=0)
        return seen

    def scale(self, state: Stalled) -> float:
        return state.scale

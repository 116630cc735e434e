"""No distribution learns any more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from curricula.types import CurriculaError, known_or_raise
from trainer.schedules.decay import register

PREFIX = {"training": "pass_rate/", "held_out": "held_out/"}  # of the metrics' names; the distribution's follows


class Watched(NamedTuple):
    """Pass rates by distribution."""

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]  # the newest of each, oldest first
    idle: tuple[int, ...]  # observations since each was drawn
    calm: int  # observations in a row in which nothing learned


@register("progress_stalls")
@dataclass(frozen=True)
class ProgressStalls:
    """Fires when the learning progress of every distribution is below a threshold, ``patience`` observations in a row. Ours.

    An observation is a step with an update (``reads: training``: pass rates of its rollouts) or an evaluation (``held_out``).
    Progress: the rise of a line through the last ``window`` pass rates (the slope of TSCL, arXiv 1707.00183), over the window. A
    distribution still learns where its progress is above ``below`` by more than one standard error, and where it has fewer than
    ``window`` values: one that a curriculum keeps for last is waited for. One that was not drawn for ``window`` observations is at
    rest; a pass rate that falls is no progress.

    Pass rates in training say little where the selector holds them near a target: take held_out there.

    >>> stalls = ProgressStalls(window=4, patience=1)
    >>> state = stalls.begin()
    >>> for rate in (0.2, 0.4, 0.6, 0.8):
    ...     state = stalls.observe(state, {"pass_rate/a": rate})
    >>> stalls.learning(state), stalls.fires(state)
    (('a',), False)
    >>> for rate in (0.8, 0.8, 0.8):
    ...     state = stalls.observe(state, {"pass_rate/a": rate})
    >>> stalls.learning(state), stalls.fires(state)
    ((), True)
    """

    below: float = 0.02
    window: int = 20
    patience: int = 10
    reads: Literal["training", "held_out"] = "training"

    def __post_init__(self) -> None:
        known_or_raise("progress_stalls.reads", self.reads, list(PREFIX))
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (self.window, self.patience))
        if not (whole and self.window >= 4 and self.patience >= 1 and 0 <= self.below < 1):
            raise CurriculaError(
                f"progress_stalls: expected below in [0, 1), a window of 4 or more and a patience of 1 or more, got {self}"
            )

    def begin(self) -> Watched:
        return Watched((), (), (), 0)

    def observe(self, state: Watched, metrics: Mapping[str, float]) -> Watched:
        prefix = PREFIX[self.reads]
        found = {key.removeprefix(prefix): float(value) for key, value in metrics.items() if key.startswith(prefix)}
        if not found:
            return state
        known = {name: (tuple(state.values[i]), state.idle[i]) for i, name in enumerate(state.names)}
        after = {name: self._noted(*known.get(name, ((), 0)), found.get(name, math.nan)) for name in (known | found)}
        values, idle = zip(*after.values(), strict=True)
        now = Watched(tuple(after), values, idle, state.calm)
        return now._replace(calm=0 if self.learning(now) else state.calm + 1)

    def _noted(self, values: tuple[float, ...], idle: int, value: float) -> tuple[tuple[float, ...], int]:
        return (values, idle + 1) if math.isnan(value) else ((*values, value)[-self.window :], 0)

    def learning(self, state: Watched) -> tuple[str, ...]:
        return tuple(name for name, values, idle in zip(*state[:3], strict=True) if self._learns(values, idle))

    def _learns(self, values: Sequence[float], idle: int) -> bool:
        if len(values) < self.window:
            return True
        place = np.arange(self.window) - (self.window - 1) / 2
        value = np.array(values) - np.mean(values)
        slope = float(place @ value / (place @ place))
        error = math.sqrt(float(((value - slope * place) ** 2).sum()) / (self.window - 2) / float(place @ place))  # of the slope
        return idle < self.window and self.window * (slope - error) > self.below

    def fires(self, state: Watched) -> bool:
        return state.calm >= self.patience

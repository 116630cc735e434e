"""The rate follows the size of the batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from curricula.types import CurriculaError, known_or_raise
from trainer.schedules.controller import register
from trainer.schedules.noise import NORMS, signal_and_noise

FORMS = ("power", "saturating")


class Seen(NamedTuple):
    """By the saturating form averages of signal and noise too; the power form leaves them at 0."""

    n: float  # informative rollouts of the newest update; 0 = none yet
    signal: float = 0.0  # |true gradient|^2
    noise: float = 0.0  # variance of one rollout's gradient, times the updates that share n; 0 = none yet


@register("batch_coupling")
@dataclass(frozen=True)
class BatchCoupling:
    """A batch of n informative rollouts instead of ``reference`` of them, clipped to [least, 1].

    A filter that rejects groups makes batches smaller and gradients noisier. ``power``: (n / reference)^power; 1/2 suits Adam, 1
    SGD. ``saturating``: (1 + B / reference) / (1 + B / n), where B = noise / signal of one rollout's gradient is the batch above
    which more rollouts hardly help (arXiv 1812.06162), so that the rate follows n where n is small against B and does not where it
    is large; n / reference where no signal can be seen, 1 until there is a measurement. It needs the metrics of
    `trainer.schedules.noise` and ``group_rollouts``, and averages signal and noise apart (``memory``). Where several ``updates``
    share the n rollouts of a step, each has so many fewer.

    With refills until the batch is full n never changes and the scale is 1. Ours, after the square-root rule; never above the tuned
    peak. It holds for the update after the one that it saw.

    >>> BatchCoupling(reference=64).scale(Seen(16))
    0.5
    >>> BatchCoupling(reference=64, form="saturating").scale(Seen(16, signal=1.0, noise=64.0))
    0.4
    """

    reference: float = 64.0
    power: float = 0.5
    least: float = 0.25
    form: Literal["power", "saturating"] = "power"
    memory: float = 0.9

    def __post_init__(self) -> None:
        known_or_raise("schedule.controllers.batch_coupling.form", self.form, list(FORMS))
        in_range = 0 < self.reference < math.inf and 0 <= self.power <= 1 and 0 < self.least <= 1 and 0 <= self.memory < 1
        if not in_range:
            raise CurriculaError(
                f"batch_coupling: expected reference > 0, power in 0..1, least in (0, 1] and memory in [0, 1), got {self}"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return (*NORMS, "group_rollouts") if self.form == "saturating" else ()

    def begin(self) -> Seen:
        return Seen(0.0)

    def observe(self, state: Seen, metrics: Mapping[str, float]) -> Seen:
        n = float(metrics.get("informative_rollouts", math.nan))
        n = n if math.isfinite(n) else state.n
        found, size = signal_and_noise(metrics), metrics.get("group_rollouts", 0.0) * metrics.get("updates", 1.0)
        if self.form == "power" or found is None or not size > 0:
            return state._replace(n=n)
        kept = self.memory if state.noise else 0.0
        return Seen(n, kept * state.signal + (1 - kept) * found.signal, kept * state.noise + (1 - kept) * size * found.noise)

    def scale(self, state: Seen) -> float:
        if state.n <= 0 or (self.form == "saturating" and state.noise <= 0):
            return 1.0
        return float(min(max(self._coupled(state), self.least), 1.0))

    def _coupled(self, state: Seen) -> float:
        if self.form == "power":
            return float((state.n / self.reference) ** self.power)
        signal = max(state.signal, 0.0)  # not noise / signal, which is infinite where no signal is seen
        return (signal + state.noise / self.reference) / (signal + state.noise / state.n)

"""A brake."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from curricula.types import CurriculaError
from trainer.schedules.controller import register


class Average(NamedTuple):
    """Of a metric, newest values counting most."""

    n: float = 0.0
    mean: float = 0.0
    square: float = 0.0

    def taking(self, value: float, memory: float) -> Average:
        kept = min(memory, self.n / (self.n + 1))
        mean, square = kept * self.mean + (1 - kept) * value, kept * self.square + (1 - kept) * value * value
        return Average(self.n + 1, mean, square)

    @property
    def spread(self) -> float:
        """Standard deviation, and no less than a twentieth of the mean."""
        return max(math.sqrt(max(self.square - self.mean**2, 0.0)), 0.05 * abs(self.mean))


class Braked(NamedTuple):
    """How far, and what is normal."""

    scale: float
    clean: int  # updates since the last trip
    cause: str  # the metric of the last trip, as long as it holds the rate down
    grad_norm: tuple[float, ...]  # an `Average` each
    entropy: tuple[float, ...]
    mean_length: tuple[float, ...]


METRICS = ("kl", "clip_fraction", "mismatch_mean", "grad_norm", "entropy", "mean_length")
AVERAGED = ("grad_norm", "entropy", "mean_length")


@register("guard")
@dataclass(frozen=True)
class Guard:
    """Halves the scale when something trips, holds it for ``hold`` updates, then lets it grow by a tenth per ``hold`` clean ones.

    Trips: ``kl`` (old policy to new) above ``most_kl``; ``clip_fraction`` above ``most_clipped``; ``mismatch_mean``, the gap
    between the log-probabilities of trainer and sampler, above ``most_mismatch``; and, against their own running averages once
    ``hold`` values are in them: ``grad_norm`` more than ``sigmas`` standard deviations above, ``entropy`` below or above by the
    factor ``jump`` (at memory m a steady slope lags by slope / (1 - m)), ``mean_length`` above by it. What tripped enters the
    averages cut to its limit, so that a change that stays is got used to. Bounded by [least, 1]. Ours.
    """

    most_kl: float = 0.1
    most_clipped: float = 0.3
    most_mismatch: float = 0.1
    sigmas: float = 6.0
    jump: float = 2.0
    hold: int = 20
    least: float = 0.1
    memory: float = 0.98

    def __post_init__(self) -> None:
        positive = min(self.most_kl, self.most_clipped, self.most_mismatch, self.sigmas) > 0 and self.jump > 1
        if not (positive and self.hold >= 1 and 0 < self.least <= 1 and 0 <= self.memory < 1):
            raise CurriculaError(
                f"guard: expected limits above 0, jump > 1, hold >= 1, least in (0, 1] and memory in [0, 1), got {self}"
            )

    def begin(self) -> Braked:
        return Braked(1.0, 0, "", Average(), Average(), Average())

    def observe(self, state: Braked, metrics: Mapping[str, float]) -> Braked:
        found = {name: float(metrics[name]) for name in METRICS if not math.isnan(metrics.get(name, math.nan))}
        if not found:
            return state
        limits = self._limits(state)
        tripped = next((name for name, value in found.items() if not limits[name][0] <= value <= limits[name][1]), "")
        cut = {name: min(max(found[name], limits[name][0]), limits[name][1]) for name in AVERAGED if name in found}
        averages = {
            name: Average(*getattr(state, name)).taking(value, self.memory) for name, value in cut.items() if math.isfinite(value)
        }
        if tripped:
            return state._replace(scale=max(0.5 * state.scale, self.least), clean=0, cause=tripped, **averages)
        clean = state.clean + 1
        scale = min(1.1 * state.scale, 1.0) if clean % self.hold == 0 else state.scale
        return state._replace(scale=scale, clean=clean, cause=state.cause if scale < 1.0 else "", **averages)

    def _limits(self, state: Braked) -> dict[str, tuple[float, float]]:
        return dict(self._each_limit(state))

    def _each_limit(self, state: Braked) -> Iterator[tuple[str, tuple[float, float]]]:
        yield "kl", (-math.inf, self.most_kl)
        yield "clip_fraction", (-math.inf, self.most_clipped)
        yield "mismatch_mean", (-math.inf, self.most_mismatch)
        norm, entropy, length = (Average(*values) for values in (state.grad_norm, state.entropy, state.mean_length))
        yield "grad_norm", (-math.inf, norm.mean + self.sigmas * norm.spread if norm.n >= self.hold else math.inf)
        known = entropy.n >= self.hold
        yield "entropy", (entropy.mean / self.jump if known else -math.inf, self.jump * entropy.mean if known else math.inf)
        yield "mean_length", (-math.inf, self.jump * length.mean if length.n >= self.hold else math.inf)

    def scale(self, state: Braked) -> float:
        return state.scale

"""The rate follows how much of the gradient is signal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from curricula.types import CurriculaError
from trainer.schedules.controller import register


class Averages(NamedTuple):
    """Of signal and noise."""

    signal: float  # |true gradient|^2
    noise: float  # variance of one group's gradient
    groups: float  # of the newest update
    reference: float  # snr / (1 + snr) at the end of the settling; 0 = not yet
    n: int


@register("signal_to_noise")
@dataclass(frozen=True)
class SignalToNoise:
    """[snr / (1 + snr)] / its value after ``settle`` updates, clipped to [least, 1]; snr = n S / N. The structure of arXiv
    2511.23310.

    From the gradient norms of equal parts of a batch: a = mean |part|^2 with n_s groups each and b = |mean|^2 with n_b groups
    give, without bias, S = (n_b b - n_s a) / (n_b - n_s) and N = (a - b) / (1 / n_s - 1 / n_b). S and N are averaged apart, then
    divided. Metrics: ``part_norm_sq`` (a), ``norm_sq`` (b), ``part_groups`` (n_s), ``groups`` (n_b); norms before clipping. The
    paper's constants are not known to us.

    >>> SignalToNoise.share(signal=0.25, noise=1.0, groups=4)
    0.5
    """

    memory: float = 0.9
    settle: int = 10
    least: float = 0.25

    def __post_init__(self) -> None:
        if not (0 <= self.memory < 1 and self.settle >= 1 and 0 < self.least <= 1):
            raise CurriculaError(f"signal_to_noise: expected memory in [0, 1), settle >= 1 and least in (0, 1], got {self}")

    def begin(self) -> Averages:
        return Averages(0.0, 0.0, 0.0, 0.0, 0)

    def observe(self, state: Averages, metrics: Mapping[str, float]) -> Averages:
        needed = ("part_norm_sq", "norm_sq", "part_groups", "groups")
        if not all(math.isfinite(metrics.get(name, math.nan)) for name in needed):
            return state
        part, whole = metrics["part_groups"], metrics["groups"]
        if not 0 < part < whole:
            return state
        a, b = metrics["part_norm_sq"], metrics["norm_sq"]
        kept = self.memory if state.n else 0.0
        signal = kept * state.signal + (1 - kept) * (whole * b - part * a) / (whole - part)
        noise = kept * state.noise + (1 - kept) * (a - b) / (1 / part - 1 / whole)
        n = state.n + 1
        reference = self.share(signal, noise, whole) if n == self.settle else state.reference
        return Averages(signal, noise, whole, reference, n)

    def scale(self, state: Averages) -> float:
        if state.reference <= 0:
            return 1.0
        return min(max(self.share(state.signal, state.noise, state.groups) / state.reference, self.least), 1.0)

    @staticmethod
    def share(signal: float, noise: float, groups: float) -> float:
        """snr / (1 + snr), the share of the step that is worth taking."""
        signal = max(signal, 0.0)
        if noise <= 0:
            return 1.0 if signal > 0 else 0.0
        snr = groups * signal / noise
        return snr / (1 + snr)

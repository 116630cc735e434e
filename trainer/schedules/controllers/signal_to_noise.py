"""The rate follows how much of the gradient is signal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from curricula.types import CurriculaError
from trainer.schedules.controller import register
from trainer.schedules.noise import NORMS, signal_and_noise


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

    Signal S and noise N of a group come from the gradient norms of a batch of n groups and of its parts, before clipping: metrics
    ``part_norm_sq``, ``norm_sq``, ``part_groups`` and ``groups``, see `trainer.schedules.noise`. They are averaged apart, then
    divided. In a run they are of a sketch of the gradient (`trainer.gradient_noise`). The paper's constants are not known to us.

    >>> SignalToNoise.share(signal=0.25, noise=1.0, groups=4)
    0.5
    """

    memory: float = 0.9
    settle: int = 10
    least: float = 0.25

    needs: ClassVar[tuple[str, ...]] = NORMS

    def __post_init__(self) -> None:
        if not (0 <= self.memory < 1 and self.settle >= 1 and 0 < self.least <= 1):
            raise CurriculaError(f"signal_to_noise: expected memory in [0, 1), settle >= 1 and least in (0, 1], got {self}")

    def begin(self) -> Averages:
        return Averages(0.0, 0.0, 0.0, 0.0, 0)

    def observe(self, state: Averages, metrics: Mapping[str, float]) -> Averages:
        found = signal_and_noise(metrics)
        if found is None:
            return state
        whole, kept = metrics["groups"], self.memory if state.n else 0.0
        signal, noise = kept * state.signal + (1 - kept) * found.signal, kept * state.noise + (1 - kept) * found.noise
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

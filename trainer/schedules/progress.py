"""Where training stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A moment past the warm-up, in the units of the run's clock (updates, rollouts, informative rollouts, tokens, seconds)."""

    done: float  # u: consumed by the updates before this one
    warmup: float  # W
    horizon: float  # T

    @property
    def share(self) -> float:
        """z: 0 at the end of the warm-up, 1 from the horizon on."""
        return share_of(self.done, self.warmup, self.horizon)

    @property
    def since_warmup(self) -> float:
        return max(self.done - self.warmup, 0.0)


def share_of(done: float, start: float, end: float) -> float:
    """How far ``done`` is on the way from start to end, cut to [0, 1]."""
    if done >= end:
        return 1.0
    return max(0.0, (done - start) / (end - start)) if end > start else 0.0


def units(count_or_share: float, horizon: float) -> float:
    """A number of units; below 1 it is a share of the horizon."""
    return count_or_share * horizon if 0 < count_or_share < 1 else count_or_share

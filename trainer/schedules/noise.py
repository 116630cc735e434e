"""Signal and noise of a gradient from norms: of the whole of a batch and of equal parts of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

NORMS = ("part_norm_sq", "norm_sq", "part_groups", "groups")  # metrics


class SignalAndNoise(NamedTuple):
    """Of one batch: without bias, so the signal may be below 0; or averages of them."""

    signal: float  # |true gradient|^2
    noise: float  # variance of one group's gradient, summed over coordinates


def signal_and_noise(metrics: Mapping[str, float]) -> SignalAndNoise | None:
    """S = (n_b b - n_s a) / (n_b - n_s) and N = (a - b) / (1 / n_s - 1 / n_b), from a = mean |part|^2 with n_s groups each
    (``part_norm_sq``, ``part_groups``) and b = |mean|^2 with n_b groups (``norm_sq``, ``groups``). None where one is missing
    or not a number.

    >>> signal_and_noise({"part_norm_sq": 5.0, "norm_sq": 2.0, "part_groups": 1.0, "groups": 4.0})
    SignalAndNoise(signal=1.0, noise=4.0)
    """
    a, b, part, whole = (metrics.get(name, math.nan) for name in NORMS)
    if not (math.isfinite(a) and math.isfinite(b) and 0 < part < whole):
        return None
    return SignalAndNoise((whole * b - part * a) / (whole - part), (a - b) / (1 / part - 1 / whole))


def norms_of(signal: float, noise: float, groups: float) -> dict[str, float]:
    """The metrics that `signal_and_noise` turns into this signal and noise: those of parts of one group each."""
    return {"part_norm_sq": signal + noise, "norm_sq": signal + noise / groups, "part_groups": 1.0, "groups": groups}

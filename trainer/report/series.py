"""Steps as arrays, thinned so that a page of ten thousand steps is as small as one of a hundred."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.observer import StepRecord

MOST_POINTS = 240

Floats = NDArray[np.float64]


def column(steps: Sequence[StepRecord], value: Callable[[StepRecord], float]) -> Floats:
    """(S,) one number per step."""
    return np.array([value(record) for record in steps], dtype=np.float64)


def names_of(steps: Sequence[StepRecord], value: Callable[[StepRecord], Mapping[str, float]]) -> list[str]:
    """Every key that occurs, in order of first appearance."""
    return list(dict.fromkeys(name for record in steps for name in value(record)))


def table(
    steps: Sequence[StepRecord], value: Callable[[StepRecord], Mapping[str, float]], names: Sequence[str], missing: float = math.nan
) -> Floats:
    """(S, names) one column per name."""
    rows = [[value(record).get(name, missing) for name in names] for record in steps]
    return np.array(rows, dtype=np.float64).reshape(len(steps), len(names))


def thinned(values: Floats, most: int = MOST_POINTS) -> Floats:
    """Means over equal spans of steps, at most ``most`` of them; NaN where a span has no value.

    >>> thinned(np.arange(6.0), 3)
    array([0.5, 2.5, 4.5])
    """
    if len(values) <= most:
        return values
    spans = np.array_split(np.arange(len(values)), most)
    return np.array([mean_known(values[span]) for span in spans])


def mean_known(values: Floats) -> Floats:
    """Mean over the first axis of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    mean: Floats = np.where(count > 0, np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return mean


def smoothed(values: Floats, span: int) -> Floats:
    """Centred mean over ``span`` steps, of what is known; the gaps of rarely drawn distributions close."""
    known = ~np.isnan(values)
    kernel = np.ones(min(span, len(values)) or 1)
    total = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    count = np.convolve(known.astype(np.float64), kernel, mode="same")
    mean: Floats = np.where(count > 0.5, total / np.maximum(count, 1.0), np.nan)
    return mean


def histograms(groups: Sequence[Sequence[float]], edges: Floats, most: int = MOST_POINTS) -> Floats:
    """(bins, spans) share of groups per bin, for spans of steps; NaN where a span has no group."""
    spans = np.array_split(np.arange(len(groups)), min(most, len(groups)))
    columns = [np.histogram([v for s in span for v in groups[s] if not math.isnan(v)], edges)[0] for span in spans]
    counts = np.array(columns, dtype=np.float64).T
    total = counts.sum(axis=0)
    shares: Floats = np.where(total > 0, counts / np.maximum(total, 1.0), np.nan)
    return shares

"""Means with intervals that respect how a log depends on itself.

The groups of one step were made by the same weights, so a step is one observation; where a log has no steps (or one), a prompt is.
A mean is a ratio of sums over these clusters, its interval Student's t on the residuals of the ratio. A drift over the run is
counted as noise: intervals are too long under learning rather than too short.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from curricula.statistics import t_quantile
from curricula.types import Floats, Ints
from replay.types import LoggedRun

TAIL = 0.025  # of a 95 % interval
MOST_DEGREES = 200  # of Student's t: beyond, it is within 0.7 % of the normal, and longer
FEWEST_STEPS = 6  # for a comparison of thirds: two steps in each have a spread at all


class Measured(NamedTuple):
    """A mean, its 95 % interval, and what was counted as independent."""

    value: float
    low: float
    high: float
    n: int
    of: str


class Change(NamedTuple):
    """First third of the steps against the last one."""

    first: float
    last: float
    difference: Measured

    @property
    def shows(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        return self.difference.low > 0 or self.difference.high < 0


def has_steps(run: LoggedRun) -> bool:
    """Whether every group's step is known."""
    return "step" not in run.lacks and len(run) > 0 and bool((run.step_G >= 0).all())


def clusters(run: LoggedRun) -> tuple[Ints, str]:
    """(G,) what each group belongs to, and its name: the step where there are several, else the prompt."""
    if has_steps(run) and run.step_G.min() < run.step_G.max():
        return run.step_G, "steps"
    return run.prompt_G, "prompts"


def mean_of(
    run: LoggedRun, value_G: Floats, weight_G: Floats | Ints | None = None, bounds: tuple[float, float] = (0, 1)
) -> Measured:
    """Weighted mean over the groups that have a value; the interval is cut to ``bounds``. NaN where no group has one."""
    cluster_G, of = clusters(run)
    weight = np.ones(len(run)) if weight_G is None else np.asarray(weight_G, dtype=np.float64)
    has = np.isfinite(value_G) & np.isfinite(weight) & (weight > 0)
    return ratio(value_G[has] * weight[has], weight[has], cluster_G[has], of, bounds)


def ratio(above: Floats, below: Floats, cluster: Ints, of: str, bounds: tuple[float, float] = (0, 1)) -> Measured:
    """sum(above) / sum(below) with an interval over clusters.

    Where all clusters sit on a bound the spread is 0 and says nothing. The mean mu of values in [0, 1] that are all 0 in C
    clusters has (1 - mu)^C >= P(all 0), which bounds it: at 5 clusters by 0.52.
    """
    if len(above) == 0:
        return Measured(math.nan, *bounds, 0, of)
    place = np.unique(cluster, return_inverse=True)[1]
    above_C, below_C = np.bincount(place, weights=above), np.bincount(place, weights=below)
    n, value = len(below_C), float(above.sum() / below.sum())
    if n < 2:
        return Measured(value, *bounds, n, of)
    for edge, inside in zip(bounds, (1.0, -1.0), strict=True):
        if np.allclose(above_C, edge * below_C, rtol=0, atol=1e-12) and np.isfinite(edge):
            far = edge + inside * (bounds[1] - bounds[0]) * (1 - TAIL ** (1 / n))
            return Measured(value, min(edge, far), max(edge, far), n, of)
    residual_C = (above_C - value * below_C) / below_C.mean()
    half = t_of(n - 1) * float(np.std(residual_C, ddof=1)) / math.sqrt(n)
    return Measured(value, max(value - half, bounds[0]), min(value + half, bounds[1]), n, of)


def thirds(run: LoggedRun, value_G: Floats, weight_G: Floats | Ints | None = None) -> Change | None:
    """Mean of the steps' means in the first and in the last third of the steps; None for too few steps.

    The interval is Welch's with the degrees of the smaller third less one.
    """
    if not has_steps(run):
        return None
    weight = np.ones(len(run)) if weight_G is None else np.asarray(weight_G, dtype=np.float64)
    has = np.isfinite(value_G) & np.isfinite(weight) & (weight > 0)
    place = np.unique(run.step_G[has], return_inverse=True)[1]
    mean_T = np.bincount(place, weights=(value_G * weight)[has]) / np.bincount(place, weights=weight[has])
    if len(mean_T) < FEWEST_STEPS:
        return None
    third = len(mean_T) // 3
    first, last = mean_T[:third], mean_T[-third:]
    change = float(last.mean() - first.mean())
    half = t_of(third - 1) * math.sqrt((first.var(ddof=1) + last.var(ddof=1)) / third)
    return Change(float(first.mean()), float(last.mean()), Measured(change, change - half, change + half, 2 * third, "steps"))


def jackknife(value: float, without_J: Floats, of: str) -> Measured:
    """An estimate with its interval from the estimates that leave out one of J equal blocks each."""
    n = len(without_J)
    half = t_of(n - 1) * math.sqrt((n - 1) / n * float(((without_J - without_J.mean()) ** 2).sum()))
    return Measured(value, value - half, value + half, n, f"blocks of {of}")


@lru_cache(maxsize=MOST_DEGREES)
def t_of(degrees: int) -> float:
    """Student's t at 97.5 %."""
    return t_quantile(1 - TAIL, max(1, degrees)) if degrees <= MOST_DEGREES else t_of(MOST_DEGREES)

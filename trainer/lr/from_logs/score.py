"""`curricula lr score`: schedules ranked by the convex bound, each with the peak that it would want. arXiv 2501.18965."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from curricula.types import CurriculaError, Floats
from trainer.lr.curves import Stated, lr_at, stated
from trainer.lr.from_logs.updates import LoggedUpdates, read_updates
from trainer.lr.tables import headed
from trainer.schedules.convex_bound import convex_bound
from trainer.schedules.refine import smoothed

THEORY = (
    "The theory is of convex losses and SGD. It ranks schedules and carries a tuned peak over; the bound itself is no forecast, "
    "and nobody has shown that it holds for GRPO."
)


class Scored(NamedTuple):
    """A schedule at its own best peak."""

    name: str
    bound: float  # on the excess loss; smaller is better
    factor: float  # its best peak, of the tuned one's
    peak: float  # transferred; NaN where no peak is known


class Tuned(NamedTuple):
    """The schedule whose peak is known, and what all are laid over."""

    name: str
    multiplier_T: Floats
    peak: float  # NaN = not known
    share_T: Floats  # of the clock, before each update
    norm_T: Floats  # of the gradients
    unit: str  # of the clock


def score_command(words: Sequence[str], run: Path | None, horizon: int, console: Console) -> None:
    """With a run: its rates, clock and norms. Without: the first schedule is the tuned one and all norms are 1.

    Errors: CurriculaError without both, for what cannot be built, for other clocks, and a run with too few updates.
    """
    if run is None and not words:
        raise CurriculaError("lr score: expected schedules such as 'linear' or '{name: wsd, decay: 0.2}', or --run RUN")
    candidates = [stated(word, horizon) for word in words]
    if run is None:
        tuned, rest = of_schedule(candidates[0], horizon), candidates[1:]
    else:
        logged = read_updates(run)
        tuned, rest = of_run(logged), [on_run(logged, given) for given in candidates]
    console.print(table(scored(tuned, rest), tuned, run))


def on_run(run: LoggedUpdates, given: Stated) -> Stated:
    """The schedule over the run's length, and on its clock unless it names one."""
    own: dict[str, Any] = {key: run.recipe.schedule[key] for key in ("clock", "horizon") if key in run.recipe.schedule}
    return given._replace(schedule={**own, **given.schedule}, length=run.recipe.length)


def of_run(run: LoggedUpdates) -> Tuned:
    """Its rates are taken to be tuned; scales that reacted to training are in them."""
    unit = str(run.recipe.schedule.get("clock", "updates"))
    return Tuned(f"{run.folder.name} as it was", run.multiplier_T, run.peak, run.share_T, smoothed(run.norm_T), unit)


def of_schedule(given: Stated, horizon: int) -> Tuned:
    """A schedule without a peak of its own has none to carry over."""
    share_T = np.arange(horizon) / horizon
    rate = given.rate
    multiplier_T = lr_at(rate, share_T) / rate.schedule.peak if rate.schedule.peak else np.zeros(horizon)
    peak = rate.schedule.peak if given.has_peak else math.nan
    return Tuned(given.name, multiplier_T, peak, share_T, np.ones(horizon), rate.clock.unit)


def scored(tuned: Tuned, candidates: Sequence[Stated]) -> list[Scored]:
    """The tuned one and the candidates, best first.

    Errors: CurriculaError for a candidate on another clock: the log does not say how its updates would lie there.
    """
    reference = convex_bound(tuned.multiplier_T, tuned.norm_T)
    found = [Scored(tuned.name, reference.value, 1.0, tuned.peak)]
    for given in candidates:
        rate = given.rate
        if "clock" in given.schedule and rate.clock.unit != tuned.unit:
            raise CurriculaError(
                f"lr score: {given.name} counts {rate.clock.unit}, {tuned.name} counts {tuned.unit}; schedules are "
                "compared on one clock"
            )
        if not rate.schedule.peak > 0:
            raise CurriculaError(f"lr score: {given.name} has the peak {rate.schedule.peak:g}; expected one above 0")
        bound = convex_bound(lr_at(rate, tuned.share_T) / rate.schedule.peak, tuned.norm_T)
        factor = bound.peak / reference.peak
        found.append(Scored(given.name, bound.value, factor, tuned.peak * factor))
    return sorted(found, key=lambda each: each.bound)


def table(found: Sequence[Scored], tuned: Tuned, run: Path | None) -> Table:
    """Bounds over the best one's, and peaks."""
    norms = f"smoothed gradient norms of {run}" if run is not None else "gradient norms of 1"
    caption = f"{len(tuned.share_T)} updates, {norms}; peaks carried over from {tuned.name}. {THEORY}"
    shown = headed(["schedule"], ["bound over the best", "peak, times", "peak"], caption)
    for each in found:
        peak = "" if math.isnan(each.peak) else f"{each.peak:.3g}"
        shown.add_row(each.name, f"{each.bound / found[0].bound:.3f}", f"{each.factor:.3f}", peak)
    return shown

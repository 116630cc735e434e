"""The updates of a run, as its log has them, for tools that make the next run's learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curricula.types import CurriculaError, Floats
from trainer.observer import StepRecord
from trainer.recipe import Recipe
from trainer.run_log import read_run_log

FEWEST_UPDATES = 12
ALIKE = (  # what makes gradient norms of two runs comparable
    ("learner", "loss"),
    ("learner", "aggregation"),
    ("learner", "advantage"),
    ("rollout", "rollouts_per_group"),
    ("model", "path"),
    ("model", "dtype"),
    ("model", "lora"),
    ("warm_start",),
    ("schedule", "clock"),
)


@dataclass(frozen=True, eq=False)
class LoggedUpdates:
    """Steps of a run that made an update; norms are those before clipping, means over the updates of a step."""

    folder: Path
    recipe: Recipe
    share_T: Floats  # of the run's clock that was done before the update
    lr_T: Floats
    norm_T: Floats  # l2
    l1_T: Floats | None  # where the log has them
    signal_T: Floats | None  # |true gradient|^2, and
    noise_T: Floats | None  # the variance of one group's gradient, in the units of the signal
    groups_T: Floats | None  # of the update

    @property
    def peak(self) -> float:
        return float(self.recipe.schedule["peak"])

    @property
    def multiplier_T(self) -> Floats:
        """Rates that were used, of the peak: scales that reacted to training included."""
        return self.lr_T / self.peak

    def __len__(self) -> int:
        return len(self.norm_T)


def read_updates(folder: Path) -> LoggedUpdates:
    """Errors: CurriculaError where there is no run, or too few updates to say anything."""
    run = read_run_log(folder)
    steps = [
        record for record in run.steps if math.isfinite(record.loss) and math.isfinite(record.grad_norm) and record.grad_norm > 0
    ]
    if len(steps) < FEWEST_UPDATES:
        raise CurriculaError(f"{folder}: {len(steps)} updates with a gradient norm in its log, expected {FEWEST_UPDATES} or more")
    if not run.recipe.schedule["peak"] > 0:
        raise CurriculaError(f"{folder}: its schedule has the peak {run.recipe.schedule['peak']}; expected one above 0")
    return LoggedUpdates(
        folder=folder,
        recipe=run.recipe,
        share_T=_shares(steps),
        lr_T=np.array([record.lr for record in steps]),
        norm_T=np.array([record.grad_norm for record in steps]),
        l1_T=_metric(steps, "grad_norm_l1"),
        signal_T=_metric(steps, "gradient_signal"),
        noise_T=_metric(steps, "gradient_noise"),
        groups_T=_metric(steps, "update_groups"),
    )


def refuse_unlike(runs: Sequence[LoggedUpdates]) -> None:
    """CurriculaError where norms of the runs cannot be laid over one another: other losses, group sizes, models, clocks."""
    first = runs[0]
    for other in runs[1:]:
        for path in ALIKE:
            ours, theirs = (_value(run.recipe, path) for run in (first, other))
            if ours != theirs:
                raise CurriculaError(
                    f"{other.folder}: {'.'.join(path)} is {theirs!r}, in {first.folder} it is {ours!r}; gradient norms "
                    "of such runs are not comparable: give runs that agree in it"
                )


def _value(recipe: Recipe, path: Sequence[str]) -> object:
    found: object = recipe.resolved
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return "updates" if found is None and path[-1] == "clock" else found


def _shares(steps: Sequence[StepRecord]) -> Floats:
    """By the clock; logs from before the clock was logged count steps."""
    clock = _metric(steps, "lr/clock")
    return np.array([record.step / max(record.n_steps, 1) for record in steps]) if clock is None else clock


def _metric(steps: Sequence[StepRecord], name: str) -> Floats | None:
    """None where a step lacks it."""
    found = [record.metrics.get(name) for record in steps]
    known = [value for value in found if value is not None and math.isfinite(value)]
    return np.array(known) if len(known) == len(steps) else None

"""The dose of each distribution in a run: what share of the rollouts it had, and what share of the learning."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trainer.observer import StepRecord
from trainer.recipe import Recipe
from trainer.schedules.dose import doses

READ = (
    "The mean rate is what a distribution's trained rollouts met: where it is below the others', the distribution came while the "
    "rate was low, and its share of the dose is below its share of the rollouts."
)


class DistributionDose(NamedTuple):
    """One distribution over the whole run."""

    name: str
    n_rollouts: int  # generated
    n_trained: int  # that carried gradient, in groups with a signal
    dose: float  # rate x rollouts

    @property
    def mean_lr(self) -> float:
        """The rate that its trained rollouts met, less what weight decay took since; NaN where none was trained."""
        return self.dose / self.n_trained if self.n_trained else math.nan


class TrainedRollouts:
    """Hears the records of a log in order; counts rollouts by step and distribution."""

    def __init__(self, recipe: Recipe) -> None:
        self._remax = recipe.learner.advantage == "remax"
        self._groups: list[Mapping[str, Any]] = []  # of the attempt that is not complete yet
        self.generated: dict[int, Counter[str]] = defaultdict(Counter)
        self.trained: dict[int, Counter[str]] = defaultdict(Counter)

    def hear(self, record: Mapping[str, Any]) -> None:
        """Any record; those of groups and attempts count."""
        if record["kind"] == "group":
            self._groups.append(record)
        elif record["kind"] == "attempt":
            for group in self._groups:
                self.generated[group["step"]][group["distribution"]] += len(group["rewards"])
                self.trained[group["step"]][group["distribution"]] += n_trained(group, bool(record["renormalise"]), self._remax)
            self._groups = []

    @property
    def names(self) -> list[str]:
        """Distributions that had a rollout, in order of appearance."""
        return list(dict.fromkeys(name for step in sorted(self.generated) for name in self.generated[step]))


def n_trained(group: Mapping[str, Any], renormalise: bool, remax: bool = False) -> int:
    """Rollouts of a logged group that carried gradient; 0 where all its advantages are 0 (see `trainer.batch`)."""
    gradient = [bool(flag) for flag in group["gradient"]]
    if not group["weight"] or not _has_signal(group, gradient, renormalise, remax):
        return 0
    return sum(gradient)


def _has_signal(group: Mapping[str, Any], gradient: Sequence[bool], renormalise: bool, remax: bool) -> bool:
    if any(group["credits"]):  # advantages that the shaping policy gave
        return any(credit for r, credits in enumerate(group["credits"]) if gradient[r] for credit in credits)
    peers = [g if renormalise else status == "ok" for g, status in zip(gradient, group["statuses"], strict=True)]
    shaped = [reward for reward, peer in zip(group["shaped"], peers, strict=True) if peer and reward is not None]
    if not remax:
        return len(set(shaped)) > 1
    baseline = group["greedy"]["shaped"] if group["greedy"] else None
    return baseline is not None and any(reward != baseline for reward in shaped)


def dose_of(recipe: Recipe, steps: Sequence[StepRecord], rollouts: TrainedRollouts) -> list[DistributionDose]:
    """Each distribution's dose, in order of appearance. Weight decay is the recipe's, where a model is trained."""
    names, decay = rollouts.names, recipe.learner.weight_decay
    if recipe.rollout.engine.backend == "simulated":
        decay = 0.0
    updates_T = np.array([record.n_updates for record in steps], dtype=np.int64)
    lr_T = np.array([record.lr for record in steps], dtype=np.float64)
    n_TK = np.array([[rollouts.trained[record.step][name] for name in names] for record in steps], dtype=np.float64)
    dose_K = doses(lr_T, n_TK.reshape(len(steps), len(names)), decay, updates_T)
    return [_one(name, float(dose), steps, rollouts) for name, dose in zip(names, dose_K, strict=True)]


def _one(name: str, dose: float, steps: Sequence[StepRecord], rollouts: TrainedRollouts) -> DistributionDose:
    n_rollouts = sum(rollouts.generated[record.step][name] for record in steps)
    n_trained = sum(rollouts.trained[record.step][name] for record in steps if record.n_updates)
    return DistributionDose(name, n_rollouts, n_trained, dose)


class DoseRow(NamedTuple):
    """One line of the table, as texts."""

    name: str
    rollouts: str
    rollout_share: str
    trained: str
    trained_share: str
    mean_lr: str
    dose_share: str


HEAD = ("distribution", "rollouts", "share", "trained", "share", "mean rate met", "share of the dose")


def dose_rows(found: Sequence[DistributionDose]) -> list[DoseRow]:
    """A line per distribution, and one of all."""
    n_rollouts, n_trained = sum(one.n_rollouts for one in found), sum(one.n_trained for one in found)
    total = DistributionDose("all", n_rollouts, n_trained, sum(one.dose for one in found))
    return [
        DoseRow(
            one.name,
            f"{one.n_rollouts:,}",
            _share(one.n_rollouts, total.n_rollouts),
            f"{one.n_trained:,}",
            _share(one.n_trained, total.n_trained),
            "-" if math.isnan(one.mean_lr) else f"{one.mean_lr:.3g}",
            _share(one.dose, total.dose),
        )
        for one in (*found, total)
    ]


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "-"

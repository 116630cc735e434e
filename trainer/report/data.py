"""What the report reads: the recipe and the rollout log of a run, nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricula.types import CurriculaError
from rollout.log import read_texts
from trainer.operations import Operation, read_operations
from trainer.report.dose import DistributionDose, TrainedRollouts, dose_of
from trainer.run_folder import recipe_of
from trainer.run_log import RunLog, read_run_log

SHOWN = 3  # rollouts of one group on the page


@dataclass(frozen=True)
class Sample:
    """One completion with what it earned."""

    step: int
    distribution: str
    prompt: str
    completion: str
    reward: float | None
    status: str


@dataclass(frozen=True)
class RunData(RunLog):
    """Everything on the page."""

    samples: list[Sample]
    doses: list[DistributionDose]
    operations: list[Operation]  # decided about the run on its way

    @property
    def distributions(self) -> list[str]:
        """In the order of the pool."""
        names = [name for result in self.evaluations for name in result.scores]
        names += [name for record in self.steps for name in record.probability]
        return list(dict.fromkeys(names))


def read_run(folder: Path) -> RunData:
    """Errors: CurriculaError when there is no run, or no step in it yet."""
    rollouts = TrainedRollouts(recipe_of(folder))
    log = read_run_log(folder, rollouts.hear)
    if not log.steps and not log.evaluations:
        raise CurriculaError(f"{folder / 'log'}: no step has been logged yet; ask again when the run has done one")
    return RunData(
        **vars(log),
        samples=_early_and_late(read_texts(folder / "log")),
        doses=dose_of(log.recipe, log.steps, rollouts),
        operations=read_operations(folder),
    )


def _early_and_late(texts: Iterator[dict[str, Any]]) -> list[Sample]:
    """Of each distribution, its first and its last logged group, a few rollouts each."""
    first: dict[str, dict[str, Any]] = {}
    last: dict[str, dict[str, Any]] = {}
    for record in texts:
        name = record["distribution"]
        if name in first:
            last[name] = record
        else:
            first[name] = record
    groups = [group for name in sorted(first) for group in (first[name], last.get(name)) if group is not None]
    return [sample for group in groups for sample in _samples(group)]


def _samples(group: dict[str, Any]) -> Iterator[Sample]:
    """The best and the worst rollout of a group, and one between."""
    rewards = [-math.inf if reward is None else float(reward) for reward in group["rewards"]]
    order = sorted(range(len(rewards)), key=lambda r: -rewards[r])
    chosen = order if len(order) <= SHOWN else [order[0], order[len(order) // 2], order[-1]]
    for r in chosen:
        yield Sample(
            step=int(group["step"]),
            distribution=group["distribution"],
            prompt=_text_of(group.get("content")) or group["prompt"],
            completion=group["completions"][r],
            reward=group["rewards"][r],
            status=group["statuses"][r],
        )


def _text_of(content: str | list[dict[str, str]] | None) -> str:
    """Plain text of a prompt; chat messages one under the other."""
    if isinstance(content, list):
        return "\n".join(f"{message.get('role', '')}: {message.get('content', '')}" for message in content)
    return content or ""

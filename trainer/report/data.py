"""What the report reads: the recipe and the rollout log of a run, nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricula.types import CurriculaError
from rollout.log import read_log, read_texts
from trainer.observer import EvaluationResult, StepRecord, read_evaluation, read_step
from trainer.operations import Operation, read_operations
from trainer.recipe import Recipe, load_recipe
from trainer.report.dose import DistributionDose, TrainedRollouts, dose_of

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
class RunData:
    """Everything on the page."""

    folder: Path
    recipe: Recipe
    steps: list[StepRecord]
    evaluations: list[EvaluationResult]
    samples: list[Sample]
    doses: list[DistributionDose]
    operations: list[Operation]  # decided about the run on its way

    @property
    def n_steps(self) -> int:
        """Of the whole run, as its newest step knew."""
        return self.steps[-1].n_steps if self.steps else self.recipe.run.n_steps

    @property
    def distributions(self) -> list[str]:
        """In the order of the pool."""
        names = [name for result in self.evaluations for name in result.scores]
        names += [name for record in self.steps for name in record.probability]
        return list(dict.fromkeys(names))


def read_run(folder: Path) -> RunData:
    """Errors: CurriculaError when there is no run, or no step in it yet."""
    if not (folder / "recipe.yaml").is_file():
        raise CurriculaError(f"{folder}: no recipe.yaml in it; expected the folder of a run, as `curricula train` writes it")
    recipe = load_recipe(folder / "recipe.yaml")
    rollouts = TrainedRollouts(recipe)
    records = list(_numbers(folder / "log", rollouts))
    steps = {record["step"]: read_step(record) for record in records if record["kind"] == "step"}
    evaluations = {record["step"]: read_evaluation(record) for record in records if record["kind"] == "evaluation"}
    if not steps and not evaluations:
        raise CurriculaError(f"{folder / 'log'}: no step has been logged yet; ask again when the run has done one")
    in_order = [steps[step] for step in sorted(steps)]
    return RunData(
        folder=folder,
        recipe=recipe,
        steps=in_order,
        evaluations=[evaluations[step] for step in sorted(evaluations)],
        samples=_early_and_late(read_texts(folder / "log")),
        doses=dose_of(recipe, in_order, rollouts),
        operations=read_operations(folder),
    )


def _numbers(log: Path, rollouts: TrainedRollouts) -> Iterator[dict[str, Any]]:
    """Records of steps and evaluations; those of groups, which would not fit into memory for a long run, are counted."""
    for record in read_log(log):
        rollouts.hear(record)
        if record["kind"] in ("step", "evaluation"):
            yield record


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

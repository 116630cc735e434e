"""TensorBoard scalars of a run; `tensorboard --logdir RUN` shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.observer import EvaluationResult, RunSummary, Silent, StepRecord


class TensorBoard(Silent):
    """Writes event files into ``folder``; a resumed run hides what the killed one wrote beyond its checkpoint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def on_start(self, facts: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # heavy, and only runs need it

        first = int(facts["first_step"])
        self._writer = SummaryWriter(str(self._folder), purge_step=first or None)

    def on_step(self, record: StepRecord) -> None:
        for tag, value in step_scalars(record):
            if not math.isnan(value):
                self._writer.add_scalar(tag, value, record.step)
        self._writer.flush()

    def on_evaluation(self, result: EvaluationResult) -> None:
        for tag, value in evaluation_scalars(result):
            if not math.isnan(value):
                self._writer.add_scalar(tag, value, result.step)
        self._writer.flush()

    def on_end(self, summary: RunSummary) -> None:
        self._writer.close()


def step_scalars(record: StepRecord) -> Iterator[tuple[str, float]]:
    """(tag, value) of everything in a step that is one number."""
    for name in ("reward_mean", "accuracy", "live_group_share", "kept_groups", "generated_groups"):
        yield f"step/{name}", float(getattr(record, name))
    for name in ("n_rollouts", "n_tokens_generated", "n_tokens_trained"):
        yield f"cost/{name}", float(getattr(record, name))
    for name in ("lr", "loss", "grad_norm"):
        yield f"learner/{name}", float(getattr(record, name))
    for name in ("probability", "pass_rate", "reward", "reasons", "statuses", "phase_seconds", "metrics"):
        for key, value in getattr(record, name).items():
            yield f"{name}/{key}", float(value)


def evaluation_scalars(result: EvaluationResult) -> Iterator[tuple[str, float]]:
    """(tag, value) of held-out accuracy."""
    yield "held_out/sampled", result.sampled
    yield "held_out/greedy", result.greedy
    for name, score in result.scores.items():
        yield f"held_out_sampled/{name}", score.sampled
        yield f"held_out_greedy/{name}", score.greedy

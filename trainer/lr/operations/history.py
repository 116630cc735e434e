"""The learning rate of a run folder: what it was, what was decided, and what it will be if nothing else happens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from rollout.lock import is_held
from trainer import checkpoint
from trainer.lr.operations.standing import Standing, standing
from trainer.observer import StepRecord
from trainer.operations import Course, Operation, read_operations
from trainer.run_folder import RECIPE_OR_RUN, recipe_of
from trainer.run_log import read_run_log
from trainer.schedules.clock import Consumed
from trainer.schedules.rate import LearningRate

SCHEDULE = "schedule"  # the cause of a rate that no controller held down
MOST_STEPS = 1_000_000  # of what is to come


class Point(NamedTuple):
    """One step's rate."""

    step: int
    lr: float
    clock: float  # share of the horizon
    cause: str  # `SCHEDULE`, or the controller that held it down


@dataclass(frozen=True)
class History:
    """Of a run folder."""

    rate: LearningRate  # as of where the run goes on
    course: Course
    step: int  # where it goes on
    past: list[Point]
    to_come: list[Point]
    operations: list[Operation]
    n_applied: int  # of them; the others wait for a resume

    @property
    def causes(self) -> dict[str, list[tuple[int, int]]]:
        """Spans of steps (first, last), by what made the rate."""
        spans: dict[str, list[tuple[int, int]]] = {}
        for cause, points in groupby(self.past, key=lambda point: point.cause):
            steps = [point.step for point in points]
            spans.setdefault(cause, []).append((steps[0], steps[-1]))
        return spans


def history(folder: Path) -> History:
    """Reads recipe, log, operations and the newest checkpoint, of which only the manifest is checked; the run may go on meanwhile.

    Errors: CurriculaError when the folder is no run.
    """
    recipe_of(folder, expected=RECIPE_OR_RUN)
    informative: Counter[int] = Counter()
    log = read_run_log(folder, partial(_count_informative, informative))
    steps, per_step = log.steps, _per_step(log.steps, informative)
    saved = checkpoint.valid_folders(folder / "checkpoints")
    start = checkpoint.glance(saved[0]) if saved else None
    now = standing(folder, start)
    running = is_held(folder / "log" / "lock")
    begin = max(now.step, steps[-1].step + 1) if running and steps else now.step
    later = list(_to_come(standing(folder, start), per_step)) if steps else []  # a standing of its own, for its rate moves
    past = [_past(step) for step in steps]
    return History(
        rate=now.rate,
        course=now.course,
        step=now.step,
        past=[point for point in past if point.step < begin],
        to_come=[point for point in later if point.step >= begin],
        operations=read_operations(folder),
        n_applied=len(start.facts.get("operations", [])) if start else 0,
    )


def _count_informative(count: Counter[int], record: Mapping[str, Any]) -> None:
    """Rollouts of groups whose rewards differ, by step."""
    if record["kind"] == "group" and len({reward for reward in record["rewards"] if reward is not None}) > 1:
        count[record["step"]] += len(record["rewards"])


def _per_step(steps: Sequence[StepRecord], informative: Mapping[int, int]) -> dict[str, float]:
    """Units of the clocks that a step with an update took, on average."""
    live = [step for step in steps if not math.isnan(step.loss)]
    n = max(len(live), 1)
    return {
        "updates": sum(step.n_updates for step in live) / n,
        "rollouts": sum(step.n_rollouts for step in live) / n,
        "informative_rollouts": sum(informative[step.step] for step in live) / n,
        "tokens": sum(step.n_tokens_generated for step in live) / n,
        "seconds": sum(step.seconds for step in live if not math.isnan(step.seconds)) / n,
    }


def _past(step: StepRecord) -> Point:
    prefix, held_by = "lr/scale/", "lr/held_by/"
    named = [name.removeprefix(held_by).replace("/", ": ") for name in step.metrics if name.startswith(held_by)]
    scales = {name.removeprefix(prefix): value for name, value in step.metrics.items() if name.startswith(prefix)}
    if not named and scales and step.metrics.get("lr/scale", 1.0) < 1.0:  # logs from before causes had names
        named = [min(scales, key=lambda name: scales[name])]
    return Point(step.step, step.lr, step.metrics.get("lr/clock", math.nan), named[0] if named else SCHEDULE)


def _to_come(now: Standing, per_step: dict[str, float]) -> Iterator[Point]:
    """As if every step took the average, and the controllers saw nothing new."""
    consumed, rate, course, step = Consumed(**per_step), now.rate, now.course, now.step
    tokens = float(now.n_tokens)
    while step < now.step + MOST_STEPS and not course.is_over(step, int(tokens), rate):
        found = rate.explain(consumed)
        yield Point(step, found.lr, rate.metrics()["lr/clock"], SCHEDULE if found.cause == "schedule" else found.cause)
        step, tokens = step + 1, tokens + consumed.tokens
        rate.advance(consumed, max(course.steps_left(step, int(tokens), consumed.tokens, rate), 0.0))
        course = course.apply_due(step, int(tokens), rate)


def said_spans(spans: Sequence[tuple[int, int]], most: int = 4) -> str:
    """Spans of steps in words.

    >>> said_spans([(0, 4), (7, 7)])
    '0-4, 7'
    """
    words = [f"{first}-{last}" if last > first else f"{first}" for first, last in spans]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")

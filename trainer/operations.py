"""What is decided about a run on its way: that it goes on for longer, that its learning rate decays now, that it branched.

Operations stand in ``RUN/operations.jsonl``, one checked line each (`rollout.journal`), only ever added to. Each names the step
before which it applies: that of the checkpoint that was the newest intact one when it was recorded. A resumed run applies it when
it gets there, also from an older checkpoint (the newest one was damaged), so that it is, step for step, the run whose checkpoint
was not damaged. Checkpoints hold the operations that they have behind them; the lines of the file have to begin with these.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from curricula.types import CurriculaError
from rollout.journal import AppendFile, record_of, scan, seal
from trainer.recipe import Recipe
from trainer.schedules.build import build_rate
from trainer.schedules.rate import LearningRate

OPERATIONS = "operations.jsonl"


@dataclass(frozen=True)
class Extend:
    """The run goes on for longer."""

    kind: ClassVar[str] = "extend"
    step: int  # before which it applies
    n_steps: int  # the most steps in all from now on
    n_tokens: int = 0  # completion tokens after which the run ends from now on; 0 = steps decide
    horizon: float | None = None  # new one of the rate's clock; None = it stays, or goes by forecast
    at: str = ""  # UTC time of recording

    def __str__(self) -> str:
        parts = [f"{self.n_steps:,} steps"] if not self.n_tokens else [f"{self.n_tokens:,} tokens, at most {self.n_steps:,} steps"]
        return f"extended to {parts[0]}" + (f", horizon {self.horizon:,.6g}" if self.horizon is not None else "")


@dataclass(frozen=True)
class StartDecay:
    """The learning rate decays from here; the run ends with the decay, whatever its recipe says."""

    kind: ClassVar[str] = "decay"
    step: int
    length: float
    unit: str  # of the rate's clock; steps where that goes by forecast
    shape: str = "one_minus_sqrt"
    floor: float = 0.0  # of the peak
    at: str = ""

    def __str__(self) -> str:
        floor = f", floor {self.floor:g}" if self.floor else ""
        return f"decay over {self.length:,.6g} {self.unit.replace('_', ' ')}, {self.shape.replace('_', ' ')}{floor}"


@dataclass(frozen=True)
class Branch:
    """This run goes on from a checkpoint of another one, the trunk."""

    kind: ClassVar[str] = "branch"
    step: int
    trunk: str  # its folder
    log_run: str  # run that the trunk's log names
    recipe: str  # fingerprint of the trunk's recipe
    at: str = ""

    def __str__(self) -> str:
        return f"branched from {Path(self.trunk).name}"


Operation = Extend | StartDecay | Branch
KINDS: dict[str, type[Operation]] = {kind.kind: kind for kind in (Extend, StartDecay, Branch)}


@dataclass(frozen=True)
class Course:
    """Where a run ends as things stand, what was decided on the way, and what is decided for later."""

    n_steps: int
    n_tokens: int = 0
    ends_with_decay: bool = False  # on a clock with a horizon: with the step after which the decay is over
    applied: tuple[Operation, ...] = ()
    pending: tuple[Operation, ...] = ()

    @property
    def end(self) -> str:
        """Where the run ends, in words."""
        if self.ends_with_decay:
            return "the end of its decay"
        steps = f"{self.n_steps:,} steps"
        return f"{self.n_tokens:,} tokens (at most {steps})" if self.n_tokens else steps

    def due(self, step: int) -> bool:
        """Whether something is decided for the moment before this step."""
        return bool(self.pending) and self.pending[0].step == step

    def is_over(self, n_steps: int, n_tokens: int, rate: LearningRate) -> bool:
        """Whether the run ends after this many steps and tokens."""
        if self.ends_with_decay:
            return rate.decay_left <= 0
        return n_steps >= self.n_steps or 0 < self.n_tokens <= n_tokens

    def steps_left(self, n_steps: int, n_tokens: int, tokens_per_step: float, rate: LearningRate) -> float:
        """After this many steps and tokens; a forecast where tokens or the rate's clock decide."""
        if self.ends_with_decay:
            clock, updates = rate.state.clock, rate.state.updates
            return rate.decay_left * updates / clock.done if clock.done > 0 else math.inf
        left = float(self.n_steps - n_steps)
        if not self.n_tokens:
            return left
        return min(left, max(self.n_tokens - n_tokens, 0) / max(tokens_per_step, 1.0))

    def apply_due(self, step: int, n_tokens: int, rate: LearningRate) -> Course:
        """Apply what is decided for the moment before this step to the rate; the course from there on."""
        course = self
        while course.due(step):
            operation, *later = course.pending
            course = replace(course.after(operation, step, n_tokens, rate), pending=tuple(later))
        return course

    def after(self, operation: Operation, step: int, n_tokens: int, rate: LearningRate) -> Course:
        """Apply one operation to the rate.

        Errors: CurriculaError where the rate refuses it.
        """
        left = max(self.steps_left(step, n_tokens, n_tokens / max(step, 1), rate), 0.0)
        course = self.told(operation, by_forecast=bool(rate.clock.steps))
        if isinstance(operation, Extend) and operation.horizon is not None:
            rate.extend(operation.horizon)
        elif isinstance(operation, Extend) and rate.clock.steps:
            rate.extend_steps(step, left, course.steps_left(step, n_tokens, n_tokens / max(step, 1), rate))
        elif isinstance(operation, StartDecay) and rate.clock.steps:
            rate.decay_steps(step, left, course.n_steps - step, operation.shape, operation.floor)
        elif isinstance(operation, StartDecay):
            rate.start_decay(operation.length, operation.shape, operation.floor)
        return course

    def told(self, operation: Operation, by_forecast: bool) -> Course:
        """The course after an operation that the rate has behind it already."""
        course = replace(self, applied=(*self.applied, operation))
        if isinstance(operation, Extend):
            return replace(course, n_steps=operation.n_steps, n_tokens=operation.n_tokens, ends_with_decay=False)
        if isinstance(operation, StartDecay) and by_forecast:
            return replace(course, n_steps=operation.step + math.ceil(operation.length), n_tokens=0, ends_with_decay=False)
        if isinstance(operation, StartDecay):
            return replace(course, ends_with_decay=True)
        return course


def course_of(recipe: Recipe, folder: Path, facts: Mapping[str, Any] | None) -> Course:
    """The course of a run that goes on from a checkpoint with these facts (None: from its start).

    Errors: CurriculaError where checkpoint and file of operations do not belong together.
    """
    start = Course(recipe.run.n_steps, recipe.run.n_tokens)
    by_forecast = bool(build_rate(recipe.schedule, recipe.length).clock.steps)
    recorded, step = read_operations(folder), int(facts["step"]) if facts else 0
    applied = [operation_of(record, f"{folder}: checkpoint of step {step}") for record in (facts or {}).get("operations", [])]
    if recorded[: len(applied)] != applied:
        raise CurriculaError(
            f"{folder / OPERATIONS}: expected it to begin with the {len(applied)} operations that the checkpoint of step {step} "
            f"has behind it, got {[str(one) for one in recorded]}; restore the file from a copy"
        )
    for operation in applied:
        start = start.told(operation, by_forecast)
    pending = recorded[len(applied) :]
    if missed := next((one for one in pending if one.step < step), None):
        raise CurriculaError(
            f"{folder / OPERATIONS}: {missed.kind} is for the moment before step {missed.step}, and the checkpoint of step {step} "
            "went on without it; remove that checkpoint's folder to go on from an earlier one, or the line to go on without it"
        )
    return replace(start, pending=tuple(pending))


def read_operations(folder: Path) -> list[Operation]:
    """In the order of their recording. A last line that is not whole was never confirmed to anybody, and is no operation.

    Errors: CurriculaError naming the line for damage inside the file and for kinds of a later version.
    """
    path = folder / OPERATIONS
    if not path.exists():
        return []
    return [operation_of(record_of(line, path), f"{path}: line {line.number}") for line in scan(path)]


def record_of_operation(operation: Operation) -> dict[str, Any]:
    """Plain values, for the file and for checkpoints."""
    return {"kind": operation.kind, **dataclasses.asdict(operation)}


def operation_of(record: Mapping[str, Any], place: str) -> Operation:
    """The operation of a record."""
    kind = KINDS.get(str(record.get("kind")))
    names = {field.name for field in dataclasses.fields(kind)} if kind else set()
    given = {key: value for key, value in record.items() if key != "kind"}
    if kind is None or not set(given) <= names:
        raise CurriculaError(
            f"{place}: expected an operation ({', '.join(KINDS)}) with known fields, got {dict(record)!r}; read it with the "
            "version of rl-curricula that wrote it, or a newer one"
        )
    return kind(**given)


def append_operations(folder: Path, operations: Sequence[Operation]) -> None:
    """Durable when this returns: one write and one sync. An unfinished line that is in the way moves to a ``discarded-*`` file."""
    path = folder / OPERATIONS
    lines = list(scan(path)) if path.exists() else []
    file = AppendFile(path, lines[-1].end if lines else 0)
    try:
        file.append(b"".join(seal(record_of_operation(operation)) for operation in operations))
    finally:
        file.close()

"""Deciding about a run: what an operation would do, checked on the run's own state before it is recorded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from curricula.types import CurriculaError
from rollout.lock import FolderLock
from trainer.lr.operations.standing import Standing, standing
from trainer.operations import OPERATIONS, Extend, Operation, StartDecay, append_operations
from trainer.run_folder import newest, recipe_of


@dataclass(frozen=True)
class Recorded:
    """An operation and what it did to the run's prospects."""

    operation: Operation
    before: Standing
    after: Standing


@dataclass(frozen=True)
class Longer:
    """How long a run is to be, in all; what is None stays."""

    n_steps: int | None = None
    n_tokens: int | None = None
    horizon: float | None = None  # of the rate's clock, where the recipe states one


def extend(folder: Path, longer: Longer) -> Recorded:
    """Let a run go on for longer. The schedule is stretched where its horizon is the run's length, or to the horizon given.

    Errors: CurriculaError when the run is being written, would not be longer, or its rate has come down to 0.
    """
    return _recorded(folder, lambda now: _extension(now, longer))


def start_decay(folder: Path, length: float, shape: str = "one_minus_sqrt", floor: float = 0.0) -> Recorded:
    """Let the rate decay from now on, over ``length`` units of its clock (steps where it goes by forecast), and the run end there.

    Errors: CurriculaError when the run is being written, or the rate is at 0 or below the floor already.
    """
    return _recorded(folder, lambda now: decay_of(now, length, shape, floor))


def decay_of(now: Standing, length: float, shape: str, floor: float) -> StartDecay:
    """The decay that begins where a run stands.

    Errors: CurriculaError where the rate has come down to 0, or a forecast clock would have to count parts of a step.
    """
    clock = now.rate.clock
    if now.rate.explain().multiplier <= 0:
        raise CurriculaError(
            f"decay: after {now.step:,} steps the rate has come down to 0; use `curricula lr branch` from an earlier checkpoint"
        )
    if clock.steps and length != int(length):
        raise CurriculaError(f"decay: the clock of {clock.unit} goes by a forecast, so the length counts steps; got {length}")
    return StartDecay(now.step, float(length), "steps" if clock.steps else clock.unit, shape, float(floor), utc())


def utc() -> str:
    """The time of recording."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _extension(now: Standing, longer: Longer) -> Extend:
    course, by_tokens = now.course, bool(now.recipe.run.n_tokens)
    if longer.n_steps is None and longer.n_tokens is None:
        raise CurriculaError("extend: expected --steps, the number of steps in all, or --tokens in a run that tokens end")
    if longer.n_tokens is not None and not by_tokens:
        raise CurriculaError("extend: --tokens is for runs that run.n_tokens ends; this one ends with its steps, give --steps")
    n_steps = longer.n_steps if longer.n_steps is not None else course.n_steps
    n_tokens = (longer.n_tokens if longer.n_tokens is not None else course.n_tokens) if by_tokens else 0
    _refuse_shorter(now, n_steps, n_tokens)
    return Extend(now.step, n_steps, n_tokens, _horizon(now, n_steps, n_tokens, longer.horizon), utc())


def _refuse_shorter(now: Standing, n_steps: int, n_tokens: int) -> None:
    course = now.course
    to_come = n_steps > now.step and (not n_tokens or n_tokens > now.n_tokens)
    shorter = n_steps < course.n_steps or n_tokens < course.n_tokens
    same = (n_steps, n_tokens) == (course.n_steps, course.n_tokens)
    if not to_come or (not course.ends_with_decay and (shorter or same)):
        tokens = f" and {n_tokens:,} tokens" if n_tokens else ""
        raise CurriculaError(
            f"extend: the run ends with {course.end} as things stand, {now.step:,} steps ({now.n_tokens:,} tokens) are done; "
            f"expected more, got {n_steps:,} steps{tokens} (a run ends earlier by `curricula lr decay`)"
        )


def _horizon(now: Standing, n_steps: int, n_tokens: int, stated: float | None) -> float | None:
    """The clock's new horizon; None where it stays or there is none. An extension ends a decay that was started by hand."""
    clock, state = now.rate.clock, now.rate.state
    if clock.steps:
        if stated is not None:
            raise CurriculaError(
                f"extend: the clock of {clock.unit} goes by a forecast up to the end of the run; leave --horizon out"
            )
        return None
    if "horizon" in now.recipe.schedule:
        back = math.isfinite(now.rate.decay_left) and state.clock.horizon > state.clock.done
        return state.clock.horizon if stated is None and back else stated
    if stated is not None:
        raise CurriculaError(f"extend: the horizon of this clock is the run's length in {clock.unit}; leave --horizon out")
    units = float(n_tokens if clock.unit == "tokens" else n_steps * now.recipe.learner.updates_per_step)
    return units if math.isfinite(now.rate.decay_left) or units > state.clock.horizon else None


def _recorded(folder: Path, decide: Callable[[Standing], Operation]) -> Recorded:
    """Under the lock of the run's log, so that no checkpoint comes in between."""
    recipe_of(folder)
    if not (folder / "log").is_dir():
        raise CurriculaError(f"{folder}: no log in it yet; nothing can be decided before the run's first checkpoint")
    lock = FolderLock(folder / "log" / "lock")
    try:
        start = newest(folder)
        before, now = standing(folder, start), standing(folder, start)
        if later := before.course.pending:
            raise CurriculaError(
                f"{folder / OPERATIONS}: {later[0].kind} is decided for the moment before step {later[0].step}, and the newest "
                f"intact checkpoint is of step {start.step}; resume the run until it is past that, then decide anew"
            )
        operation = decide(before)
        course = now.course.after(operation, now.step, now.n_tokens, now.rate)
        append_operations(folder, [operation])
        return Recorded(operation, before, replace(now, course=course))
    finally:
        lock.release()

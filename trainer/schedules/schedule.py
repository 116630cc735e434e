"""A shape with its peak, warm-up and horizon, and how a recipe names it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from curricula.types import CurriculaError, known_or_raise
from trainer.schedules.progress import Progress, units
from trainer.schedules.shape import SHAPES, Shape

COMMON_KEYS = ("peak", "warmup", "warmup_from")


@dataclass(frozen=True)
class Schedule:
    """The rate as a pure function of progress. Units are those of the run's clock; with the clock of updates ``done`` is t."""

    shape: Shape
    horizon: float  # T
    peak: float
    warmup: float = 0.0  # units; below 1 a share of the horizon
    warmup_from: Literal["first", "zero"] = "first"  # (t + 1) / W wastes no batch; t / W is transformers' convention

    def __post_init__(self) -> None:
        known_or_raise("schedule.warmup_from", self.warmup_from, ["first", "zero"])
        if not (math.isfinite(self.peak) and self.peak >= 0):
            raise CurriculaError(f"schedule.peak: expected a finite learning rate >= 0, got {self.peak}")
        if self.horizon < 1:
            raise CurriculaError(f"schedule: expected a horizon of at least one step, got {self.horizon}")
        if not 0 <= units(self.warmup, self.horizon) <= self.horizon:
            raise CurriculaError(
                f"schedule.warmup: expected 0 to {self.horizon} updates, or a share of the run below 1; got {self.warmup}"
            )

    def lr(self, done: float, now: float = 1.0) -> float:
        """The rate of the update that follows ``done`` units and consumes ``now`` of them."""
        return self.peak * self.multiplier(done, now)

    def multiplier(self, done: float, now: float = 1.0) -> float:
        """In [0, 1]."""
        warmup = units(self.warmup, self.horizon)
        if done < warmup:
            return min(1.0, (done + now * (self.warmup_from == "first")) / warmup)
        return self.shape.multiplier(Progress(done, warmup, self.horizon))


def known_shapes() -> tuple[str, ...]:
    """Names of the shapes, sorted."""
    return SHAPES.known()


def build_schedule(mapping: Mapping[str, Any], horizon: float) -> Schedule:
    """The schedule of a recipe: ``{name: cosine, peak: 1.0e-6, warmup: 0.03, floor: 0.1}``.

    Errors: CurriculaError for an unknown name or key (with the nearest known one), a missing peak, or a value out of range.
    """
    given = dict(mapping)
    name = str(given.pop("name", ""))
    known_or_raise("schedule", name, known_shapes())
    kinds = {field.name: field.default for field in fields(SHAPES[name])}
    for key in given:
        known_or_raise(f"key of schedule {name!r}", key, [*COMMON_KEYS, *kinds])
    if "peak" not in given:
        raise CurriculaError(f"schedule {name!r}: the key 'peak' is missing; give the highest learning rate, e.g. peak: 1.0e-6")
    _refuse_non_numbers(given, kinds)
    shape = SHAPES[name](
        **{key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if key in kinds}
    )
    return Schedule(shape, horizon, **{key: value for key, value in given.items() if key in COMMON_KEYS})


def _refuse_non_numbers(given: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if isinstance(kinds.get(key, "" if key == "warmup_from" else 0.0), str):
            continue
        many = isinstance(kinds.get(key), tuple)
        for number in value if many and isinstance(value, list | tuple) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                expected = "numbers" if many else "a number"
                raise CurriculaError(f"schedule.{key}: expected {expected}, got {number!r} (YAML reads 1e-6 as text; write 1.0e-6)")

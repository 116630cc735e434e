"""Learning-rate schedules: pure functions of progress, without state.

The clock t is the 0-based index of the update that uses the rate. With W updates of warm-up and horizon T, progress is
z = (t - W) / (T - W), cut to [0, 1]. A shape maps progress to a multiplier of the peak; its ``floor`` is a fraction of the peak and
never touches the warm-up. Resuming needs only t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypeVar

from curricula.types import CurriculaError, known_or_raise


@dataclass(frozen=True)
class Progress:
    """Where training stands, past the warm-up."""

    done: float  # t
    warmup: float  # W
    horizon: float  # T

    @property
    def share(self) -> float:
        """z: 0 at the end of the warm-up, 1 from the horizon on."""
        return _share(self.done, self.warmup, self.horizon)


class Shape(Protocol):
    """A frozen dataclass of hyper-parameters, registered under its name in recipes."""

    def multiplier(self, progress: Progress) -> float:
        """In [0, 1], 1 at the end of the warm-up."""
        ...


SHAPES: dict[str, type[Shape]] = {}
S = TypeVar("S", bound=type[Shape])


def register(name: str) -> Callable[[S], S]:
    """Make a shape known to recipes."""

    def put(shape: S) -> S:
        SHAPES[name] = shape
        return shape

    return put


@register("constant")
@dataclass(frozen=True)
class Constant:
    """1."""

    def multiplier(self, progress: Progress) -> float:
        return 1.0


@register("linear")
@dataclass(frozen=True)
class Linear:
    """f + (1 - f)(1 - z); to zero (f = 0) is the recommendation of arXiv 2502.15938."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        _require_share("schedule.floor", self.floor)

    def multiplier(self, progress: Progress) -> float:
        return _above(self.floor, 1 - progress.share)


@register("cosine")
@dataclass(frozen=True)
class Cosine:
    """f + (1 - f)(1 + cos(pi z)) / 2, arXiv 1608.03983."""

    floor: float = 0.1

    def __post_init__(self) -> None:
        _require_share("schedule.floor", self.floor)

    def multiplier(self, progress: Progress) -> float:
        return _above(self.floor, _half_cosine(progress.share))


def _half_cosine(x: float) -> float:
    return (1 + math.cos(math.pi * x)) / 2


COOL_DOWNS: dict[str, Callable[[float], float]] = {  # from 1 at x = 0 to 0 at x = 1
    "linear": lambda x: 1 - x,
    "one_minus_sqrt": lambda x: 1 - math.sqrt(x),
    "cosine": _half_cosine,
}


@register("wsd")
@dataclass(frozen=True)
class WarmupStableDecay:
    """Full rate, then a short cool-down at the end, arXiv 2404.06395; one_minus_sqrt is the shape of arXiv 2405.18392.

    >>> build_schedule({"name": "wsd", "peak": 1.0, "decay": 200}, n_steps=1000).lr(850)
    0.5
    """

    decay: float = 0.1  # updates of cool-down; below 1 a share of the horizon
    shape: Literal["linear", "one_minus_sqrt", "cosine"] = "one_minus_sqrt"
    floor: float = 0.0

    def __post_init__(self) -> None:
        _require_share("schedule.floor", self.floor)
        known_or_raise("schedule.shape", self.shape, list(COOL_DOWNS))
        if self.decay <= 0:
            raise CurriculaError(f"schedule.decay: expected > 0 updates, or a share of the run below 1; got {self.decay}")

    def multiplier(self, progress: Progress) -> float:
        start = progress.horizon - _updates(self.decay, progress.horizon)
        cooled = _share(progress.done, max(start, progress.warmup), progress.horizon)
        return _above(self.floor, COOL_DOWNS[self.shape](cooled))


@dataclass(frozen=True)
class Schedule:
    """A shape with its peak, warm-up and horizon."""

    shape: Shape
    n_steps: int  # T
    peak: float
    warmup: float = 0.0  # updates; below 1 a share of the horizon
    warmup_from: Literal["first", "zero"] = "first"  # (t + 1) / W wastes no batch; t / W is transformers' convention

    def __post_init__(self) -> None:
        known_or_raise("schedule.warmup_from", self.warmup_from, ["first", "zero"])
        if not (math.isfinite(self.peak) and self.peak >= 0):
            raise CurriculaError(f"schedule.peak: expected a finite learning rate >= 0, got {self.peak}")
        if self.n_steps < 1:
            raise CurriculaError(f"schedule: expected a horizon of at least one step, got {self.n_steps}")
        if not 0 <= _updates(self.warmup, self.n_steps) <= self.n_steps:
            raise CurriculaError(
                f"schedule.warmup: expected 0 to {self.n_steps} updates, or a share of the run below 1; got {self.warmup}"
            )

    def lr(self, step: float) -> float:
        """The rate of update ``step``, counted from 0."""
        return self.peak * self.multiplier(step)

    def multiplier(self, step: float) -> float:
        """In [0, 1]."""
        warmup = _updates(self.warmup, self.n_steps)
        if step < warmup:
            return min(1.0, (step + (self.warmup_from == "first")) / warmup)
        return self.shape.multiplier(Progress(step, warmup, self.n_steps))


COMMON_KEYS = ("peak", "warmup", "warmup_from")


def build_schedule(mapping: Mapping[str, Any], n_steps: int) -> Schedule:
    """The schedule of a recipe: ``{name: cosine, peak: 1.0e-6, warmup: 0.03, floor: 0.1}``.

    Errors: CurriculaError for an unknown name or key (with the nearest known one), a missing peak, or a value out of range.
    """
    given = dict(mapping)
    name = given.pop("name", "")
    known_or_raise("schedule", str(name), list(SHAPES))
    own = [field.name for field in fields(SHAPES[name])]  # type: ignore[arg-type]
    for key in given:
        known_or_raise(f"key of schedule {name!r}", key, [*COMMON_KEYS, *own])
    if "peak" not in given:
        raise CurriculaError(f"schedule {name!r}: the key 'peak' is missing; give the highest learning rate, e.g. peak: 1.0e-6")
    _refuse_non_numbers(given)
    shape = SHAPES[name](**{key: value for key, value in given.items() if key in own})
    return Schedule(shape, n_steps, **{key: value for key, value in given.items() if key in COMMON_KEYS})


def _refuse_non_numbers(given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if key not in ("warmup_from", "shape") and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise CurriculaError(f"schedule.{key}: expected a number, got {value!r} (YAML reads 1e-6 as text; write 1.0e-6)")


def _share(done: float, start: float, end: float) -> float:
    """How far ``done`` is on the way from start to end, cut to [0, 1]."""
    if done >= end:
        return 1.0
    return max(0.0, (done - start) / (end - start)) if end > start else 0.0


def _above(floor: float, height: float) -> float:
    return floor + (1 - floor) * height


def _updates(count_or_share: float, horizon: float) -> float:
    return count_or_share * horizon if 0 < count_or_share < 1 else count_or_share


def _require_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise CurriculaError(f"{name}: expected a share of the peak in [0, 1], got {value}")

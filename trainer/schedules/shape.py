"""What a shape is: a pure function of progress, registered under its name in recipes."""

from __future__ import annotations

import math
from typing import Protocol

from curricula.types import CurriculaError
from trainer.registry import Registry
from trainer.schedules.progress import Progress


class Shape(Protocol):
    """A frozen dataclass of hyper-parameters."""

    def multiplier(self, progress: Progress) -> float:
        """In [0, 1], of the peak; defined for every progress."""
        ...


SHAPES = Registry("trainer.schedules.shapes")
register = SHAPES.register


def above(floor: float, height: float) -> float:
    """A height in [0, 1] between the floor and 1."""
    return floor + (1 - floor) * height


def require_share(name: str, value: float, least: float = 0.0) -> None:
    """CurriculaError unless the value is a share of the peak."""
    if not least <= value <= 1:
        raise CurriculaError(f"schedule.{name}: expected a share of the peak in [{least:g}, 1], got {value}")


def require_positive(name: str, value: float, what: str = "a finite number above 0") -> None:
    """CurriculaError unless the value is above 0."""
    if not 0 < value < math.inf:
        raise CurriculaError(f"schedule.{name}: expected {what}, got {value}")

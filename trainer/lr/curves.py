"""The rate over a run's clock, as a recipe states it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curricula.types import CurriculaError, Floats
from trainer.recipe import load_recipe
from trainer.schedules.build import build_rate
from trainer.schedules.clock import Length
from trainer.schedules.rate import LearningRate
from trainer.strict_yaml import load

N_POINTS = 400


class Curve(NamedTuple):
    """One schedule."""

    name: str
    unit: str  # of the clock
    at: Floats  # share of the horizon
    lr: Floats  # at these shares, scales left out
    horizon: float  # units of the clock; 0 = by forecast
    controllers: tuple[str, ...]  # they can only lower the rate


class Stated(NamedTuple):
    """A schedule as a recipe or a word states it."""

    name: str
    schedule: Mapping[str, Any]
    length: Length
    has_peak: bool = True  # of its own

    @property
    def rate(self) -> LearningRate:
        """Errors: CurriculaError for whatever cannot be built."""
        return build_rate(self.schedule, self.length)


def curves_of(words: Sequence[str], n_steps: int) -> list[Curve]:
    """A curve per word: a recipe file, or a schedule such as ``{name: wsd, peak: 1.0e-6, decay: 0.2}`` over ``n_steps`` updates.

    Errors: CurriculaError for whatever cannot be built.
    """
    return [_curve(stated(word, n_steps)) for word in words]


def stated(word: str, n_steps: int) -> Stated:
    """What a word says; a schedule without a peak has the peak 1.

    Errors: CurriculaError for no step, a recipe that is none, and text that is no YAML.
    """
    if n_steps < 1:
        raise CurriculaError(f"lr: expected one step at least, got {n_steps}")
    if word.endswith((".yaml", ".yml")):
        recipe = load_recipe(Path(word))
        return Stated(Path(word).stem, recipe.schedule, recipe.length)
    given = load(word, "schedule")
    if not isinstance(given, Mapping):
        given = {"name": word}
    told = ", ".join(f"{key} {value}" for key, value in given.items() if key not in ("name", "peak"))
    name = f"{given.get('name')}{f' ({told})' if told else ''}"
    return Stated(name, {"peak": 1.0, **given}, Length(n_steps, n_steps), has_peak="peak" in given)


def lr_at(rate: LearningRate, share: Floats) -> Floats:
    """The schedule's rates at shares of the clock's horizon, scales left out."""
    horizon = rate.state.clock.horizon
    step = 1.0 if rate.clock.unit == "updates" else horizon / N_POINTS
    return np.array([rate.schedule.lr(each * horizon, step) for each in share])


def _curve(given: Stated) -> Curve:
    rate = given.rate
    at = np.linspace(0.0, 1.0, N_POINTS + 1)
    controllers = tuple(given.schedule.get("controllers", {}))
    return Curve(given.name, rate.clock.unit, at, lr_at(rate, at), rate.clock.horizon, controllers)

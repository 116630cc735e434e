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
from trainer.strict_yaml import load

N_POINTS = 400


class Curve(NamedTuple):
    """One schedule."""

    name: str
    unit: str  # of the clock
    at: Floats  # share of the horizon
    lr: Floats
    horizon: float  # 0 = by forecast
    controllers: tuple[str, ...]  # they can only lower the rate


def curves_of(words: Sequence[str], n_steps: int) -> list[Curve]:
    """A curve per word: a recipe file, or a schedule such as ``{name: wsd, peak: 1.0e-6, decay: 0.2}`` over ``n_steps`` updates.

    Errors: CurriculaError for whatever cannot be built.
    """
    return [_of_recipe(Path(word)) if word.endswith((".yaml", ".yml")) else _of_text(word, n_steps) for word in words]


def _of_recipe(path: Path) -> Curve:
    recipe = load_recipe(path)
    return _curve(path.stem, recipe.schedule, recipe.length)


def _of_text(text: str, n_steps: int) -> Curve:
    given = load(text, "schedule")
    if not isinstance(given, Mapping):
        given = {"name": text}
    mapping = {"peak": 1.0, **given}
    told = ", ".join(f"{key} {value}" for key, value in given.items() if key not in ("name", "peak"))
    return _curve(f"{given.get('name')}{f' ({told})' if told else ''}", mapping, Length(n_steps, n_steps))


def _curve(name: str, schedule: Mapping[str, Any], length: Length) -> Curve:
    if length.steps < 1:
        raise CurriculaError(f"lr: expected one step at least, got {length.steps}")
    rate = build_rate(schedule, length)
    horizon = rate.state.clock.horizon
    at = np.linspace(0.0, 1.0, N_POINTS + 1)
    step = 1.0 if rate.clock.unit == "updates" else horizon / N_POINTS
    lr = np.array([rate.schedule.lr(share * horizon, step) for share in at])
    return Curve(name, rate.clock.unit, at, lr, rate.clock.horizon, tuple(schedule.get("controllers", {})))

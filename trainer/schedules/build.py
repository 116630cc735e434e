"""A recipe's ``schedule`` as a learning rate."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from curricula.types import CurriculaError, known_or_raise
from trainer.schedules import controllers
from trainer.schedules.clock import Length, clock_of
from trainer.schedules.controller import CONTROLLERS, Controller
from trainer.schedules.rate import LearningRate
from trainer.schedules.schedule import build_schedule

UNFED = {  # what their metrics would be, which the learner does not report
    "hypergradient": "the cosine of a step with the one before",
    "kl_adaptive": "the divergence of the old policy from the new one",
    "signal_to_noise": "gradient norms of parts of a batch",
}


def build_rate(mapping: Mapping[str, Any], length: Length) -> LearningRate:
    """A schedule, ``clock`` and ``horizon`` of it, and ``controllers`` by name: ``{name: wsd, peak: 1.0e-6, clock: tokens}``.

    Errors: CurriculaError for unknown names and keys, values out of range, and controllers that no metric would reach.
    """
    clock, rest = clock_of(mapping, length)
    named = rest.pop("controllers", {})
    if not isinstance(named, Mapping):
        raise CurriculaError(f"schedule.controllers: expected names with their settings, got {named!r}")
    schedule = build_schedule(rest, clock.begin().horizon)
    return LearningRate(schedule, clock, {str(name): _controller(str(name), given) for name, given in named.items()})


def _controller(name: str, given: Any) -> Controller:
    known_or_raise("controller of the learning rate", name, known_controllers())
    if name in UNFED:
        raise CurriculaError(
            f"schedule.controllers.{name}: it needs {UNFED[name]}, which the learner does not report; use it with EngineLR"
        )
    settings = dict(given or {})
    own = [field.name for field in fields(CONTROLLERS[name])]  # type: ignore[arg-type]
    for key in settings:
        known_or_raise(f"key of controller {name!r}", str(key), own)
    return CONTROLLERS[name](**settings)


def known_controllers() -> tuple[str, ...]:
    """Names of the scales that react to training, sorted."""
    _import_controllers()
    return tuple(sorted(CONTROLLERS))


@cache
def _import_controllers() -> None:
    for module in sorted(info.name for info in pkgutil.iter_modules(controllers.__path__)):
        importlib.import_module(f"{controllers.__name__}.{module}")

"""A recipe's ``schedule`` as a learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from curricula.types import CurriculaError, known_or_raise
from trainer.schedules.clock import Length, clock_of
from trainer.schedules.controller import CONTROLLERS, Controller
from trainer.schedules.decay import TRIGGERS, DecayWhen
from trainer.schedules.rate import LearningRate
from trainer.schedules.schedule import build_schedule


def build_rate(mapping: Mapping[str, Any], length: Length) -> LearningRate:
    """A schedule, ``clock`` and ``horizon`` of it, and ``controllers`` by name: ``{name: wsd, peak: 1.0e-6, clock: tokens}``.

    ``decay_when`` of a wsd names what may begin its decay early, see `trainer.schedules.decay`.
    Errors: CurriculaError for unknown names and keys, values out of range, and controllers that no metric would reach.
    """
    clock, rest = clock_of(mapping, length)
    named = rest.pop("controllers", {})
    if not isinstance(named, Mapping):
        raise CurriculaError(f"schedule.controllers: expected names with their settings, got {named!r}")
    when = rest.pop("decay_when", None)
    schedule = build_schedule(rest, clock.begin().horizon)
    scales = {str(name): _controller(str(name), given) for name, given in named.items()}
    return LearningRate(schedule, clock, scales, None if when is None else _decay_when(when))


def _decay_when(given: Any) -> DecayWhen:
    """A trigger by name with its settings, and ``floor_while_learning``."""
    if not isinstance(given, Mapping) or "name" not in given:
        raise CurriculaError(
            f"schedule.decay_when: expected a mapping with a name, such as {{name: progress_stalls}}; got {given!r}"
        )
    name, settings = str(given["name"]), {str(key): value for key, value in given.items() if key != "name"}
    known_or_raise("trigger of a decay", name, TRIGGERS.known())
    own = [field.name for field in fields(TRIGGERS[name])]
    for key, value in settings.items():
        known_or_raise(f"key of trigger {name!r}", key, [*own, "floor_while_learning"])
        if key != "reads" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise CurriculaError(f"schedule.decay_when.{key}: expected a number, got {value!r}")
    floor = float(settings.pop("floor_while_learning", 0.0))
    return DecayWhen(name, TRIGGERS[name](**settings), floor)


def _controller(name: str, given: Any) -> Controller:
    known_or_raise("controller of the learning rate", name, known_controllers())
    settings = dict(given or {})
    own = [field.name for field in fields(CONTROLLERS[name])]
    for key in settings:
        known_or_raise(f"key of controller {name!r}", str(key), own)
    controller: Controller = CONTROLLERS[name](**settings)
    return controller


def known_controllers() -> tuple[str, ...]:
    """Names of the scales that react to training, sorted."""
    return CONTROLLERS.known()

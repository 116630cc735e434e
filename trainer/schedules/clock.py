"""What an update consumed, in every unit that a clock may count, and how much of it is still to come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from curricula.types import CurriculaError, known_or_raise


class Consumed(NamedTuple):
    """By the step of one update."""

    updates: float = 1.0
    rollouts: float = 0.0  # generated, rejected groups included
    informative_rollouts: float = 0.0  # of groups whose rewards differ
    tokens: float = 0.0  # completion tokens generated
    seconds: float = 0.0


UNITS = Consumed._fields


class Length(NamedTuple):
    """How long a run is at most."""

    steps: int
    updates: int
    tokens: int = 0  # completion tokens after which it ends; 0 = steps decide


class ClockState(NamedTuple):
    """Numbers only, so that any format can keep it."""

    done: float  # units; with a forecast the share of the run's information, 0 to 1
    horizon: float
    per_step: float  # forecast: average units of a step, newest steps counting most; 0 = none yet


@dataclass(frozen=True)
class Clock:
    """Counts one unit. Steps without an update bring no information and do not move it.

    With ``steps`` the horizon is not known in the unit itself (who knows how many informative rollouts a run will bring?) but in
    steps: after each update the share z of the run that is done moves by what came over what is forecast to come, 1 - z <- (1 -
    z) (1 - came / (came + steps left x average per step)). So z never jumps, is 1 at the last step, and with equal steps it is
    the share of steps. Ours.

    >>> clock = Clock("informative_rollouts", steps=2)
    >>> state = clock.advance(clock.begin(), Consumed(informative_rollouts=60), steps_left=1)
    >>> state.done, clock.advance(state, Consumed(informative_rollouts=20), steps_left=0).done
    (0.5, 1.0)
    """

    unit: str = "updates"
    horizon: float = 0.0  # units; 0 = by forecast
    steps: int = 0  # of the run, for the forecast
    memory: float = 0.9  # of the average

    def __post_init__(self) -> None:
        known_or_raise("schedule.clock", self.unit, list(UNITS))
        if (self.horizon > 0) == (self.steps > 0):
            raise CurriculaError("schedule.horizon: expected a number of the clock's units above 0, or steps to forecast it from")

    def begin(self) -> ClockState:
        """Before the first update."""
        return ClockState(0.0, self.horizon or 1.0, 0.0)

    def advance(self, state: ClockState, consumed: Consumed, steps_left: float = 0) -> ClockState:
        """After an update; ``steps_left`` are those to come, perhaps a forecast."""
        came = float(getattr(consumed, self.unit))
        if came < 0:
            raise CurriculaError(f"clock: expected consumption >= 0, got {came} {self.unit}")
        if not self.steps:
            return state._replace(done=state.done + came)
        average = came if state.per_step == 0 else self.memory * state.per_step + (1 - self.memory) * came
        to_come = came + max(steps_left, 0) * average
        left = (1.0 - state.done) * (1.0 - came / to_come if to_come > 0 else 1.0)
        return ClockState(1.0 - left, 1.0, average)

    def forecast_anew(self, state: ClockState, done: int, left: float, to_come: float) -> ClockState:
        """The share of the run that is done when, after ``done`` steps, not ``left`` but ``to_come`` steps are still to come.

        z / (1 - z) changes as 1 / (steps to come) does; a run that was through has done ``done`` of ``done + to_come`` steps.

        >>> clock = Clock("tokens", steps=10)
        >>> clock.forecast_anew(ClockState(0.5, 1.0, 60.0), done=5, left=5, to_come=15).done
        0.25
        """
        z = state.done
        came, comes = (z * left, (1.0 - z) * to_come) if left > 0 and z < 1 else (float(done), to_come)
        return state._replace(done=came / (came + comes) if came + comes > 0 else 0.0)

    def now(self, state: ClockState, consumed: Consumed) -> float:
        """What the update that is due moves the clock by, for a warm-up that does not waste the first batch."""
        if not self.steps:
            return float(getattr(consumed, self.unit))
        return (1.0 - state.done) / max(self.steps, 1)


def clock_of(mapping: Mapping[str, object], length: Length) -> tuple[Clock, dict[str, object]]:
    """The clock that a recipe's schedule names (keys ``clock`` and ``horizon``), and the mapping without these keys.

    Without a horizon it is the run's length where that is known in the clock's unit, and forecast where it is not.

    Errors: CurriculaError for a clock of updates without a horizon in a run that tokens end.
    """
    rest = dict(mapping)
    unit, horizon = rest.pop("clock", "updates"), rest.pop("horizon", None)
    if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int | float) or horizon <= 0):
        raise CurriculaError(f"schedule.horizon: expected a number of {unit} above 0, got {horizon!r}")
    if horizon is None and length.tokens and unit == "updates":
        raise CurriculaError(
            "schedule.horizon: run.n_tokens ends the run, so its number of updates is not known; say schedule.clock: tokens (its "
            "horizon is run.n_tokens then), or state a horizon"
        )
    if horizon is None:
        horizon = {"updates": length.updates, "tokens": length.tokens}.get(str(unit)) or None
    return (Clock(str(unit), float(horizon)) if horizon is not None else Clock(str(unit), steps=length.steps)), rest

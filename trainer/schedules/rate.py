"""The learning rate of a run: a schedule on a clock, what was decided on the way, and scales that react to training.

lr = peak x multiplier of the schedule x the smallest scale. It never jumps by accident: extending a run keeps the rate of the
moment, a decay starts from it, and scales rise slowly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from curricula.types import CurriculaError, known_or_raise
from trainer.schedules.clock import Clock, ClockState, Consumed
from trainer.schedules.controller import Controller, statistics_for
from trainer.schedules.cool_downs import COOL_DOWNS, NEED_A_FLOOR
from trainer.schedules.decay import AT_THE_LATEST, BY_HAND, Decay, DecayWhen
from trainer.schedules.progress import share_of, units
from trainer.schedules.rate_state import RateState, Stretch, plain, restored
from trainer.schedules.schedule import Schedule

VERSION = 1
RISE = 1.05  # most that the scale may grow from one update to the next


class Explanation(NamedTuple):
    """What made a rate."""

    lr: float
    multiplier: float  # of the schedule, decays included
    scales: dict[str, float]  # by controller
    scale: float  # their minimum, no faster up than `RISE`
    cause: str  # "schedule", or the controller that holds the rate down, with its own cause if it has one ("guard: kl")
    decay: str = ""  # why a decay began and where on the clock, where the schedule does not say so alone
    still_learning: tuple[str, ...] = ()  # what the trigger of a decay waits for


class LearningRate:
    """Asked before each update, told after it. A pure function of its state, which is plain numbers and texts."""

    def __init__(
        self,
        schedule: Schedule,
        clock: Clock,
        controllers: Mapping[str, Controller] | None = None,
        decay_when: DecayWhen | None = None,
    ) -> None:
        self.schedule = schedule
        self.clock = clock
        self._when = decay_when
        if decay_when is not None:
            decay_when.check(schedule)
        self._controllers = dict(controllers or {})
        self.state = self._begin()

    def _begin(self) -> RateState:
        observed = {name: controller.begin() for name, controller in self._controllers.items()}
        return RateState(self.clock.begin(), observed=observed, watched=self._when.trigger.begin() if self._when else None)

    @property
    def controllers(self) -> dict[str, Controller]:
        """By name."""
        return dict(self._controllers)

    @property
    def statistics(self) -> frozenset[str]:
        """What the learner has to make for the scales."""
        return frozenset(word for controller in self._controllers.values() for word in statistics_for(controller))

    def lr(self, consumed: Consumed | None = None) -> float:
        """The rate of the update that is due; ``consumed`` is what its step consumed, which a warm-up may count already."""
        return self.explain(consumed).lr

    def explain(self, consumed: Consumed | None = None) -> Explanation:
        """The rate and its causes."""
        now = self.clock.now(self.state.clock, consumed or Consumed())
        multiplier = self._multiplier(now)
        scales = {name: controller.scale(self.state.observed[name]) for name, controller in self._controllers.items()}
        lowest = min(scales, key=lambda name: scales[name], default=None)
        wanted = 1.0 if lowest is None else scales[lowest]
        scale = min(wanted, self.state.scale * RISE) if self.state.updates else wanted
        cause = "schedule" if lowest is None or scale >= 1.0 else self._cause(lowest)
        learning = self._when.trigger.learning(self.state.watched) if self._when else ()
        lr = self.schedule.peak * multiplier * scale
        return Explanation(lr, multiplier, scales, scale, cause, self._decay_said(), learning)

    def advance(self, consumed: Consumed, steps_left: float = 0, metrics: Mapping[str, float] | None = None) -> None:
        """After an update. Steps without one are not told: the clock stands still."""
        scale = self.explain(consumed).scale
        self._react(metrics or {})
        clock = self.clock.advance(self.state.clock, consumed, steps_left)
        self.state = replace(self.state, clock=clock, updates=self.state.updates + 1, scale=scale)
        self._watch(metrics or {})

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Tell the scales, and the trigger of a decay, what was measured apart from an update; the clock stands still."""
        self._react(metrics)
        self._watch(metrics)

    def _watch(self, metrics: Mapping[str, float]) -> None:
        """The trigger of a decay, after the clock."""
        if self._when is None:
            return
        self.state = replace(self.state, watched=self._when.trigger.observe(self.state.watched, metrics))
        clock, fires = self.state.clock, self._when.trigger.fires(self.state.watched)
        if clock.done < units(self.schedule.warmup, clock.horizon):
            return
        height = self._multiplier(0.0)
        begun = self._when.begun(self.schedule, clock.horizon, clock.done, height, self.state.decay, fires)
        self.state = replace(self.state, decay=begun)

    def _react(self, metrics: Mapping[str, float]) -> None:
        before = self.state.observed
        observed = {name: controller.observe(before[name], metrics) for name, controller in self._controllers.items()}
        self.state = replace(self.state, observed=observed)

    def _cause(self, name: str) -> str:
        detail = getattr(self.state.observed[name], "cause", "")
        return f"{name}: {detail}" if detail else name

    def extend(self, horizon: float) -> None:
        """Go on to a later horizon; the rate of the moment stays, and the schedule's remaining way is stretched.

        After a decay that was started by hand, which ends here, any horizon that is to come is a later one.
        Errors: CurriculaError where the horizon is not later, the rate has come down to 0, or the clock goes by forecast.
        """
        clock = self.state.clock
        if self.clock.steps:
            raise CurriculaError(f"extend: the clock of {self.clock.unit} has no horizon, it goes by a forecast; use extend_steps")
        least = clock.done if math.isfinite(self.decay_left) else clock.horizon
        if not horizon > least:
            raise CurriculaError(f"extend: expected a horizon beyond {least:g} {self.clock.unit}, got {horizon:g}")
        self._go_on(clock._replace(horizon=horizon))

    def extend_steps(self, done: int, left: float, to_come: float) -> None:
        """The same for a clock that goes by forecast, whose horizon is the end of the run: after ``done`` steps, of which ``left``
        were to come, ``to_come`` are.

        Errors: CurriculaError where the rate has come down to 0, or the clock has a horizon.
        """
        self._go_on(self._forecast_anew(done, left, to_come))

    def start_decay(self, length: float, shape: str = "one_minus_sqrt", floor: float = 0.0) -> None:
        """From the rate of the moment down to the floor (a share of the peak) over ``length`` units of the clock."""
        self._decay(self.state.clock, length, shape, floor)

    def decay_steps(self, done: int, left: float, length: int, shape: str = "one_minus_sqrt", floor: float = 0.0) -> None:
        """The same for a clock that goes by forecast: the run ends with the decay, ``length`` steps from now."""
        clock = self._forecast_anew(done, left, length)
        self._decay(clock, 1.0 - clock.done, shape, floor)

    @property
    def decay_left(self) -> float:
        """Units of the clock until a decay that was started by hand has ended; infinite without one."""
        decay = self.state.decay
        return math.inf if decay is None or decay.cause != BY_HAND else max(decay.start + decay.length - self.state.clock.done, 0.0)

    def _go_on(self, clock: ClockState) -> None:
        state, before = self.state, self._multiplier(0.0)
        self.state = replace(state, clock=clock, stretch=Stretch(), decay=None)
        after = self._multiplier(0.0)
        if before <= 0 or after <= 0:
            self.state = state
            raise CurriculaError(
                "extend: the rate has come down to 0, there is nothing to stretch; go on from an earlier checkpoint"
            )
        if before != after:  # else the schedule says the same, as in the plateau of wsd, and goes on as it says
            self.state = replace(self.state, stretch=Stretch(before, after))
        self.state = replace(self.state, watched=self._begin().watched)

    def _decay(self, clock: ClockState, length: float, shape: str, floor: float) -> None:
        known_or_raise("shape of decay", shape, list(COOL_DOWNS))
        height = self._multiplier(0.0)
        if length <= 0 or not 0 <= floor <= height or (shape in NEED_A_FLOOR and floor <= 0):
            raise CurriculaError(
                f"start_decay: expected a length above 0 and a floor from 0 (shapes {', '.join(NEED_A_FLOOR)}: above 0) up to the "
                f"multiplier of the moment, {height:g}; got length={length}, floor={floor}"
            )
        self.state = replace(self.state, clock=clock, decay=Decay(clock.done, length, height, shape, floor))

    def _forecast_anew(self, done: int, left: float, to_come: float) -> ClockState:
        """Inside the warm-up the share stays as it is, so that the warm-up goes on from where it is."""
        if not self.clock.steps:
            raise CurriculaError(f"the clock has a horizon in {self.clock.unit}; expected one that goes by a forecast")
        clock = self.state.clock
        in_warmup = clock.done < units(self.schedule.warmup, clock.horizon)
        return clock if in_warmup else self.clock.forecast_anew(clock, done, left, to_come)

    def catch_up(self, updates: int) -> None:
        """Stand where ``updates`` updates lead: for checkpoints from before the rate had a state of its own.

        Errors: CurriculaError where the clock counts anything but updates.
        """
        if self.clock.unit != "updates" or self._controllers:
            raise CurriculaError("the checkpoint says nothing of the learning rate's clock; resume with schedule.clock: updates")
        clock = self.state.clock._replace(done=float(updates))
        self.state = replace(self.state, clock=clock, updates=updates)

    def metrics(self) -> dict[str, float]:
        """Numbers for a log; 1 under the name of what holds the rate down, as ``lr/held_by/guard/kl``."""
        found = self.explain()
        scales = {f"lr/scale/{name}": scale for name, scale in found.scales.items()}
        share = share_of(self.state.clock.done, 0.0, self.state.clock.horizon)
        held = {} if found.cause == "schedule" else {f"lr/held_by/{found.cause.replace(': ', '/')}": 1.0}
        if self._when is not None:
            held["lr/still_learning"] = float(len(found.still_learning))
        if (began := self._decay_began()) is not None:
            held[f"lr/decay_from/{began[0]}"] = share_of(began[1], 0.0, self.state.clock.horizon)
        return {"lr/multiplier": found.multiplier, "lr/scale": found.scale, "lr/clock": share, **scales, **held}

    def _decay_began(self) -> tuple[str, float] | None:
        """Why and where a decay began that the schedule does not state alone."""
        clock, decay = self.state.clock, self.state.decay
        if decay is not None:
            return decay.cause, decay.start
        if self._when is None or clock.done < (latest := self._when.latest(self.schedule, clock.horizon)):
            return None
        return AT_THE_LATEST, latest

    def _decay_said(self) -> str:
        began = self._decay_began()
        return "" if began is None else f"{began[0]} from {began[1]:g} of {self.state.clock.horizon:g} {self.clock.unit}"

    def _multiplier(self, now: float) -> float:
        clock, decay = self.state.clock, self.state.decay
        if decay is not None:
            x = share_of(clock.done, decay.start, decay.start + decay.length)
            return decay.height * COOL_DOWNS[decay.shape](x, decay.floor / decay.height if decay.height else 0.0)
        schedule = self.schedule if clock.horizon == self.schedule.horizon else replace(self.schedule, horizon=clock.horizon)
        height, reference = self.state.stretch
        return min(1.0, height * (schedule.multiplier(clock.done, now) / reference))

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists: JSON keeps it, and ``torch.load(weights_only=True)`` reads it."""
        return {"version": VERSION, **self._identity(), **plain(self.state)}

    def _identity(self) -> dict[str, str | None]:
        return {"schedule": repr((self.schedule, self.clock)), "decay_when": None if self._when is None else repr(self._when)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take up a saved state.

        Errors: CurriculaError when it is of another version, schedule, trigger or set of controllers.
        """
        if saved.get("version") != VERSION:
            raise CurriculaError(f"learning rate: expected a state of version {VERSION}, got {saved.get('version')!r}")
        for key, ours in self._identity().items():
            if saved.get(key) != ours:  # states from before decays had triggers know no decay_when
                raise CurriculaError(
                    f"learning rate: the state has {key} {saved.get(key)}, this run {ours}; to change the horizon use extend"
                )
        self.state = restored(saved, self._begin())

"""A decay that begins when training says so: the schedule states the latest moment, a trigger may say that it is time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from curricula.types import CurriculaError
from trainer.registry import Registry
from trainer.schedules.progress import units
from trainer.schedules.schedule import Schedule
from trainer.schedules.shapes.wsd import WarmupStableDecay

BY_HAND, AT_THE_LATEST = "by_hand", "at_the_latest"


class Decay(NamedTuple):
    """A decay that has begun, in the clock's units."""

    start: float
    length: float
    height: float  # multiplier when it began
    shape: str
    floor: float  # of the peak
    cause: str = BY_HAND


class Trigger(Protocol):
    """A frozen dataclass of hyper-parameters; its state is a NamedTuple of plain numbers, texts and tuples of them."""

    def begin(self) -> Any:
        """The state before the first update."""
        ...

    def observe(self, state: Any, metrics: Mapping[str, float]) -> Any:
        """The state after these metrics; without one that it reads, the state as it is."""
        ...

    def learning(self, state: Any) -> tuple[str, ...]:
        """What still learns, or was not served yet."""
        ...

    def fires(self, state: Any) -> bool:
        """Whether it is time."""
        ...


TRIGGERS = Registry("trainer.schedules.triggers")
register = TRIGGERS.register


@dataclass(frozen=True)
class DecayWhen:
    """A `wsd` whose cool-down begins when the trigger fires, and at its own time at the latest.

    A decay that time forces while something still learns ends at ``floor_while_learning``, if that is above the schedule's floor;
    from there it goes on once the trigger fires. So the floor is chosen where a decay begins, and the rate never rises. Floor rule
    after CDMA, arXiv 2511.18903, whose end rate is a third of the peak; the trigger is ours.

    Errors: CurriculaError for another schedule, or one without a floor: what follows an early decay is trained at the floor.
    """

    name: str
    trigger: Trigger
    floor_while_learning: float = 0.0

    def check(self, schedule: Schedule) -> None:
        shape = schedule.shape
        if not isinstance(shape, WarmupStableDecay) or shape.shape == "half_life" or shape.floor <= 0:
            raise CurriculaError(
                "schedule.decay_when: expected the schedule wsd with decay (length), shape (not half_life) and a floor above 0, at "
                "which the run goes on after an early decay; for example {name: wsd, peak: 1.0e-6, decay: 0.15, floor: 0.33, "
                "decay_when: {name: progress_stalls}}"
            )
        if not 0 <= self.floor_while_learning <= 1:
            raise CurriculaError(
                f"schedule.decay_when.floor_while_learning: expected a share of the peak in [0, 1], got {self.floor_while_learning}"
            )

    def latest(self, schedule: Schedule, horizon: float) -> float:
        """Where the schedule's own decay begins."""
        return max(horizon - units(_wsd(schedule).decay, horizon), units(schedule.warmup, horizon))

    def begun(
        self, schedule: Schedule, horizon: float, done: float, height: float, going: Decay | None, fires: bool
    ) -> Decay | None:
        """The decay that goes on from here: the one that is going, or a new one; None for the schedule's own way.

        ``height`` is the multiplier of the moment.
        """
        wsd, latest = _wsd(schedule), self.latest(schedule, horizon)
        length = units(wsd.decay, horizon)
        if going is None and done < latest:
            return Decay(done, length, height, wsd.shape, wsd.floor, self.name) if fires else None
        if going is None and not fires and self.floor_while_learning > wsd.floor and horizon > latest:
            return Decay(latest, horizon - latest, 1.0, wsd.shape, self.floor_while_learning, AT_THE_LATEST)
        if going is not None and going.cause == AT_THE_LATEST and fires and done < horizon:
            return Decay(done, min(length, horizon - done), height, wsd.shape, wsd.floor, self.name)
        return going


def _wsd(schedule: Schedule) -> WarmupStableDecay:
    if not isinstance(schedule.shape, WarmupStableDecay):
        raise CurriculaError(f"schedule.decay_when: expected the schedule wsd, got {schedule.shape}")
    return schedule.shape

"""Everything that a learning rate remembers, and its plain form for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from curricula.types import CurriculaError
from trainer.schedules.clock import ClockState
from trainer.schedules.decay import Decay


class Stretch(NamedTuple):
    """What an extension did: the multiplier was ``height`` where the schedule of the new horizon has ``reference``.

    Two numbers and not their ratio, so that the rate of the moment is what it was to the last bit.
    """

    height: float = 1.0
    reference: float = 1.0


@dataclass(frozen=True)
class RateState:
    """Numbers, texts and NamedTuples of them."""

    clock: ClockState
    updates: int = 0
    stretch: Stretch = Stretch()  # since the schedule was extended
    decay: Decay | None = None
    scale: float = 1.0  # of the newest update
    observed: Mapping[str, Any] = field(default_factory=dict)  # states of the controllers, by name
    watched: Any = None  # state of the trigger of a decay, where there is one


def plain(state: RateState) -> dict[str, Any]:
    """Numbers, texts and lists: JSON keeps it, and ``torch.load(weights_only=True)`` reads it."""
    return {
        "clock": list(state.clock),
        "updates": state.updates,
        "stretch": list(state.stretch),
        "decay": None if state.decay is None else list(state.decay),
        "scale": state.scale,
        "controllers": {name: _listed(observed) for name, observed in state.observed.items()},
        "watched": _listed(state.watched),
    }


def restored(saved: Mapping[str, Any], begin: RateState) -> RateState:
    """The state behind a plain form; ``begin`` is one of the same controllers and trigger.

    Errors: CurriculaError when it has other controllers, or was saved by a version whose controllers remember other things.
    """
    if set(saved["controllers"]) != set(begin.observed):
        raise CurriculaError(
            f"learning rate: the state has controllers {sorted(saved['controllers'])}, this run {sorted(begin.observed)}"
        )
    decay, stretch = saved["decay"], saved["stretch"]
    return RateState(
        ClockState(*saved["clock"]),
        saved["updates"],
        Stretch(*stretch) if isinstance(stretch, list | tuple) else Stretch(stretch),  # older states have their ratio
        None if decay is None else Decay(*decay),
        saved["scale"],
        {name: _like(found, saved["controllers"][name], f"controller {name!r}") for name, found in begin.observed.items()},
        None if begin.watched is None else _like(begin.watched, saved["watched"], "the trigger of its decay"),
    )


def _listed(value: Any) -> Any:
    """Tuples as lists, at any depth."""
    return [_listed(one) for one in value] if isinstance(value, tuple | list) else value


def _like(begin: Any, saved: Sequence[Any], of: str) -> Any:
    if len(saved) != len(begin):
        raise CurriculaError(
            f"learning rate: the state of {of} has {len(saved)} numbers, expected {len(begin)} ({', '.join(begin._fields)}); it "
            "was saved by another version"
        )
    return type(begin)(*(tuple(value) if isinstance(value, list) else value for value in saved))

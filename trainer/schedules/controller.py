"""Scales of the learning rate that react to training. They never know the time; the schedule never reads metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from trainer.registry import Registry


class Controller(Protocol):
    """A frozen dataclass of hyper-parameters; its state is a NamedTuple of plain numbers.

    A history in the state is a tuple of numbers, of bounded length; a text ``cause`` in it says which metric holds the rate down.
    Metrics that it cannot do without, and that cost something to make, it names in ``needs``, a tuple of `STATISTIC_OF`'s keys (a
    class variable, or a property where it depends on the settings): a run's learner then makes them.
    """

    def begin(self) -> Any:
        """The state before the first update."""
        ...

    def observe(self, state: Any, metrics: Mapping[str, float]) -> Any:
        """The state after these metrics; what is missing among them, or not a number, leaves the state as it is."""
        ...

    def scale(self, state: Any) -> float:
        """In (0, 1]: a factor on the rate."""
        ...


STATISTIC_OF = {  # metric of a controller: what the learner has to make for it, a word of `trainer.settings.Statistic`
    "part_norm_sq": "gradient_noise",
    "norm_sq": "gradient_noise",
    "part_groups": "gradient_noise",
    "groups": "gradient_noise",
    "group_rollouts": "gradient_noise",
    "kl": "update_kl",
    "update_cosine": "update_cosine",
    "grad_norm_l1": "grad_norm_l1",
}


def statistics_for(controller: Controller) -> frozenset[str]:
    """What a learner has to make for it."""
    return frozenset(STATISTIC_OF[metric] for metric in getattr(controller, "needs", ()))


CONTROLLERS = Registry("trainer.schedules.controllers")
register = CONTROLLERS.register

"""Scales of the learning rate that react to training. They never know the time; the schedule never reads metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar


class Controller(Protocol):
    """A frozen dataclass of hyper-parameters; its state is a NamedTuple of plain numbers.

    A history in the state is a tuple of numbers, of bounded length; a text ``cause`` in it says which metric holds the rate down.
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


CONTROLLERS: dict[str, type[Controller]] = {}
C = TypeVar("C", bound=type[Controller])


def register(name: str) -> Callable[[C], C]:
    """Make a controller known to recipes."""

    def put(controller: C) -> C:
        CONTROLLERS[name] = controller
        return controller

    return put

"""A stand-in for prime-rl's curriculum package: the interfaces, and the sampler that goes round."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any


class TaskSampler(Iterator):
    pass


class AdmissionGate:
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass

    def metrics(self) -> dict[str, float]:
        return {}


class StandardSampler(TaskSampler):
    def __init__(self, tasks: Any) -> None:
        self.tasks = tuple(tasks) if isinstance(tasks, list | tuple) else None
        self._round = cycle(self.tasks or tasks)

    def __next__(self) -> Any:
        return next(self._round)


class Curriculum:
    """One sampler and gates that must all admit a group; both see every finished group."""

    def __init__(self, config: Any, tasks: Any) -> None:
        self.sampler: Any = StandardSampler(tasks)
        self.gates: dict[str, Any] = {}

    def on_result(self, group: list[Any]) -> bool:
        self.sampler.observe(group)
        decisions = [gate.admit(group) for gate in self.gates.values()]
        return all(decisions)

    def state_dict(self) -> dict[str, Any]:
        return {"sampler": self.sampler.state_dict(), "gates": {name: gate.state_dict() for name, gate in self.gates.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state["sampler"])
        for name, gate in self.gates.items():
            gate.load_state_dict(state["gates"][name])

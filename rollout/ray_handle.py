"""An engine in a Ray actor, and the handle that survives its death.

The actor does one call after another. The handle keeps two calls of bounded length with it, so that the engine has the next one at
hand when it finishes the first, and looks for finished calls without waiting. Ray restarts nothing by itself: a restarted engine
has the weights that the run began with, so the fleet restarts it, and gives it the current weights before it gets work.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from curricula.types import CurriculaError
from rollout.engine import Engine
from rollout.local_handle import BUDGET_S, named_tensors
from rollout.outbox import Outbox
from rollout.settings import EngineSettings
from rollout.types import Answer, EngineDied, Request, Ticket, Weights

CALLS_AHEAD = 2  # one at work, one waiting in the actor
LONGEST_REASON = 600  # characters of Ray's account of a death

Build = Callable[[EngineSettings, str, str], Engine]


class EngineActor:
    """One engine in a process of its own. It starts by a call, so that a bad setting is an error and not a dead actor."""

    def __init__(self, build: Build, settings: EngineSettings, model_path: str, name: str) -> None:
        self._build = partial(build, settings, model_path, name)
        self._engine: Engine

    def start(self) -> dict[str, Any]:
        self._engine = self._build()
        node = ray.get_runtime_context().get_node_id()
        return {**self._engine.describe(), "pid": os.getpid(), "node": node}

    def advance(self, requests: Sequence[Request], cancel: Sequence[Ticket], budget_s: float) -> list[Answer]:
        return self._engine.advance(requests, cancel, budget_s)

    def load(self, weights: Weights) -> None:
        self._engine.load_weights(named_tensors(weights.chunks), weights.version)


class RayHandle:
    """An `EngineHandle` around a Ray actor. Every call looks and goes on; none waits for the actor."""

    def __init__(self, settings: EngineSettings, model_path: str, name: str, build: Build | None = None) -> None:
        self.name = name
        self.facts: dict[str, Any] = {}  # what the engine said of itself when it started; pid and node among it
        self._settings = settings
        self._arguments = (build or _build_engine, settings, model_path, name)
        self._actor: Any = None
        self._reset()
        self.revive()

    @property
    def ready(self) -> bool:
        """Has it started, and loaded the weights that were published last? EngineDied when it could not."""
        while self._preparing and _finished(self._preparing[0]):
            self.facts = self._value(self._preparing.popleft()) or self.facts
        return self._actor is not None and not self._preparing

    def send(self, requests: Sequence[Request], cancel: Sequence[Ticket] = ()) -> None:
        self._outbox.put(requests, cancel)
        self._call_ahead()

    def poll(self) -> list[Answer]:
        answers: list[Answer] = []
        if self._calls and _finished(self._calls[0]):
            answers = self._value(self._calls.popleft())
        self._outbox.settle(answers)
        self._call_ahead()
        return answers

    def publish(self, weights: Weights) -> None:
        self._preparing.append(self._actor.load.remote(weights))

    def revive(self) -> None:
        self.close()
        self._actor = ray.remote(EngineActor).options(**_placement(self._settings)).remote(*self._arguments)
        self._preparing.append(self._actor.start.remote())

    def close(self) -> None:
        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor, no_restart=True)
        self._actor = None
        self._reset()

    def _reset(self) -> None:
        self._outbox = Outbox()
        self._calls: deque[Any] = deque()  # advance(), in the order of the actor's work
        self._preparing: deque[Any] = deque()  # start() and load()

    def _call_ahead(self) -> None:
        """Keep the actor supplied: new work goes with the next free call, open work keeps both calls busy."""
        while self._actor is not None and len(self._calls) < CALLS_AHEAD and self._outbox:
            self._calls.append(self._actor.advance.remote(*self._outbox.take(), BUDGET_S))

    def _value(self, call: Any) -> Any:
        """The call's value; CurriculaError as the engine raised it; EngineDied, and the actor gone, for everything else."""
        try:
            return ray.get(call)
        except RayTaskError as error:
            if isinstance(error.cause, CurriculaError):
                raise error.cause from None
            raise self._death(error) from error
        except RayError as error:
            raise self._death(error) from error

    def _death(self, error: RayError) -> EngineDied:
        self.close()
        return EngineDied(f"{self.name}: {_reason(error)}")


def _finished(call: Any) -> bool:
    return bool(ray.wait([call], timeout=0)[0])


def _reason(error: RayError) -> str:
    """The engine's own exception in one line, or Ray's account of what became of the process."""
    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {error.cause}"[:LONGEST_REASON]
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST_REASON]


def _placement(settings: EngineSettings) -> dict[str, Any]:
    """What the actor asks of Ray. Threads follow the CPUs it asked for: Ray counts CPUs and binds none."""
    threads = {"OMP_NUM_THREADS": str(max(1, int(settings.cpus_per_engine)))}
    return {
        "num_cpus": settings.cpus_per_engine,
        "num_gpus": settings.gpus_per_engine,
        "scheduling_strategy": "SPREAD",
        "max_restarts": 0,
        "max_task_retries": 0,
        "runtime_env": {"env_vars": threads | _backend_environment(settings)},
    }


def _backend_environment(settings: EngineSettings) -> dict[str, str]:
    """Variables that a backend reads when it is imported, hence before the actor's first line."""
    if settings.backend != "vllm":
        return {}
    from rollout.engines.vllm_engine import environment

    return environment(settings)


def _build_engine(settings: EngineSettings, model_path: str, name: str) -> Engine:
    from rollout.engines import build_engine

    return build_engine(settings, model_path, name)

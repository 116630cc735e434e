"""The engines of a run: started together, restarted one by one, never at work with weights other than the published ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from curricula.types import CurriculaError
from rollout.engine import EngineHandle
from rollout.local_handle import LocalHandle
from rollout.settings import EngineSettings
from rollout.types import EngineDied, Weights

log = logging.getLogger(__name__)

POLL_S = 0.001
LONGEST_REST_S = 60.0  # before one more start of an engine that keeps dying

Clock = Callable[[], float]


class EnginesLost(RuntimeError):
    """The fleet cannot go on: restarts are used up, or no engine comes back."""


class State(Enum):
    """Where an engine stands on its way to work."""

    RESTING = "resting"  # dead; will be started again after a pause
    STARTING = "starting"
    LOADING = "loading"  # the published weights are on their way
    LIVE = "live"  # has the published weights and may work


@dataclass(eq=False)
class Member:
    """One engine and where it stands. ``life`` counts its deaths: work of an earlier life is work to be done again."""

    handle: EngineHandle
    since: float  # when it came into this state
    state: State = State.STARTING
    life: int = 0
    failures: int = 0  # deaths since it last gave an answer
    weights: Weights | None = None  # the last ones that it was told to load


class Fleet:
    """Engines with one set of published weights. `tend` moves every engine one step towards work and never waits."""

    def __init__(self, handles: Sequence[EngineHandle], settings: EngineSettings, clock: Clock = time.monotonic) -> None:
        self.members = [Member(handle, since=clock()) for handle in handles]
        self._settings = settings
        self.clock = clock
        self._weights: Weights | None = None
        self._started = False  # every engine has been live once
        self._last_live = clock()

    @classmethod
    def start(cls, settings: EngineSettings, model_path: str) -> Fleet:
        """Begin to start the engines; `wait_ready` waits for them."""
        return cls([_handle(settings, model_path, f"engine-{i}") for i in range(settings.n_engines)], settings)

    @property
    def version(self) -> int:
        """Policy version of the published weights; 0 before the first."""
        return 0 if self._weights is None else self._weights.version

    @property
    def restarts(self) -> int:
        return sum(member.life for member in self.members)

    def live(self) -> list[Member]:
        """The engines that may be sent work."""
        return [member for member in self.members if member.state is State.LIVE]

    def wait_ready(self, timeout_s: float) -> None:
        """Return when every engine is live. An engine that cannot start the first time stops the run with its reason.

        Errors: CurriculaError with what the engines need and what the cluster has; EnginesLost with the engine's own error.
        """
        deadline = self.clock() + timeout_s
        while self._tend_each() < len(self.members):
            if self.clock() > deadline:
                raise CurriculaError(f"engines: {self.describe()} after {timeout_s:g} s; {_needs(self._settings)}")
            time.sleep(POLL_S)
        self._started, self._last_live = True, self.clock()

    def publish(self, weights: Weights) -> float:
        """Give the weights to all live engines at once; the seconds until the slowest has them. Others get them when they start."""
        began = self.clock()
        self._weights = self._shared(weights)
        loading = self.live()
        for member in loading:
            self._enter(member, State.LOADING)
        self.tend()
        while any(member.state is State.LOADING for member in loading):
            time.sleep(POLL_S)
            self.tend()
        return self.clock() - began

    def tend(self) -> None:
        """Start what has rested, send weights to what has started, admit what has them.

        Errors: EnginesLost when restarts are used up, or when no engine was live for start_timeout_s.
        """
        if self._tend_each():
            self._last_live = self.clock()
        elif self.clock() - self._last_live > self._settings.start_timeout_s:
            limit_s = self._settings.start_timeout_s
            raise EnginesLost(f"no engine came back in engine.start_timeout_s = {limit_s:g} s: {self.describe()}")

    def bury(self, member: Member, death: EngineDied) -> None:
        """End a dead engine for certain and let it rest; EnginesLost when it may not start again."""
        member.handle.close()
        member.life += 1
        member.failures += 1
        member.weights = None
        self._enter(member, State.RESTING)
        name, limit = member.handle.name, self._settings.max_restarts
        log.warning("engine %s died (restart %d of %d): %s", name, member.life, limit, death)
        if not self._started:
            raise EnginesLost(f"engine {name} did not start: {death}") from death
        if member.life > limit:
            reason = f"engine.max_restarts = {limit} are used up; the last reason: {death}"
            raise EnginesLost(f"engine {name} died {member.life} times, {reason}") from death

    def describe(self) -> str:
        """How many engines are live, and where the others stand."""
        others = [f"{member.handle.name} is {member.state.value}" for member in self.members if member.state is not State.LIVE]
        return ", ".join([f"{len(self.live())} of {len(self.members)} are live", *others])

    def close(self) -> None:
        for member in self.members:
            member.handle.close()

    def _tend_each(self) -> int:
        """Move every engine a step forward; how many are live then."""
        for member in self.members:
            try:
                if member.state is not State.LIVE:
                    self._forward(member)
            except EngineDied as death:
                self.bury(member, death)
        return len(self.live())

    def _forward(self, member: Member) -> None:
        """One engine, one step of its life: resting, starting, loading, live."""
        in_state_s = self.clock() - member.since
        if member.state is State.RESTING:
            if in_state_s >= min(2.0 ** (member.failures - 1) - 1.0, LONGEST_REST_S):
                member.handle.revive()
                self._enter(member, State.STARTING)
        elif member.handle.ready:
            if self._weights is None or member.weights is self._weights:
                self._enter(member, State.LIVE)
            else:
                member.handle.publish(self._weights)
                member.weights = self._weights
                self._enter(member, State.LOADING)
        elif in_state_s > self._settings.start_timeout_s:
            self._overdue(member)

    def _overdue(self, member: Member) -> None:
        """Loading so long is a death. Starting so long may be a wait for a machine, which uses up no restart."""
        if member.state is State.LOADING:
            raise EngineDied(f"{member.handle.name}: weights did not arrive in {self._settings.start_timeout_s:g} s")
        log.warning("engine %s has not started in %g s; asking again", member.handle.name, self._settings.start_timeout_s)
        member.handle.revive()
        self._enter(member, State.STARTING)

    def _enter(self, member: Member, state: State) -> None:
        member.state, member.since = state, self.clock()

    def _shared(self, weights: Weights) -> Weights:
        """With remote engines, chunks in Ray's object store: written once, read by every engine, there for a restart."""
        if self._settings.placement == "driver":
            return weights
        import ray

        return Weights(weights.version, [ray.put(chunk) if isinstance(chunk, dict) else chunk for chunk in weights.chunks])


def _handle(settings: EngineSettings, model_path: str, name: str) -> EngineHandle:
    if settings.placement == "ray":
        from rollout.ray_handle import RayHandle

        return RayHandle(settings, model_path, name)
    from rollout.engines import build_engine

    return LocalHandle(lambda: build_engine(settings, model_path, name), name)


def _needs(settings: EngineSettings) -> str:
    """What the engines ask for, what Ray has, what is missing, and what to do."""
    if settings.placement == "driver":
        return "the engine runs inside this process"
    import ray

    asked = {"CPU": settings.cpus_per_engine * settings.n_engines, "GPU": settings.gpus_per_engine * settings.n_engines}
    total = _of(asked, ray.cluster_resources())  # type: ignore[no-untyped-call]
    free = _of(asked, ray.available_resources())  # type: ignore[no-untyped-call]
    missing = {name: amount - total[name] for name, amount in asked.items() if amount > total[name]}
    verdict = f"{_amounts(missing)} missing" if missing else "enough in total, but not on one machine, or the start is slow"
    return (
        f"together they ask for {_amounts(asked)}; Ray has {_amounts(total)}, free {_amounts(free)}: {verdict}; lower "
        "engine.n_engines, engine.cpus_per_engine or engine.gpus_per_engine, add machines, or raise engine.start_timeout_s"
    )


def _of(names: Iterable[str], resources: dict[str, float]) -> dict[str, float]:
    return {name: resources.get(name, 0.0) for name in names}


def _amounts(resources: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items())

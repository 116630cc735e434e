"""An engine inside this process: no cluster, no copies; it works while it is polled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rollout.engine import Engine
from rollout.outbox import Outbox
from rollout.types import Answer, Request, Ticket, Weights

BUDGET_S = 0.05  # of one poll: new requests and cancellations enter at least so often


class LocalHandle:
    """An `EngineHandle` around an engine of this process. Its errors are this process's errors, so they are not caught."""

    def __init__(self, engine_factory: Callable[[], Engine], name: str) -> None:
        self.name = name
        self._factory = engine_factory
        self._outbox = Outbox()
        self._engine: Engine | None = engine_factory()

    @property
    def ready(self) -> bool:
        return self._engine is not None

    @property
    def facts(self) -> dict[str, Any]:
        return {} if self._engine is None else self._engine.describe()

    def send(self, requests: Sequence[Request], cancel: Sequence[Ticket] = ()) -> None:
        self._outbox.put(requests, cancel)

    def poll(self) -> list[Answer]:
        if self._engine is None or not self._outbox:
            return []
        answers = self._engine.advance(*self._outbox.take(), BUDGET_S)
        self._outbox.settle(answers)
        return answers

    def publish(self, weights: Weights) -> None:
        if self._engine is not None:
            self._engine.load_weights(named_tensors(weights.chunks), weights.version)

    def revive(self) -> None:
        self.close()
        self._engine = self._factory()

    def close(self) -> None:
        self._engine, self._outbox = None, Outbox()


def named_tensors(chunks: Sequence[Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Name and array of every tensor; a chunk is fetched when the one before it has been read."""
    for chunk in chunks:
        yield from _fetched(chunk).items()


def _fetched(chunk: Any) -> dict[str, np.ndarray]:
    if isinstance(chunk, dict):
        return chunk
    import ray

    tensors: dict[str, np.ndarray] = ray.get(chunk)
    return tensors

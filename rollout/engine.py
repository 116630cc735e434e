"""The one seam between everything above and whatever produces completions.

An `Engine` lives in one process and is driven by `advance`: it takes new requests, works for a bounded time and returns what has
finished. The same class runs inside the driver (`rollout.local_handle`) or inside a Ray actor (`rollout.ray_handle`); above them
only the `EngineHandle` is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from rollout.types import Answer, Request, Ticket, Weights


class Engine(Protocol):
    """Produces completions in this process."""

    def advance(self, requests: Sequence[Request], cancel: Sequence[Ticket], budget_s: float) -> list[Answer]:
        """Take requests, drop cancelled tickets, work until something finished or ``budget_s`` is over; may return [].

        With nothing to do it returns at once.
        Errors: CurriculaError for a request that it cannot serve; anything else is its death.
        """
        ...

    def load_weights(self, tensors: Iterable[tuple[str, np.ndarray]], version: int) -> None:
        """Replace the weights (Hugging Face names); cached prefixes of the old weights are dropped."""
        ...

    def describe(self) -> dict[str, Any]:
        """Facts for logs: name, pid, device, versions."""
        ...


class EngineHandle(Protocol):
    """An engine as the dispatcher sees it. No call waits; `ready` and `poll` raise EngineDied when the engine is gone."""

    name: str

    @property
    def ready(self) -> bool:
        """Has it started, and loaded the weights that were published last? A handle may be sent work only when it is."""
        ...

    def send(self, requests: Sequence[Request], cancel: Sequence[Ticket] = ()) -> None:
        """Queue work; returns at once."""
        ...

    def poll(self) -> list[Answer]:
        """What has finished since the last poll; returns at once for a remote engine, works for a moment for a local one."""
        ...

    def publish(self, weights: Weights) -> None:
        """Begin to load the weights; `ready` tells when requests will see them. A local engine has them on return."""
        ...

    def revive(self) -> None:
        """Start again after a death; returns at once, `ready` tells when it is up (without the published weights)."""
        ...

    def close(self) -> None:
        """End the engine and forget its work; `revive` starts another."""
        ...

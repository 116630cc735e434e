"""A real engine object without a model, slow enough to be killed at work; actors import it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from curricula.types import CurriculaError
from rollout.settings import EngineSettings
from rollout.types import Answer, Completion, FinishReason, Request, Ticket

POISON = 13  # a prompt that breaks the engine
TOO_LONG = 14  # a prompt that it refuses


class SlowEngine:
    """Works on everything it holds at once; a request takes ``options["steps"]`` steps of ten milliseconds.

    Each completion's token is the policy version and its log-probability is the sum of the loaded tensors: answers tell which
    weights drew them.
    """

    def __init__(self, settings: EngineSettings, model_path: str, name: str) -> None:
        if model_path == "missing":
            raise CurriculaError("model.path: 'missing' is not there")
        if model_path == "broken":
            raise OSError("cannot read the model")
        self._steps = int(settings.options.get("steps", 5))
        self._name = name
        self._left: dict[Ticket, int] = {}
        self._requests: dict[Ticket, Request] = {}
        self._version, self._w = 0, 0.0

    def advance(self, requests: Sequence[Request], cancel: Sequence[Ticket], budget_s: float) -> list[Answer]:
        for request in requests:
            self._take(request)
        for ticket in cancel:
            self._left.pop(ticket, None)
        deadline = time.monotonic() + budget_s
        while self._left and time.monotonic() < deadline:
            if done := self._step():
                return [self._answer(ticket) for ticket in done]
        return []

    def load_weights(self, tensors: Iterable[tuple[str, np.ndarray]], version: int) -> None:
        self._w = float(sum(tensor.sum() for _, tensor in tensors))
        self._version = version

    def describe(self) -> dict[str, Any]:
        return {"name": self._name, "threads": os.environ.get("OMP_NUM_THREADS")}

    def _take(self, request: Request) -> None:
        if POISON in request.prompt_ids:
            raise RuntimeError("device-side assert")
        if TOO_LONG in request.prompt_ids:
            raise CurriculaError("the prompt is longer than the window")
        self._left[request.ticket], self._requests[request.ticket] = self._steps, request

    def _step(self) -> list[Ticket]:
        time.sleep(0.01)
        self._left = {ticket: n - 1 for ticket, n in self._left.items()}
        done = [ticket for ticket, n in self._left.items() if n <= 0]
        self._left = {ticket: n for ticket, n in self._left.items() if n > 0}
        return done

    def _answer(self, ticket: Ticket) -> Answer:
        drawn = Completion(np.array([self._version], np.int32), np.array([self._w], np.float32), "", FinishReason.STOP)
        return Answer(ticket, [drawn] * self._requests[ticket].n, self._version, self._name, 0.0)

"""What an engine's handle has been asked for and has not yet passed on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rollout.types import Answer, Request, Ticket


class Outbox:
    """Requests and cancellations on their way to one engine, and the tickets that it owes an answer."""

    def __init__(self) -> None:
        self._requests: dict[Ticket, Request] = {}
        self._cancel: list[Ticket] = []
        self._open: set[Ticket] = set()

    def __bool__(self) -> bool:
        """Is there a reason to call the engine?"""
        return bool(self._open or self._cancel)

    def put(self, requests: Sequence[Request], cancel: Sequence[Ticket]) -> None:
        """A cancelled request that has not left goes nowhere; of one that has left, the engine is told."""
        for ticket in cancel:
            self._open.discard(ticket)
            if self._requests.pop(ticket, None) is None:
                self._cancel.append(ticket)
        for request in requests:
            self._requests[request.ticket] = request
            self._open.add(request.ticket)

    def take(self) -> tuple[list[Request], list[Ticket]]:
        """Everything that the next call to the engine carries."""
        requests, cancel = list(self._requests.values()), self._cancel
        self._requests, self._cancel = {}, []
        return requests, cancel

    def settle(self, answers: Iterable[Answer]) -> None:
        self._open.difference_update(answer.ticket for answer in answers)

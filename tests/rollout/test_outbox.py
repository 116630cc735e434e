from __future__ import annotations

from rollout.outbox import Outbox
from rollout.types import Answer, Request, Sampling, Ticket


def request(group: int) -> Request:
    return Request(Ticket(group), (1,), 2, Sampling(), seed=0)


def test_requests_leave_once() -> None:
    outbox, asked = Outbox(), [request(1), request(2)]
    outbox.put(asked, [])
    assert outbox.take() == (asked, [])
    assert outbox.take() == ([], [])


def test_a_request_cancelled_before_it_left_goes_nowhere() -> None:
    outbox, stays = Outbox(), request(2)
    outbox.put([request(1), stays], [])
    outbox.put([], [Ticket(1)])
    assert outbox.take() == ([stays], [])


def test_of_a_request_cancelled_later_the_engine_is_told() -> None:
    outbox = Outbox()
    outbox.put([request(1)], [])
    outbox.take()
    outbox.put([], [Ticket(1)])
    assert outbox
    assert outbox.take() == ([], [Ticket(1)])
    assert not outbox


def test_the_engine_is_called_while_it_owes_an_answer() -> None:
    outbox = Outbox()
    assert not outbox
    outbox.put([request(1)], [])
    outbox.take()
    assert outbox
    outbox.settle([Answer(Ticket(1), [], 0, "engine-0", 0.0)])
    assert not outbox

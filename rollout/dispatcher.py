"""From requests to answers: keeps the engines full, re-issues what dies with them, answers every ticket once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from curricula.types import CurriculaError
from rollout.fleet import POLL_S, EnginesLost, Fleet, Member
from rollout.settings import EngineSettings
from rollout.types import Answer, EngineDied, Request, Ticket

LONGEST_GAP_S = 1.0  # between two looks at an engine; longer means that the driver was busy, not that the engine was silent


@dataclass
class Counts:
    """Tickets since the dispatcher was made. At every moment: issued = answered + cancelled + open."""

    issued: int = 0
    answered: int = 0  # handed to the caller
    cancelled: int = 0
    reissued: int = 0  # taken back from a dead engine
    dropped: int = 0  # answers that nobody waits for: of cancelled tickets, or a second answer


@dataclass(eq=False)
class Bench:
    """What one engine is working on."""

    life: int  # of the engine when the work was sent
    requests: dict[Ticket, Request] = field(default_factory=dict)
    n_rollouts: int = 0
    silent_s: float = 0.0  # time that it had work, was watched, and answered nothing

    def put(self, request: Request) -> None:
        if not self.requests:
            self.silent_s = 0.0
        self.requests[request.ticket] = request
        self.n_rollouts += request.n

    def take(self, ticket: Ticket) -> Request | None:
        request = self.requests.pop(ticket, None)
        self.n_rollouts -= request.n if request else 0
        return request


class Dispatcher:
    """Requests wait in one line, work on an engine's bench, and rest as answers until the caller takes them.

    An open ticket is in exactly one of these places. Waiting requests go, oldest first, to the engine with the least work.
    """

    def __init__(self, fleet: Fleet, settings: EngineSettings) -> None:
        self.counts = Counts()
        self._fleet = fleet
        self._settings = settings
        self._waiting: deque[Request] = deque()
        self._benches = {member: Bench(member.life) for member in fleet.members}
        self._answers: deque[Answer] = deque()
        self._looked_at = fleet.clock()

    @property
    def open(self) -> int:
        """Tickets that have been submitted and neither handed out as answers nor cancelled."""
        return len(self._waiting) + sum(len(bench.requests) for bench in self._benches.values()) + len(self._answers)

    def submit(self, requests: Sequence[Request]) -> None:
        """Queue requests. Errors: CurriculaError for a ticket that is open already."""
        known = set(self._open_tickets())
        for request in requests:
            if request.ticket in known:
                raise CurriculaError(f"dispatcher: {request.ticket} is open already; give every request a ticket of its own")
            known.add(request.ticket)
        self._waiting.extend(requests)
        self.counts.issued += len(requests)

    def cancel(self, groups: Iterable[int]) -> None:
        """Forget the open tickets of these groups, answered or not; they are not answered, and must not be submitted again."""
        unwanted, before = set(groups), self.open
        self._waiting = deque(request for request in self._waiting if request.ticket.group not in unwanted)
        self._answers = deque(answer for answer in self._answers if answer.ticket.group not in unwanted)
        for member, bench in self._benches.items():
            tickets = [ticket for ticket in bench.requests if ticket.group in unwanted]
            for ticket in tickets:
                bench.take(ticket)
            if tickets and bench.life == member.life:
                member.handle.send((), cancel=tickets)
        self.counts.cancelled += before - self.open

    def stream(self, meanwhile: Callable[[], None] | None = None) -> Iterator[Answer]:
        """Every open ticket's answer, as it finishes, until nothing is open; requests may be added and cancelled meanwhile.

        ``meanwhile`` is called after every look at the engines and may add requests, also when no answer comes.
        Errors: CurriculaError from an engine that refuses a request; EnginesLost, with the state of all tickets.
        """
        self._looked_at = self._fleet.clock()
        while self.open:
            if self._answers:
                self.counts.answered += 1
                yield self._answers.popleft()
            else:
                self._pump()
                if meanwhile is not None:
                    meanwhile()

    def describe(self) -> str:
        """Where the open tickets are."""
        places = [f"{len(bench.requests)} in {member.handle.name}" for member, bench in self._benches.items()]
        tickets = ", ".join(f"{ticket.group}/{ticket.round}/{ticket.part}" for ticket in sorted(self._open_tickets())[:5])
        waiting = ", ".join([f"{len(self._waiting)} waiting", *places])
        return f"{self.open} tickets are open ({waiting}; first group/round/part: {tickets}); {self.counts}"

    def _pump(self) -> None:
        """One look at everything; a look that finds nothing lasts POLL_S at least."""
        began = time.monotonic()
        try:
            self._fleet.tend()
            self._take_back()
            self._issue()
            for member in self._fleet.live():
                self._collect(member)
            self._watch()
        except EnginesLost as lost:
            raise EnginesLost(f"{lost}; {self.describe()}") from lost
        if not self._answers:
            time.sleep(max(0.0, POLL_S - (time.monotonic() - began)))

    def _take_back(self) -> None:
        """Requests of engines that died since go to the head of the line, in their order."""
        for member, bench in self._benches.items():
            if bench.life != member.life:
                self._waiting.extendleft(reversed(bench.requests.values()))
                self.counts.reissued += len(bench.requests)
                self._benches[member] = Bench(member.life)

    def _issue(self) -> None:
        """Send waiting requests while an engine has room."""
        batches: dict[Member, list[Request]] = {}
        live = self._fleet.live()
        while self._waiting and live:
            member = min(live, key=lambda one: self._benches[one].n_rollouts)
            if not self._has_room(self._benches[member], self._waiting[0]):
                break
            request = self._waiting.popleft()
            self._benches[member].put(request)
            batches.setdefault(member, []).append(request)
        for member, batch in batches.items():
            member.handle.send(batch)

    def _has_room(self, bench: Bench, request: Request) -> bool:
        return not bench.requests or bench.n_rollouts + request.n <= self._settings.max_concurrent_rollouts

    def _collect(self, member: Member) -> None:
        try:
            answers = member.handle.poll()
        except EngineDied as death:
            self._fleet.bury(member, death)
            return
        bench = self._benches[member]
        for answer in answers:
            member.failures, bench.silent_s = 0, 0.0
            if bench.take(answer.ticket) is None:
                self.counts.dropped += 1
            else:
                self._answers.append(answer)

    def _watch(self) -> None:
        """An engine that had work and was silent for too long counts as dead."""
        now = self._fleet.clock()
        elapsed, self._looked_at = min(now - self._looked_at, LONGEST_GAP_S), now
        for member in self._fleet.live():
            bench = self._benches[member]
            bench.silent_s += elapsed if bench.requests else 0.0
            if bench.silent_s > self._settings.answer_timeout_s:
                silence = f"no answer in engine.answer_timeout_s = {self._settings.answer_timeout_s:g} s"
                self._fleet.bury(member, EngineDied(f"{silence} with {len(bench.requests)} tickets open"))

    def _open_tickets(self) -> Iterator[Ticket]:
        yield from (request.ticket for request in self._waiting)
        for bench in self._benches.values():
            yield from bench.requests
        yield from (answer.ticket for answer in self._answers)

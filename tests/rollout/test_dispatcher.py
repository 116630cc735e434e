"""The dispatcher and the fleet against scripted engines: nothing lost, nothing twice, whatever dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from curricula.types import CurriculaError
from rollout.dispatcher import Dispatcher
from rollout.fleet import EnginesLost, Fleet, State
from rollout.local_handle import LocalHandle
from rollout.settings import EngineSettings
from rollout.types import Answer, Completion, EngineDied, FinishReason, Request, Sampling, Ticket, Weights

LOCAL = EngineSettings(placement="driver", max_concurrent_rollouts=16, max_restarts=1000)
ONE_TOKEN = Completion(np.array([7], np.int32), np.array([-1.0], np.float32), "7", FinishReason.STOP)


class FakeClock:
    """Every look at it lets half a second pass, so pauses and timeouts need no waiting."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


class ScriptedHandle:
    """An engine that decides at every poll, by a seeded generator, whether to die, to answer, or to answer twice."""

    def __init__(self, name: str, seed: int = 0, p_death: float = 0.0, p_twice: float = 0.0) -> None:
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.p_death, self.p_twice = p_death, p_twice
        self.version = 0  # of the weights it has; a new process has 0
        self.alive = True
        self.work: dict[Ticket, Request] = {}
        self.seen: list[tuple[Ticket, int, int]] = []  # (ticket, seed, version) of all work it took
        self.most_in_flight = 0
        self.n_deaths = 0
        self.n_loads = 0

    @property
    def ready(self) -> bool:
        return self.alive

    def send(self, requests: Sequence[Request], cancel: Sequence[Ticket] = ()) -> None:
        for request in requests:
            self.work[request.ticket] = request
            self.seen.append((request.ticket, request.seed, self.version))
        for ticket in cancel:
            self.work.pop(ticket, None)
        self.most_in_flight = max(self.most_in_flight, sum(request.n for request in self.work.values()))

    def poll(self) -> list[Answer]:
        if self.work and self.rng.random() < self.p_death:
            self.die()
            raise EngineDied(f"{self.name}: scripted")
        n = int(self.rng.integers(0, 4))
        tickets = [list(self.work)[i] for i in self.rng.permutation(len(self.work))[:n]]
        answers = [self.answer(self.work.pop(ticket)) for ticket in tickets]
        return answers + [answer for answer in answers if self.rng.random() < self.p_twice]

    def answer(self, request: Request) -> Answer:
        return Answer(request.ticket, [ONE_TOKEN] * request.n, self.version, self.name, 0.0)

    def publish(self, weights: Weights) -> None:
        self.version, self.n_loads = weights.version, self.n_loads + 1

    def die(self) -> None:
        self.alive, self.work, self.version, self.n_deaths = False, {}, 0, self.n_deaths + 1

    def revive(self) -> None:
        self.alive = True

    def close(self) -> None:
        self.alive, self.work, self.version = False, {}, 0


class SilentHandle(ScriptedHandle):
    """Takes work and never answers, until it has been started anew."""

    revived = False
    n_closes = 0

    def close(self) -> None:
        super().close()
        self.n_closes += 1

    def poll(self) -> list[Answer]:
        return super().poll() if self.revived else []

    def revive(self) -> None:
        self.alive = self.revived = True


class SlowHandle(ScriptedHandle):
    """Answers one request in every fifteen polls."""

    n_polls = 0

    def poll(self) -> list[Answer]:
        self.n_polls += 1
        return [self.answer(self.work.pop(min(self.work)))] if self.work and self.n_polls % 15 == 0 else []


class RefusingHandle(ScriptedHandle):
    def poll(self) -> list[Answer]:
        raise CurriculaError("the prompt is longer than the window")


def requests(n: int, n_rollouts: int = 2, first: int = 0) -> list[Request]:
    return [Request(Ticket(first + i), (1, 2), n_rollouts, Sampling(), seed=1000 + first + i) for i in range(n)]


def dispatch(handles: Sequence[ScriptedHandle], settings: EngineSettings = LOCAL) -> Dispatcher:
    fleet = Fleet(handles, settings, FakeClock())
    fleet.wait_ready(100.0)
    return Dispatcher(fleet, settings)


def balanced(dispatcher: Dispatcher) -> bool:
    counts = dispatcher.counts
    return counts.issued == counts.answered + counts.cancelled + dispatcher.open


def watched(dispatcher: Dispatcher) -> Iterator[Answer]:
    """The stream, with the invariant checked before and after every answer."""
    assert balanced(dispatcher)
    for answer in dispatcher.stream():
        assert balanced(dispatcher)
        yield answer
    assert balanced(dispatcher)


def test_every_ticket_is_answered_once_in_whatever_order_engines_finish() -> None:
    dispatcher = dispatch([ScriptedHandle("a", 1), ScriptedHandle("b", 2), ScriptedHandle("c", 3)])
    dispatcher.submit(requests(60))
    answers = list(watched(dispatcher))
    assert Counter(answer.ticket for answer in answers) == Counter(Ticket(i) for i in range(60))
    assert [answer.ticket for answer in answers] != [Ticket(i) for i in range(60)]  # as they finish, not as they were asked
    assert {answer.engine for answer in answers} == {"a", "b", "c"}
    assert dispatcher.open == 0


def test_engines_are_kept_within_their_share_and_take_the_oldest_first() -> None:
    handles = [ScriptedHandle("a", 1), ScriptedHandle("b", 2)]
    dispatcher = dispatch(handles)
    dispatcher.submit(requests(40, n_rollouts=4))
    assert len(list(watched(dispatcher))) == 40
    for handle in handles:
        assert handle.most_in_flight == 16
        taken = [ticket for ticket, _, _ in handle.seen]
        assert taken == sorted(taken)


def test_a_request_larger_than_an_engine_is_not_stuck() -> None:
    dispatcher = dispatch([ScriptedHandle("a", 1)])
    dispatcher.submit(requests(2, n_rollouts=50))
    assert [len(answer.completions) for answer in watched(dispatcher)] == [50, 50]


@pytest.mark.parametrize("seed", range(200))
def test_deaths_at_random_points_lose_nothing_and_count_nothing_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    handles = [ScriptedHandle(f"engine-{i}", 10 * seed + i, p_death=0.15, p_twice=0.3) for i in range(rng.integers(1, 4))]
    dispatcher = dispatch(handles)
    n = int(rng.integers(20, 60))
    dispatcher.submit(requests(n, n_rollouts=int(rng.integers(1, 9))))
    answers = list(watched(dispatcher))
    assert Counter(answer.ticket for answer in answers) == Counter(Ticket(i) for i in range(n))
    seeds = {(ticket, seed) for handle in handles for ticket, seed, _ in handle.seen}
    assert seeds == {(Ticket(i), 1000 + i) for i in range(n)}  # issued again with the seed it had
    n_issues = sum(len(handle.seen) for handle in handles)
    assert n_issues == n + dispatcher.counts.reissued


def test_the_random_points_above_include_deaths_and_double_answers() -> None:
    handles = [ScriptedHandle("a", 0, p_death=0.15, p_twice=0.3), ScriptedHandle("b", 1, p_death=0.15, p_twice=0.3)]
    dispatcher = dispatch(handles)
    dispatcher.submit(requests(60))
    list(watched(dispatcher))
    assert sum(handle.n_deaths for handle in handles) == dispatcher._fleet.restarts > 0
    assert dispatcher.counts.reissued > 0
    assert dispatcher.counts.dropped > 0


@pytest.mark.parametrize("seed", range(30))
def test_cancelled_groups_are_not_answered(seed: int) -> None:
    dispatcher = dispatch([ScriptedHandle("a", seed, p_death=0.05, p_twice=0.3), ScriptedHandle("b", seed + 100, p_death=0.05)])
    dispatcher.submit(requests(40))
    rng, cancelled, answered = np.random.default_rng(seed), set(), []
    for answer in watched(dispatcher):
        assert answer.ticket.group not in cancelled
        answered.append(answer.ticket.group)
        if rng.random() < 0.2:
            unwanted = {int(group) for group in rng.integers(0, 40, 3)} - set(answered)
            dispatcher.cancel(unwanted)
            cancelled |= unwanted
    assert cancelled
    assert sorted(answered + list(cancelled)) == list(range(40))
    assert dispatcher.counts.cancelled == len(cancelled)


def test_cancelled_work_leaves_the_engine() -> None:
    handle = ScriptedHandle("a", 1)
    dispatcher = dispatch([handle])
    dispatcher.submit(requests(8))
    stream = dispatcher.stream()
    first = next(stream).ticket.group
    dispatcher.cancel(set(range(8)) - {first})
    assert dispatcher.open == 0
    assert not handle.work
    assert list(stream) == []


def test_requests_may_be_added_while_answers_stream() -> None:
    dispatcher = dispatch([ScriptedHandle("a", 1, p_death=0.1), ScriptedHandle("b", 2)])
    dispatcher.submit(requests(10))
    answered = []
    for answer in watched(dispatcher):
        answered.append(answer.ticket.group)
        if len(answered) == 5:
            dispatcher.submit(requests(10, first=10))
    assert sorted(answered) == list(range(20))


def test_a_stream_left_early_goes_on_where_it_was() -> None:
    dispatcher = dispatch([ScriptedHandle("a", 1)])
    dispatcher.submit(requests(20))
    answered = []
    while dispatcher.open:
        for answer in watched(dispatcher):
            answered.append(answer.ticket.group)
            break
    assert sorted(answered) == list(range(20))


def test_an_open_ticket_cannot_be_submitted_again() -> None:
    dispatcher = dispatch([ScriptedHandle("a", 1)])
    dispatcher.submit(requests(3))
    with pytest.raises(CurriculaError, match=r"group=2.* is open already"):
        dispatcher.submit(requests(1, first=2))
    assert balanced(dispatcher)


def test_a_silent_engine_is_ended_and_its_work_done_elsewhere() -> None:
    silent, other = SilentHandle("silent", 1), ScriptedHandle("other", 2)
    dispatcher = dispatch([silent, other], EngineSettings(placement="driver", answer_timeout_s=20.0))
    dispatcher.submit(requests(30))
    assert sorted(answer.ticket.group for answer in watched(dispatcher)) == list(range(30))
    assert silent.revived
    assert silent.n_closes == 1  # it may hold a GPU
    assert dispatcher.counts.reissued > 0


def test_a_single_silent_engine_is_restarted_and_does_its_own_work_again() -> None:
    silent = SilentHandle("silent", 1)
    dispatcher = dispatch([silent], EngineSettings(placement="driver", answer_timeout_s=5.0))
    dispatcher.submit(requests(5))
    assert sorted(answer.ticket.group for answer in watched(dispatcher)) == list(range(5))
    assert silent.revived
    assert dispatcher.counts.reissued == 5


def test_a_slow_engine_is_not_a_silent_one() -> None:
    slow = SlowHandle("slow", 1)
    dispatcher = dispatch([slow], EngineSettings(placement="driver", answer_timeout_s=20.0))
    dispatcher._fleet.members[0].failures = 3  # of an earlier hour: an answer forgives them
    dispatcher.submit(requests(10))
    assert len(list(watched(dispatcher))) == 10
    assert slow.n_polls >= 150
    assert dispatcher._fleet.restarts == 0
    assert dispatcher._fleet.members[0].failures == 0


def test_time_that_the_driver_spends_elsewhere_is_not_silence() -> None:
    clock, handle = FakeClock(), ScriptedHandle("a", 1)
    settings = EngineSettings(placement="driver", answer_timeout_s=30.0)
    fleet = Fleet([handle], settings, clock)
    fleet.wait_ready(100.0)
    dispatcher = Dispatcher(fleet, settings)
    dispatcher.submit(requests(30))
    for _ in dispatcher.stream():
        clock.now += 1000.0  # a learner's step
    assert fleet.restarts == 0


def test_spent_restarts_end_the_run_with_the_state_of_all_tickets() -> None:
    dispatcher = dispatch([ScriptedHandle("a", 1, p_death=1.0)], EngineSettings(placement="driver", max_restarts=3))
    dispatcher.submit(requests(5))
    with pytest.raises(EnginesLost) as caught:
        list(dispatcher.stream())
    message = str(caught.value)
    assert "engine a died 4 times, engine.max_restarts = 3 are used up; the last reason: a: scripted" in message
    assert "5 tickets are open" in message
    assert "0/0/0, 1/0/0" in message
    assert balanced(dispatcher)


def test_an_engine_that_never_comes_back_ends_the_run() -> None:
    class Gone(ScriptedHandle):
        def revive(self) -> None:
            self.alive = False

    dispatcher = dispatch([Gone("a", 1, p_death=1.0)], EngineSettings(placement="driver", start_timeout_s=60.0))
    dispatcher.submit(requests(2))
    with pytest.raises(EnginesLost, match=r"no engine came back in engine.start_timeout_s = 60 s: 0 of 1 are live, a is starting"):
        list(dispatcher.stream())


def test_one_engine_that_never_comes_back_does_not_end_the_run() -> None:
    class Gone(ScriptedHandle):
        def revive(self) -> None:
            self.alive = False

    settings = EngineSettings(placement="driver", start_timeout_s=5.0, max_restarts=1)
    dispatcher = dispatch([Gone("a", 1, p_death=1.0), ScriptedHandle("b", 2)], settings)
    dispatcher.submit(requests(200))
    assert len(list(watched(dispatcher))) == 200


def test_an_engine_that_dies_at_its_first_start_stops_the_run_with_its_reason() -> None:
    class Broken(ScriptedHandle):
        @property
        def ready(self) -> bool:
            raise EngineDied("OSError: no such model")

    with pytest.raises(EnginesLost, match="engine a did not start: OSError: no such model"):
        Fleet([Broken("a")], LOCAL, FakeClock()).wait_ready(10.0)


def test_engines_that_do_not_start_in_time_are_named() -> None:
    late = ScriptedHandle("late")
    late.alive = False
    with pytest.raises(CurriculaError, match="1 of 2 are live, late is starting after 10 s"):
        Fleet([ScriptedHandle("a"), late], LOCAL, FakeClock()).wait_ready(10.0)


@pytest.mark.parametrize("seed", range(30))
def test_no_engine_works_with_weights_that_are_not_current(seed: int) -> None:
    handles = [ScriptedHandle(f"engine-{i}", 7 * seed + i, p_death=0.2) for i in range(3)]
    dispatcher = dispatch(handles)
    for version in range(1, 5):
        before = [len(handle.seen) for handle in handles]
        dispatcher._fleet.publish(Weights(version))
        dispatcher.submit(requests(20, first=100 * version))
        assert {answer.policy_version for answer in watched(dispatcher)} == {version}
        assert {work[2] for handle, n in zip(handles, before, strict=True) for work in handle.seen[n:]} == {version}
    assert dispatcher._fleet.version == 4
    assert dispatcher._fleet.restarts > 0


def test_work_in_flight_survives_an_engine_that_dies_while_it_loads() -> None:
    class DiesLoading(ScriptedHandle):
        def publish(self, weights: Weights) -> None:
            super().publish(weights)
            if self.n_loads == 1:
                self.die()
                raise EngineDied("out of memory")

    dispatcher = dispatch([DiesLoading("a", 1), ScriptedHandle("b", 2)])
    dispatcher.submit(requests(30))
    stream = watched(dispatcher)
    answered = [next(stream).ticket.group]
    dispatcher._fleet.publish(Weights(1))
    answered += [answer.ticket.group for answer in stream]
    assert sorted(answered) == list(range(30))
    assert dispatcher._fleet.restarts == 1
    assert all(member.state is State.LIVE for member in dispatcher._fleet.members)


def test_an_engine_that_keeps_dying_rests_longer_each_time() -> None:
    clock, handle = FakeClock(), ScriptedHandle("a")
    fleet = Fleet([handle], LOCAL, clock)
    fleet.wait_ready(10.0)
    rests = []
    for _ in range(8):
        fleet.bury(fleet.members[0], EngineDied("again"))
        began = clock.now
        while fleet.members[0].state is not State.LIVE:
            fleet._tend_each()
        rests.append(clock.now - began)
    assert rests == sorted(rests)
    assert rests[0] < 4.0
    assert 31.0 < rests[5] < 36.0
    assert 60.0 < rests[7] < 65.0


def test_a_refused_request_reaches_the_caller() -> None:
    dispatcher = dispatch([RefusingHandle("a", 1)])
    dispatcher.submit(requests(1))
    with pytest.raises(CurriculaError, match="longer than the window"):
        list(dispatcher.stream())
    assert dispatcher._fleet.restarts == 0


class CountingEngine:
    """An engine that needs a fixed number of calls per request."""

    def __init__(self, n_calls: int = 3) -> None:
        self.left: dict[Ticket, tuple[int, Request]] = {}
        self.n_calls = n_calls
        self.version = 0
        self.tensors: dict[str, np.ndarray] = {}

    def advance(self, requests: Sequence[Request], cancel: Sequence[Ticket], budget_s: float) -> list[Answer]:
        self.left |= {request.ticket: (self.n_calls, request) for request in requests}
        self.left = {ticket: (n - 1, request) for ticket, (n, request) in self.left.items() if ticket not in set(cancel)}
        done = [request for n, request in self.left.values() if n == 0]
        self.left = {ticket: work for ticket, work in self.left.items() if work[0] > 0}
        return [Answer(request.ticket, [ONE_TOKEN] * request.n, self.version, "local", 0.0) for request in done]

    def load_weights(self, tensors: Iterator[tuple[str, np.ndarray]], version: int) -> None:
        self.tensors, self.version = dict(tensors), version

    def describe(self) -> dict[str, object]:
        return {"name": "local"}


@pytest.fixture
def local() -> tuple[Dispatcher, Callable[[], CountingEngine]]:
    engines: list[CountingEngine] = []

    def factory() -> CountingEngine:
        engines.append(CountingEngine())
        return engines[-1]

    fleet = Fleet([LocalHandle(factory, "local")], LOCAL)
    fleet.wait_ready(10.0)
    return Dispatcher(fleet, LOCAL), lambda: engines[-1]


def test_a_local_engine_works_while_it_is_polled(local: tuple[Dispatcher, Callable[[], CountingEngine]]) -> None:
    dispatcher, engine = local
    dispatcher._fleet.publish(Weights(3, [{"a": np.ones(2)}, {"b": np.zeros(1)}]))
    dispatcher.submit(requests(20))
    assert {answer.policy_version for answer in watched(dispatcher)} == {3}
    assert set(engine().tensors) == {"a", "b"}


def test_a_restarted_local_engine_gets_the_published_weights(local: tuple[Dispatcher, Callable[[], CountingEngine]]) -> None:
    dispatcher, engine = local
    fleet, first = dispatcher._fleet, engine()
    fleet.publish(Weights(3, [{"a": np.ones(2)}]))
    dispatcher.submit(requests(20))
    stream = watched(dispatcher)
    answered = [next(stream).ticket.group]
    fleet.bury(fleet.members[0], EngineDied("test"))
    answered += [answer.ticket.group for answer in stream]
    assert sorted(answered) == list(range(20))
    assert engine() is not first
    assert engine().version == 3


def test_a_local_engine_forgets_cancelled_work(local: tuple[Dispatcher, Callable[[], CountingEngine]]) -> None:
    dispatcher, engine = local
    dispatcher.submit(requests(8))
    dispatcher._pump()
    dispatcher.cancel(range(8))
    dispatcher.submit(requests(1, first=50))
    assert [answer.ticket.group for answer in watched(dispatcher)] == [50]
    assert not engine().left

"""Real Ray, real processes, real SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from curricula.types import CurriculaError
from rollout.dispatcher import Dispatcher
from rollout.fleet import EnginesLost, Fleet
from rollout.ray_handle import RayHandle
from rollout.settings import EngineSettings
from rollout.types import EngineDied, Request, Sampling, Ticket, Weights
from tests.rollout.slow_engine import POISON, TOO_LONG, SlowEngine

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

SETTINGS = EngineSettings(n_engines=2, max_concurrent_rollouts=8, start_timeout_s=60.0, answer_timeout_s=30.0, options={"steps": 3})
VERSION_5 = Weights(5, [{"a": np.full(2, 1.5)}, {"b": np.full(1, 4.0)}])  # their sum, 7, is the slow engine's log-probability

StartFleet = Callable[..., Fleet]


@pytest.fixture
def start_fleet() -> Iterator[StartFleet]:
    fleets: list[Fleet] = []

    def start(settings: EngineSettings = SETTINGS, model_path: str = "") -> Fleet:
        handles = [RayHandle(settings, model_path, f"engine-{i}", SlowEngine) for i in range(settings.n_engines)]
        fleets.append(Fleet(handles, settings))
        return fleets[-1]

    yield start
    for fleet in fleets:
        fleet.close()


def requests(n: int, token: int = 1) -> list[Request]:
    return [Request(Ticket(i), (token,), 2, Sampling(), seed=i) for i in range(n)]


def pid(fleet: Fleet, i: int) -> int:
    number: int = fleet.members[i].handle.facts["pid"]  # type: ignore[attr-defined]
    return number


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("after", [1, 17, 40])
def test_an_engine_killed_at_work_costs_nothing_but_time(start_fleet: StartFleet, after: int) -> None:
    fleet = start_fleet()
    fleet.wait_ready(60.0)
    fleet.publish(VERSION_5)
    killed, dispatcher = pid(fleet, 0), Dispatcher(fleet, SETTINGS)
    dispatcher.submit(requests(120))
    answers = []
    for answer in dispatcher.stream():
        answers.append(answer)
        counts = dispatcher.counts
        assert counts.issued == counts.answered + counts.cancelled + dispatcher.open
        if len(answers) == after:
            kill(killed)
    assert Counter(answer.ticket.group for answer in answers) == Counter(range(120))
    assert dispatcher.counts.reissued > 0
    assert fleet.restarts == 1
    assert {answer.policy_version for answer in answers} == {5}
    assert {float(one.logprob_T[0]) for answer in answers for one in answer.completions} == {7.0}
    fleet.wait_ready(60.0)
    assert pid(fleet, 0) != killed


def test_a_restarted_engine_has_the_current_weights_before_it_works(start_fleet: StartFleet) -> None:
    fleet = start_fleet()
    fleet.wait_ready(60.0)
    dispatcher = Dispatcher(fleet, SETTINGS)
    for i in range(2):
        kill(pid(fleet, i))
    fleet.publish(VERSION_5)  # both are dead: the weights wait for the engines
    dispatcher.submit(requests(40))
    answers = list(dispatcher.stream())
    fleet.wait_ready(60.0)
    dispatcher.submit(requests(40))
    answers += dispatcher.stream()
    assert {answer.engine for answer in answers[40:]} == {"engine-0", "engine-1"}
    assert {answer.policy_version for answer in answers} == {5}
    assert {float(one.logprob_T[0]) for answer in answers for one in answer.completions} == {7.0}
    assert fleet.restarts == 2


def test_publishing_in_the_middle_of_work_loses_nothing(start_fleet: StartFleet) -> None:
    fleet = start_fleet()
    fleet.wait_ready(60.0)
    dispatcher = Dispatcher(fleet, SETTINGS)
    dispatcher.submit(requests(60))
    answers = []
    for answer in dispatcher.stream():
        answers.append(answer)
        if len(answers) == 10:
            fleet.publish(VERSION_5)
    assert Counter(answer.ticket.group for answer in answers) == Counter(range(60))
    assert {answer.policy_version for answer in answers} == {0, 5}
    assert fleet.restarts == 0


def test_a_suspended_engine_counts_as_dead_and_is_replaced(start_fleet: StartFleet) -> None:
    """SIGSTOP: the process is there, takes calls, and answers none."""
    settings = EngineSettings(n_engines=1, answer_timeout_s=1.5, options={"steps": 3})
    fleet = start_fleet(settings)
    fleet.wait_ready(60.0)
    suspended, dispatcher = pid(fleet, 0), Dispatcher(fleet, settings)
    os.kill(suspended, signal.SIGSTOP)
    try:
        dispatcher.submit(requests(10))
        assert sorted(answer.ticket.group for answer in dispatcher.stream()) == list(range(10))
        assert pid(fleet, 0) != suspended
        assert fleet.restarts == 1
    finally:
        if alive(suspended):  # Ray's own request to exit does not reach a suspended process
            kill(suspended)


def test_an_engine_that_breaks_is_replaced_until_its_restarts_are_spent(start_fleet: StartFleet) -> None:
    settings = EngineSettings(n_engines=1, max_restarts=1)
    fleet = start_fleet(settings)
    fleet.wait_ready(60.0)
    dispatcher = Dispatcher(fleet, settings)
    dispatcher.submit(requests(1, token=POISON))
    with pytest.raises(EnginesLost, match=r"died 2 times.*RuntimeError: device-side assert.*1 tickets are open"):
        list(dispatcher.stream())


def test_a_refused_request_is_the_callers_error_and_not_a_death(start_fleet: StartFleet) -> None:
    fleet = start_fleet(EngineSettings(n_engines=1))
    fleet.wait_ready(60.0)
    dispatcher = Dispatcher(fleet, SETTINGS)
    dispatcher.submit(requests(1, token=TOO_LONG))
    with pytest.raises(CurriculaError, match=r"^the prompt is longer than the window$"):
        list(dispatcher.stream())
    assert fleet.restarts == 0


@pytest.mark.parametrize(
    ("model_path", "error", "message"),
    [
        ("missing", CurriculaError, r"^model.path: 'missing' is not there$"),
        ("broken", EnginesLost, r"did not start.*OSError: cannot read"),
    ],
)
def test_an_engine_that_cannot_start_stops_the_run_with_its_reason(
    start_fleet: StartFleet, model_path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        start_fleet(EngineSettings(n_engines=1), model_path).wait_ready(60.0)


def test_engines_that_cannot_be_placed_are_explained(start_fleet: StartFleet) -> None:
    fleet = start_fleet(EngineSettings(n_engines=3, cpus_per_engine=0.5, gpus_per_engine=2))
    with pytest.raises(CurriculaError) as caught:
        fleet.wait_ready(0.5)
    message = str(caught.value)
    assert "0 of 3 are live, engine-0 is starting" in message
    assert "they ask for 1.5 CPU, 6 GPU; Ray has 4 CPU, 0 GPU, free" in message
    assert "6 GPU missing" in message
    assert "lower engine.n_engines" in message


def test_cancelled_work_leaves_a_remote_engine(start_fleet: StartFleet) -> None:
    settings = EngineSettings(n_engines=1, options={"steps": 10_000_000})
    fleet = start_fleet(settings)
    fleet.wait_ready(60.0)
    dispatcher = Dispatcher(fleet, settings)
    dispatcher.submit(requests(4))
    dispatcher._pump()
    dispatcher.cancel(range(4))
    assert dispatcher.open == 0
    assert list(dispatcher.stream()) == []
    handle = fleet.members[0].handle
    while handle._calls:  # type: ignore[attr-defined]  # an engine that still worked would be given more calls
        assert handle.poll() == []
        time.sleep(0.01)


def test_threads_follow_the_cpus_of_the_engine(start_fleet: StartFleet) -> None:
    fleet = start_fleet(EngineSettings(n_engines=1, cpus_per_engine=2))
    fleet.wait_ready(60.0)
    assert fleet.members[0].handle.facts["threads"] == "2"  # type: ignore[attr-defined]


def test_a_handle_tells_of_a_death_while_it_starts() -> None:
    handle = RayHandle(SETTINGS, "", "engine", SlowEngine)
    ray.kill(handle._actor, no_restart=True)
    with pytest.raises(EngineDied, match="engine: ActorDiedError"):
        wait_until_ready(handle)
    handle.close()


@pytest.mark.slow
def test_a_raylet_dies_and_the_run_goes_on_until_another_joins(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    program = [sys.executable, str(Path(__file__).with_name("two_raylets.py")), str(tmp_path / "report.json")]
    done = subprocess.run(program, cwd=root, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads((tmp_path / "report.json").read_text())
    both = ["engine-0", "engine-1"]
    assert len(set(report["nodes_before"])) == 2
    assert report["doomed"] in report["nodes_before"]
    assert report["engines_before"] == both
    assert report["live_after_the_step"] == 1  # the other one waits for a machine
    assert report["engines_of_the_second_step"] == both
    assert len(set(report["nodes_after"]) - {report["doomed"]}) == 2
    assert report["tickets"] == list(range(report["n_issued"]))
    assert report["versions"] == [5]
    assert report["restarts"] >= 1
    assert report["reissued"] >= 1


def wait_until_ready(handle: RayHandle) -> None:
    while not handle.ready:
        time.sleep(0.01)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True

"""Real Ray, real processes, real SIGKILL: one curriculum for a whole cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from curricula import CurriculaError, Curriculum, Feedback, RolloutPlan
from rollout.shared_curriculum import SharedCurriculum, connect, serve
from tests.rollout.shared_client import N_GROUPS, N_ROLLOUTS, came, learn, pool, work

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

ROOT = Path(__file__).parents[2]
EXACT = {"belief": {"name": "beta", "forgetting": 0.0}}  # sums of whole numbers: no order of updates rounds differently


@pytest.fixture
def served(tmp_path: Path) -> Iterator[SharedCurriculum]:
    curriculum = serve(EXACT, pool(), tmp_path.name, tmp_path / "curriculum", snapshot_every=10)
    yield curriculum
    curriculum.stop()


def single_client(steps: range, attempts: int = 2) -> Curriculum:
    """The same plans, made and learned by one loop in one process."""
    plain = Curriculum.from_recipe(EXACT, pool(), 0)
    for step in steps:
        plans: list[RolloutPlan] = []
        for attempt in range(attempts):
            taken = [prompt for plan in plans for prompt in plan.selection.prompt_B]
            plans.append(plain.plan(step, N_GROUPS, N_ROLLOUTS, attempt, exclude=taken))
        for plan in plans:
            learn(plain, plan)
    return plain


def assert_same_state(a: Any, b: Any) -> None:
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def kill(curriculum: SharedCurriculum) -> int:
    """SIGKILL to the actor's process; its pid."""
    pid: int = curriculum.facts()["pid"]
    os.kill(pid, signal.SIGKILL)
    return pid


def test_a_client_has_what_a_loop_has(served: SharedCurriculum) -> None:
    plain = Curriculum.from_recipe(EXACT, pool(), 0)
    client = connect(served.name, pool())
    for step in range(3):
        theirs, ours = plain.plan(step, N_GROUPS, N_ROLLOUTS), client.plan(step, N_GROUPS, N_ROLLOUTS)
        np.testing.assert_array_equal(ours.selection.prompt_B, theirs.selection.prompt_B)
        outcome = came(ours)
        np.testing.assert_array_equal(client.shape(outcome), plain.shape(came(theirs)))
        assert client.extend(outcome) is None
        learn(client, ours)
        learn(plain, theirs)
    np.testing.assert_array_equal(client.estimate([0, 5]).mean_B, plain.estimate([0, 5]).mean_B)
    np.testing.assert_array_equal(client.probabilities(), plain.probabilities())
    assert client.metrics() == plain.metrics()
    assert client.pool().fingerprint == plain.pool.fingerprint
    assert_same_state(client.state(), plain.state_dict())
    plain.load_state_dict(client.state())


def test_two_clients_and_two_kills_end_where_one_client_ends(served: SharedCurriculum) -> None:
    """Clients in processes of their own race through the same steps while the actor is killed under them."""
    steps = range(24)
    remote = ray.remote(num_cpus=1)(work)
    running = [remote.remote(served.name, list(steps), 2) for _ in range(2)]
    pids = []
    for n_entries in (15, 50):
        while served.facts()["n_entries"] < n_entries:
            time.sleep(0.005)
        pids.append(kill(served))
    plans = [plan for mine in ray.get(running, timeout=120) for plan in mine]
    assert len({served.facts()["pid"], *pids}) == 3
    assert sorted((step, attempt) for step, attempt, _ in plans) == [(step, attempt) for step in steps for attempt in (0, 1)]
    for step in steps:
        prompts = [prompt for known, _, mine in plans if known == step for prompt in mine]
        assert len(prompts) == len(set(prompts)) == 2 * N_GROUPS
    assert served.metrics()["n_repeated_groups"] == 0
    assert served.facts()["n_entries"] == 4 * len(steps)
    assert_same_state(served.state(), single_client(steps).state_dict())


def test_ranks_that_name_the_attempt_share_a_plan_and_count_once(served: SharedCurriculum) -> None:
    a, b = connect(served.name), connect(served.name)
    plan = a.plan(0, N_GROUPS, N_ROLLOUTS, attempt=0)
    same = b.plan(0, N_GROUPS, N_ROLLOUTS, attempt=0)
    np.testing.assert_array_equal(same.group_B, plan.group_B)
    outcome = came(plan)
    feedback = Feedback(outcome, a.judge(outcome))
    a.update(feedback)
    b.update([feedback])
    kill(served)
    np.testing.assert_array_equal(b.plan(0, N_GROUPS, N_ROLLOUTS, attempt=0).selection.prompt_B, plan.selection.prompt_B)
    assert_same_state(served.state(), single_client(range(1), attempts=1).state_dict())


def test_a_served_curriculum_goes_on_after_a_stop(tmp_path: Path) -> None:
    for steps in (range(3), range(3, 6)):
        curriculum = serve(EXACT, pool(), "stops", tmp_path)
        for step in steps:
            learn(curriculum, curriculum.plan(step, N_GROUPS, N_ROLLOUTS))
        state = curriculum.state()
        curriculum.stop()
    assert_same_state(state, single_client(range(6), attempts=1).state_dict())
    with pytest.raises(CurriculaError, match=r"'stops' is gone \(\w+\).*serve it again from its folder"):
        curriculum.metrics()


def test_mistakes_are_named(served: SharedCurriculum, tmp_path: Path) -> None:
    folder = tmp_path / "curriculum"
    with pytest.raises(CurriculaError, match=rf"'{served.name}': the name is taken on this cluster; connect\('{served.name}'\)"):
        serve(EXACT, pool(), served.name, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(CurriculaError, match=r"process \d+ on host .* is writing this run"):
        serve(EXACT, pool(), "another", folder)
    with pytest.raises(CurriculaError, match=r"it belongs to another recipe"):
        serve("sec", pool(), "another", folder)
    with pytest.raises(
        CurriculaError, match=r"it serves another pool \(240 prompts, fingerprint \w+\) than this process has \(12 "
    ):
        connect(served.name, pool(12))
    with pytest.raises(CurriculaError, match=rf"did you mean '{served.name}'\?.*serve it first"):
        connect(served.name + "x")
    foreign = Curriculum.from_recipe(EXACT, pool(), 0).plan(9, N_GROUPS, N_ROLLOUTS)
    with pytest.raises(CurriculaError, match="step 9, attempt 0 was not planned by this curriculum"):
        learn(served, foreign)
    with pytest.raises(CurriculaError, match="plan: expected numbers >= 0"):
        served.plan(0, -1, 8)
    with pytest.raises(CurriculaError, match="unknown recipe"):
        serve("dump", pool(), "another", tmp_path / "other")


def test_an_actor_that_does_not_answer_is_an_error_in_bounded_time(served: SharedCurriculum) -> None:
    client, pid = connect(served.name, timeout_s=0.3), served.facts()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(CurriculaError, match=r"no answer to 'metrics' in 0\.3 s; it is busy, restarting"):
            client.metrics()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert served.metrics()["n_seen_prompts"] == 0


SERVING = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
from rollout.shared_curriculum import serve
from tests.rollout.shared_client import pool, learn
curriculum = serve("combined", pool(), "outlives", sys.argv[2])
learn(curriculum, curriculum.plan(0, 8, 32))
"""


def test_it_outlives_the_process_that_served_it_and_then_its_own_death(tmp_path: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", SERVING, address, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    curriculum = connect("outlives", pool())
    before = curriculum.state()
    assert curriculum.facts()["pid"] == kill(curriculum)
    assert_same_state(curriculum.state(), before)
    learn(curriculum, curriculum.plan(1, N_GROUPS, N_ROLLOUTS))
    curriculum.stop()

"""Two raylets on this machine, an engine on each; one raylet dies in the middle of a step, later another joins.

Writes what happened as JSON into the file it is given. A program of its own, because it joins a cluster of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster

from rollout.dispatcher import Dispatcher
from rollout.fleet import Fleet
from rollout.ray_handle import RayHandle
from rollout.settings import EngineSettings
from rollout.types import Request, Sampling, Ticket, Weights
from tests.rollout.slow_engine import SlowEngine

SETTINGS = EngineSettings(n_engines=2, max_concurrent_rollouts=8, start_timeout_s=60.0, answer_timeout_s=30.0, options={"steps": 3})
N_TICKETS = 120  # of a step
N_BEFORE = 40  # answers before the raylet dies
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}  # room for one engine
PROMPT_HEALTH_CHECKS = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


def main(report: Path) -> None:
    cluster = Cluster(
        initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "_system_config": PROMPT_HEALTH_CHECKS}
    )
    doomed = cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False)
    handles = [RayHandle(SETTINGS, "", f"engine-{i}", SlowEngine) for i in range(2)]
    fleet = Fleet(handles, SETTINGS)
    try:
        fleet.wait_ready(60.0)
        report.write_text(json.dumps(run(cluster, doomed, fleet, handles)))
    finally:
        fleet.close()
        ray.shutdown()
        cluster.shutdown()


def run(cluster: Cluster, doomed: Any, fleet: Fleet, handles: list[RayHandle]) -> dict[str, object]:
    nodes_before = [handle.facts["node"] for handle in handles]
    fleet.publish(Weights(5, [{"w": np.full(3, 2.0)}]))
    dispatcher = Dispatcher(fleet, SETTINGS)
    dispatcher.submit(requests(0, N_TICKETS))
    answers = []
    for answer in dispatcher.stream():
        answers.append(answer)
        if len(answers) == N_BEFORE:
            cluster.remove_node(doomed, allow_graceful=False)
        elif len(answers) > N_BEFORE and fleet.restarts == 0:  # an orphaned actor works on for a second: keep the step open
            dispatcher.submit(requests(dispatcher.counts.issued, 1))
    live_after_the_step = len(fleet.live())
    n_first_step = dispatcher.counts.issued
    cluster.add_node(**NODE)
    fleet.wait_ready(60.0)
    dispatcher.submit(requests(n_first_step, N_TICKETS))
    answers += dispatcher.stream()
    return {
        "nodes_before": nodes_before,
        "doomed": doomed.node_id,
        "nodes_after": [handle.facts["node"] for handle in handles],
        "engines_before": sorted({answer.engine for answer in answers[:N_BEFORE]}),
        "live_after_the_step": live_after_the_step,
        "engines_of_the_second_step": sorted({answer.engine for answer in answers[n_first_step:]}),
        "n_issued": dispatcher.counts.issued,
        "tickets": sorted(answer.ticket.group for answer in answers),
        "versions": sorted({answer.policy_version for answer in answers}),
        "restarts": fleet.restarts,
        "reissued": dispatcher.counts.reissued,
    }


def requests(first: int, n: int) -> list[Request]:
    return [Request(Ticket(first + i), (1,), 2, Sampling(), seed=i) for i in range(n)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A real vLLM engine in a real Ray actor, killed at work with SIGKILL."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollout.dispatcher import Dispatcher
from rollout.fleet import Fleet
from rollout.settings import EngineSettings
from rollout.types import Answer, Request, Sampling, Ticket, Weights
from rollout.weights import to_chunks
from tests.tiny import reference_logprobs, tiny_model

pytestmark = [pytest.mark.ray, pytest.mark.vllm, pytest.mark.slow]

SETTINGS = EngineSettings(backend="vllm", dtype="float32", max_model_tokens=512, max_concurrent_rollouts=32)
SAMPLING = Sampling(temperature=1.0, max_tokens=60)
AGREEMENT = 1e-3  # nats; float32 on both sides


@pytest.fixture(scope="module")
def fleet(ray_session: None, tiny_model_path: Path) -> Iterator[Fleet]:
    fleet = Fleet.start(SETTINGS, str(tiny_model_path))
    fleet.wait_ready(SETTINGS.start_timeout_s)
    yield fleet
    fleet.close()


def test_a_killed_vllm_engine_comes_back_with_the_current_weights(fleet: Fleet) -> None:
    learner = tiny_model(seed=3)  # not the model that the engine starts with
    fleet.publish(Weights(1, list(to_chunks(learner.named_parameters()))))
    dispatcher = Dispatcher(fleet, SETTINGS)
    handle: Any = fleet.members[0].handle
    killed = handle.facts["pid"]
    issued = requests(40)
    dispatcher.submit(issued)
    answers: list[Answer] = []
    for answer in dispatcher.stream():
        answers.append(answer)
        if len(answers) == 10:
            os.kill(killed, signal.SIGKILL)
    assert sorted(answer.ticket for answer in answers) == [request.ticket for request in issued]
    assert fleet.restarts == 1
    assert dispatcher.counts.reissued > 0
    assert handle.facts["pid"] != killed
    assert {answer.policy_version for answer in answers} == {1}
    assert worst(learner, issued, answers[:10]) < AGREEMENT, "before the kill"
    assert worst(learner, issued, answers[10:]) < AGREEMENT, "after the kill: not the current weights"
    assert worst(tiny_model(seed=0), issued, answers) > 1.0, "the starting weights would have been told apart"


def requests(n: int) -> list[Request]:
    """Prompts of 3 to 300 tokens: some shorter, some longer than a cache block."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(3, 300, n).astype(int)
    prompts = [tuple(int(token) for token in rng.integers(3, 60, length)) for length in lengths]
    return [Request(Ticket(i), prompt, 2, SAMPLING, seed=i) for i, prompt in enumerate(prompts)]


def worst(model: Any, issued: list[Request], answers: list[Answer]) -> float:
    """The largest difference between an engine's log-probability and the model's, over all sampled tokens."""
    prompt_of = {request.ticket: request.prompt_ids for request in issued}
    return max(
        float(np.abs(one.logprob_T - reference_logprobs(model, prompt_of[answer.ticket], one.token_ids)).max())
        for answer in answers
        for one in answer.completions
    )

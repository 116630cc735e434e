"""What every engine with a real model has to keep, checked against plain Hugging Face forward passes.

vLLM runs in a process of its own: its import sets environment variables, and its start sets random seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula.types import CurriculaError
from rollout.engines.transformers_engine import TransformersEngine
from rollout.engines.vllm_engine import VllmEngine
from rollout.settings import EngineSettings
from rollout.types import FinishReason, Request, Sampling, Ticket
from tests.tiny import character_tokenizer, finish, reference_logprobs, tiny_model, weights_of

WINDOW = 512
TOKENIZER = character_tokenizer()
BASE = "12+34= 7*(8-5)/3? abc, "
VLLM = pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.slow])


def settings(backend: str) -> EngineSettings:
    return EngineSettings(backend=backend, dtype="float32", max_concurrent_rollouts=16, max_model_tokens=WINDOW)  # type: ignore[arg-type]


def prompt(length: int, shift: int = 0) -> tuple[int, ...]:
    text = (BASE[shift:] + BASE * (length // len(BASE) + 1))[:length]
    return tuple(TOKENIZER(text)["input_ids"])


def request(group: int, length: int = 12, n: int = 1, seed: int = 0, **sampling: Any) -> Request:
    return Request(Ticket(group), prompt(length, group % 7), n, Sampling(**{"max_tokens": 24, **sampling}), seed)


@dataclass
class Bench:
    """An engine with the model whose weights it should hold."""

    engine: Any
    tied: bool
    model: Any = None

    def publish(self, seed: int, version: int = 0) -> None:
        self.model = tiny_model(seed, self.tied)
        self.engine.load_weights(weights_of(self.model), version)

    def worst(self, requests: list[Request]) -> float:
        """Largest difference between reported and reference log-probabilities over all tokens of the answers."""
        answers = finish(self.engine, requests)
        return max(
            float(
                np.abs(
                    c.logprob_T
                    - reference_logprobs(self.model, r.prompt_ids, c.token_ids, r.sampling.temperature or 1, r.sampling.top_p)
                ).max()
            )
            for r in requests
            for c in answers[r.ticket].completions
        )


@pytest.fixture(scope="module")
def start(tiny_model_path: Path, untied_model_path: Path) -> Iterator[Callable[[str, bool], Any]]:
    """Engines of this module by backend and kind of head, each started once."""
    engines: dict[tuple[str, bool], Any] = {}
    managers: list[Any] = []
    BaseManager.register("VllmEngine", VllmEngine)

    def get(backend: str, tied: bool) -> Any:
        if (backend, tied) not in engines:
            path = str(tiny_model_path if tied else untied_model_path)
            owner: Any = TransformersEngine
            if backend == "vllm":
                managers.append(BaseManager(ctx=get_context("spawn")))
                managers[-1].start()
                owner = managers[-1].VllmEngine
            engines[backend, tied] = owner(settings(backend), path, f"{backend}-0")
        return engines[backend, tied]

    yield get
    for manager in managers:
        manager.shutdown()


@pytest.fixture(params=["transformers", VLLM])
def bench(request: pytest.FixtureRequest, start: Callable[[str, bool], Any]) -> Bench:
    bench = Bench(start(request.param, True), tied=True)
    bench.publish(seed=0)
    return bench


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("backend", ["transformers", VLLM])
def test_logprobs_agree_before_and_after_every_update(start: Callable[[str, bool], Any], backend: str, tied: bool) -> None:
    bench = Bench(start(backend, tied), tied)
    requests = [request(i, length, n=2, seed=i) for i, length in enumerate([1, 5, 40, 150, 300])]  # 150 and 300 fill cache blocks
    for version in range(4):
        bench.publish(seed=version, version=version)
        assert bench.worst(requests) < 1e-3, f"version {version}: stale weights, head or prefix cache"
        assert bench.worst(requests) < 1e-3, f"version {version}: wrong when the prefix comes from the cache"


def test_weights_matter(bench: Bench) -> None:
    requests = [request(i, 40) for i in range(4)]
    bench.model = tiny_model(seed=99)
    assert bench.worst(requests) > 0.1  # the measure of the test above can fail


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0.6}, {"temperature": 1.7}, {"top_p": 0.8}, {"temperature": 1.3, "top_p": 0.5}], ids=str
)
def test_logprobs_are_those_of_the_sampling_distribution(bench: Bench, sampling: dict[str, float]) -> None:
    assert bench.worst([request(i, 20 + i, n=2, seed=i, **sampling) for i in range(4)]) < 1e-3


def test_one_batch_may_mix_samplings(bench: Bench) -> None:
    mixed = [{"temperature": 0.0}, {"temperature": 0.5}, {"top_p": 0.7}, {}]
    assert bench.worst([request(i, 15, n=2, seed=i, **sampling) for i, sampling in enumerate(mixed)]) < 1e-3


def test_greedy_is_greedy(bench: Bench) -> None:
    import torch

    requests = [request(i, length, temperature=0.0) for i, length in enumerate([3, 30, 200])]
    answers = finish(bench.engine, requests)
    for r in requests:
        with torch.inference_mode():
            expected = bench.model.generate(torch.tensor([r.prompt_ids]), do_sample=False, max_new_tokens=24)[
                0, len(r.prompt_ids) :
            ]
        assert answers[r.ticket].completions[0].token_ids.tolist() == expected.tolist()


def test_every_request_has_its_own_n_and_seed(bench: Bench) -> None:
    requests = [request(0, n=n, seed=7) for n in (1, 2, 3)] + [request(0, n=2, seed=8)]
    requests = [Request(Ticket(i), r.prompt_ids, r.n, r.sampling, r.seed) for i, r in enumerate(requests)]
    first, second = finish(bench.engine, requests), finish(bench.engine, requests)
    assert [len(first[Ticket(i)].completions) for i in range(4)] == [1, 2, 3, 2]
    assert texts(first) == texts(second)
    samples = texts(first)
    assert samples[0] == samples[1][:1] == samples[2][:1]  # the same seed draws the same first sample, whatever n is
    assert len({*samples[2], *samples[3]}) == 5  # samples of one request differ, and so do seeds


def test_lengths_and_ends(bench: Bench) -> None:
    answer = finish(bench.engine, [request(0, n=48, seed=3, max_tokens=60)])[Ticket(0)]
    finishes = {c.finish for c in answer.completions}
    assert finishes == {FinishReason.STOP, FinishReason.LENGTH}
    for c in answer.completions:
        assert len(c.token_ids) == len(c.logprob_T) <= 60
        assert (c.token_ids == 1).sum() == (c.finish is FinishReason.STOP)
        assert (c.token_ids[-1] == 1) == (c.finish is FinishReason.STOP)
        assert (len(c.token_ids) == 60) or c.finish is FinishReason.STOP
        assert "<eos>" not in c.text
        assert len(c.text) >= len(c.token_ids) - 1 - np.isin(c.token_ids, [0, 2]).sum()
    assert answer.policy_version == 0
    assert answer.seconds > 0


def test_stop_strings(bench: Bench) -> None:
    free = finish(bench.engine, [request(0, n=16, seed=5, max_tokens=40)])[Ticket(0)]
    stop = next(c.text[6:8] for c in free.completions if len(c.text) > 10 and " " not in c.text[6:8])
    answer = finish(bench.engine, [request(0, n=16, seed=5, max_tokens=40, stop=(stop, "never drawn"))])[Ticket(0)]
    for before, after in zip(free.completions, answer.completions, strict=True):
        at = before.text.find(stop)
        assert after.text == (before.text if at < 0 else before.text[: at + len(stop)])  # the text is what was drawn
        assert after.finish is (before.finish if at < 0 else FinishReason.STOP)
        assert len(after.logprob_T) == len(after.token_ids)
    assert any(stop in c.text for c in answer.completions)


def test_cancelled_requests_leave_without_an_answer(bench: Bench) -> None:
    requests = [request(i, n=4, seed=i, max_tokens=60) for i in range(4)]
    alone = finish(bench.engine, requests[1:])
    assert bench.engine.advance(requests, (), 0.0) == []
    answers: dict[Ticket, Any] = {}
    while len(answers) < 3:
        answers.update({a.ticket: a for a in bench.engine.advance((), [Ticket(0), Ticket(77)], 5.0)})
    assert answers.keys() == {Ticket(1), Ticket(2), Ticket(3)}
    assert texts(answers) == texts(alone)
    assert bench.engine.advance((), (), 0.0) == []
    assert len(finish(bench.engine, requests[:1])[Ticket(0)].completions) == 4  # a cancelled ticket may come again


def test_a_prompt_that_does_not_fit_is_an_error_and_the_engine_lives(bench: Bench) -> None:
    good, long, empty = request(0), Request(Ticket(5, 1), (5,) * WINDOW, 1, Sampling(), 0), Request(Ticket(6), (), 1, Sampling(), 0)
    for bad in (long, empty):
        with pytest.raises(CurriculaError, match=f"group={bad.ticket.group}.*none of these requests was taken"):
            bench.engine.advance([good, bad], (), 1.0)
    assert bench.engine.advance((), (), 0.0) == []
    last = Request(Ticket(1), prompt(WINDOW - 3), 1, Sampling(max_tokens=50, temperature=0.0), 0)
    answers = finish(bench.engine, [good, last])
    assert len(answers[Ticket(1)].completions[0].token_ids) <= 3  # what the window leaves


def test_an_update_in_flight_continues_under_the_new_weights(bench: Bench) -> None:
    old = bench.model
    flying = [request(i, 140, n=2, seed=i, max_tokens=40) for i in range(3)]
    answers = {a.ticket: a for _ in range(8) for a in bench.engine.advance(flying if _ == 0 else (), (), 0.0)}
    bench.publish(seed=1, version=1)
    later = Request(
        Ticket(9), flying[0].prompt_ids, 1, flying[0].sampling, 50
    )  # shares a prefix that was cached under the old weights
    answers |= finish(bench.engine, [later])
    while len(answers) < 4:
        answers.update({a.ticket: a for a in bench.engine.advance((), (), 5.0)})
    assert [answers[Ticket(i)].policy_version for i in (0, 1, 2, 9)] == [0, 0, 0, 1]
    spans = [_switch(c, r.prompt_ids, old, bench.model) for r in flying for c in answers[r.ticket].completions]
    assert max(error for _, error in spans) < 1e-3
    assert all(0 < tokens <= 8 for tokens, _ in spans)
    c = answers[Ticket(9)].completions[0]
    assert np.abs(c.logprob_T - reference_logprobs(bench.model, later.prompt_ids, c.token_ids)).max() < 1e-3


def _switch(completion: Any, prompt_ids: Any, old: Any, new: Any) -> tuple[int, float]:
    """Tokens that the old model drew, by best fit, and the largest error of the log-probabilities around that switch."""
    errors = [np.abs(completion.logprob_T - reference_logprobs(model, prompt_ids, completion.token_ids)) for model in (old, new)]
    fits = [max(errors[0][:k].max(initial=0), errors[1][k:].max(initial=0)) for k in range(len(errors[0]) + 1)]
    return int(np.argmin(fits)), float(min(fits))


def test_engines_describe_themselves(bench: Bench) -> None:
    facts = bench.engine.describe()
    assert {"name", "backend", "pid", "device", "dtype", "versions", "policy_version"} == facts.keys()
    assert facts["dtype"] == "float32"
    assert facts["versions"][facts["backend"]]


def texts(answers: dict[Ticket, Any]) -> list[list[str]]:
    return [[c.text for c in answers[ticket].completions] for ticket in sorted(answers)]

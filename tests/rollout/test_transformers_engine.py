"""What only the transformers engine promises: draws that do not depend on company, and bookkeeping of rows that come and go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curricula.types import CurriculaError
from rollout.engines import build_engine
from rollout.engines.stop import StopStrings
from rollout.engines.transformers_engine import TransformersEngine
from rollout.settings import EngineSettings
from rollout.types import Request, Sampling, Ticket
from tests.tiny import character_tokenizer, finish, reference_logprobs, tiny_model, weights_of


def engine(path: Path, rows: int = 16) -> TransformersEngine:
    return TransformersEngine(EngineSettings(dtype="float32", max_concurrent_rollouts=rows), str(path), "e")


@pytest.fixture(scope="module")
def small(tiny_model_path: Path) -> TransformersEngine:
    return engine(tiny_model_path, rows=8)


def request(group: int, length: int = 9, n: int = 2, **sampling: object) -> Request:
    ids = tuple(int(i) for i in np.random.default_rng(group).integers(3, 90, length))
    return Request(Ticket(group), ids, n, Sampling(**{"max_tokens": 20, **sampling}), seed=group)  # type: ignore[arg-type]


def tokens(answers: dict[Ticket, object]) -> dict[Ticket, list[list[int]]]:
    return {ticket: [c.token_ids.tolist() for c in answer.completions] for ticket, answer in answers.items()}  # type: ignore[attr-defined]


def test_draws_do_not_depend_on_the_batch(small: TransformersEngine, tiny_model_path: Path) -> None:
    requests = [request(i, 4 + 11 * (i % 5), max_tokens=6 + 7 * (i % 3)) for i in range(20)]
    alone = {ticket: ids for r in requests for ticket, ids in tokens(finish(small, [r])).items()}
    assert tokens(finish(small, requests)) == alone  # in lots of eight rows, entering as others leave
    assert tokens(finish(small, requests[::-1])) == alone
    assert tokens(finish(engine(tiny_model_path, rows=64), requests)) == alone


def test_rows_that_come_and_go_keep_their_logprobs(small: TransformersEngine) -> None:
    requests = [request(i, 1 + 37 * (i % 9), n=1 + i % 4, max_tokens=5 + 60 * (i % 2)) for i in range(30)]
    model = tiny_model()
    for ticket, answer in finish(small, requests).items():
        for c in answer.completions:
            expected = reference_logprobs(model, requests[ticket.group].prompt_ids, c.token_ids)
            assert np.abs(c.logprob_T - expected).max() < 1e-3


def test_more_samples_than_places(small: TransformersEngine) -> None:
    answer = finish(small, [request(0, n=50)])[Ticket(0)]
    assert len({tuple(c.token_ids) for c in answer.completions}) == 50


def test_cancelling_rows_in_the_middle_leaves_the_others_alone(small: TransformersEngine) -> None:
    requests = [request(i, 5 + i, n=1, max_tokens=30) for i in range(8)]
    expected = tokens(finish(small, requests))
    answers = {a.ticket: a for a in small.advance(requests, (), 0.0)}
    answers |= {a.ticket: a for a in small.advance((), [Ticket(1), Ticket(4), Ticket(7)], 0.0)}
    while len(answers) < 5:
        answers |= {a.ticket: a for a in small.advance((), (), 5.0)}
    assert tokens(answers) == {ticket: ids for ticket, ids in expected.items() if ticket.group not in (1, 4, 7)}


def test_an_update_leaves_the_draws_of_waiting_requests_alone(small: TransformersEngine) -> None:
    requests = [request(i) for i in range(12)]
    expected = tokens(finish(small, requests))
    small.advance(requests, (), 0.0)
    small.load_weights(weights_of(tiny_model()), version=1)  # the same weights again
    assert tokens(finish(small, requests[:0]) | _drain(small, 12)) == expected


def _drain(engine: TransformersEngine, n: int) -> dict[Ticket, object]:
    answers: dict[Ticket, object] = {}
    while len(answers) < n:
        answers |= {a.ticket: a for a in engine.advance((), (), 5.0)}
    return answers


def test_weights_that_do_not_fit_are_refused_by_name(tiny_model_path: Path) -> None:
    fresh, weights = engine(tiny_model_path), weights_of(tiny_model())
    with pytest.raises(CurriculaError, match=r"1 missing, first: model\.norm\.weight"):
        fresh.load_weights([item for item in weights if item[0] != "model.norm.weight"], 1)
    with pytest.raises(CurriculaError, match=r"lm_head\.weight is unknown"):
        fresh.load_weights([*weights, ("lm_head.weight", weights[0][1])], 1)


def test_bfloat16_weights_arrive_in_an_engine_of_that_type(tiny_model_path: Path) -> None:
    import torch

    half = TransformersEngine(EngineSettings(dtype="bfloat16"), str(tiny_model_path), "e")
    half.load_weights(weights_of(tiny_model(seed=3).to(torch.bfloat16)), version=1)
    answer = finish(half, [request(0)])[Ticket(0)]
    expected = reference_logprobs(tiny_model(seed=3), request(0).prompt_ids, answer.completions[0].token_ids)
    assert np.abs(answer.completions[0].logprob_T - expected).mean() < 0.2
    assert half.describe()["dtype"] == "bfloat16"


def test_stop_strings_are_found_wherever_tokens_end() -> None:
    tokenizer = character_tokenizer()
    ids = tokenizer("12+3=15\nnext")["input_ids"]
    for stop, length in {"\n": 8, "=1": 6, "15\nn": 9, "zz": None}.items():
        strings = StopStrings([stop], tokenizer)
        hits = [i for i in range(1, len(ids) + 1) if strings.reached(ids[:i])]
        assert (hits[0] if hits else None) == length
    assert not StopStrings([], tokenizer).reached(ids)


def test_a_missing_library_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CurriculaError, match=r"needs the library vllm.*rl-curricula\[vllm\].*make vllm-cpu"):
        build_engine(EngineSettings(backend="vllm"), "nowhere", "e")


def test_the_registry_builds_by_backend_and_names_the_nearest(tiny_model_path: Path) -> None:
    assert isinstance(build_engine(EngineSettings(), str(tiny_model_path), "e"), TransformersEngine)
    with pytest.raises(CurriculaError, match="did you mean 'transformers'"):
        build_engine(EngineSettings(backend="transformer"), str(tiny_model_path), "e")  # type: ignore[arg-type]


def test_sliding_window_attention_is_refused(tmp_path: Path) -> None:
    from tests.tiny import qwen3_config

    config = qwen3_config()
    config.layer_types = ["full_attention", "sliding_attention"]
    config.use_sliding_window, config.sliding_window = True, 64
    from transformers import Qwen3ForCausalLM

    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    character_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(CurriculaError, match=r"sliding_attention.*use engine.backend: vllm"):
        engine(tmp_path)

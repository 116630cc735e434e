"""How settings become vLLM's environment and arguments; needs no vLLM."""

from __future__ import annotations

import os

import pytest

from rollout.engines.vllm_engine import _engine_arguments, environment
from rollout.settings import EngineSettings

CPU, GPU = EngineSettings("vllm"), EngineSettings("vllm", gpus_per_engine=2)


def test_the_environment_is_returned_not_set_and_the_user_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    before = dict(os.environ)
    wanted = environment(CPU)
    assert wanted["VLLM_CPU_KVCACHE_SPACE"] == "4"
    assert wanted["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert wanted["TORCHDYNAMO_DISABLE"] == "1"
    assert dict(os.environ) == before


def test_dynamo_stays_on_where_compilation_is_wanted() -> None:
    assert "TORCHDYNAMO_DISABLE" not in environment(GPU)
    assert "TORCHDYNAMO_DISABLE" not in environment(EngineSettings("vllm", options={"enforce_eager": False}))


def test_gpus_become_tensor_parallelism_and_options_win() -> None:
    assert _engine_arguments(GPU, 0)["tensor_parallel_size"] == 2
    assert _engine_arguments(GPU, 0)["enforce_eager"] is False
    assert _engine_arguments(CPU, 0)["enforce_eager"] is True
    assert (
        _engine_arguments(EngineSettings("vllm", options={"block_size": 32, "dtype": "float16"}), 0).items()
        >= {
            "block_size": 32,
            "dtype": "float16",
            "logprobs_mode": "processed_logprobs",
        }.items()
    )

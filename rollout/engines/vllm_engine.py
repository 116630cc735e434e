"""Rollouts by vLLM, the GPU or the CPU build, driven step by step in this process.

No thread and no server: between two steps requests may come, be cancelled, or the weights may change. With several GPUs vLLM starts
one worker process per GPU, which read new weights from files in shared memory.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curricula.types import CurriculaError
from rollout.engines.draw import scramble
from rollout.engines.intake import OpenRequest, refuse_unfit, token_limit
from rollout.settings import EngineSettings
from rollout.types import Answer, Completion, FinishReason, Request, Ticket
from rollout.weights import DEFAULT_CHUNK_BYTES, to_chunks, to_tensor, to_tensors

SHARED_MEMORY = Path("/dev/shm")


def environment(settings: EngineSettings) -> dict[str, str]:
    """Variables that vLLM reads when it is imported; what the user has set wins. An actor's runtime environment takes them too."""
    wanted = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine core in this process, so that it can be stepped
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; without it a share of all memory, which a second engine would not find free
    }
    if _on_cpu(settings) and settings.options.get("enforce_eager", True):
        wanted["TORCHDYNAMO_DISABLE"] = "1"  # else one small function compiles for 15 s at the first request with log-probabilities
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


class VllmEngine:
    """An `Engine` over vLLM's continuous batching with prefix caching.

    ``options`` are vLLM engine arguments and win over those chosen here. A cancelled request is dropped without an answer. Requests
    in flight during a weight update go on under the new weights, with keys and values computed anew, and keep the policy version
    that they came in with.
    """

    def __init__(
        self, settings: EngineSettings, model_path: str, name: str, seed: int = 0, tokenizer_path: str | None = None
    ) -> None:
        os.environ.update(environment(settings))
        self.name = name
        self.policy_version = 0
        self._engine = _start(_engine_arguments(settings, seed) | {"model": model_path, "tokenizer": tokenizer_path or model_path})
        self._tokenizer = self._engine.get_tokenizer()
        config = self._engine.vllm_config
        self.window: int = config.model_config.max_model_len
        self._in_process = config.parallel_config.world_size == 1
        self._ids = itertools.count()
        self._open: dict[str, OpenRequest] = {}

    def advance(self, requests: Sequence[Request], cancel: Sequence[Ticket], budget_s: float) -> list[Answer]:
        deadline = time.monotonic() + budget_s
        refuse_unfit(requests, self.window)
        self._cancel(set(cancel))
        for request in requests:
            self._accept(request)
        answers: list[Answer] = []
        while self._open and not answers:
            answers = [self._answer(output) for output in self._engine.step() if output.finished]
            if time.monotonic() >= deadline:
                break
        return answers

    def load_weights(self, tensors: Iterable[tuple[str, np.ndarray]], version: int) -> None:
        named = ((name, to_tensor(array)) for name, array in tensors)
        if self._in_process:
            self._engine.collective_rpc("load_named", args=(named,))
        else:
            self._load_through_files(named)
        self._engine.reset_prefix_cache(reset_running_requests=True)
        self.policy_version = version

    def describe(self) -> dict[str, Any]:
        import torch
        import vllm

        config = self._engine.vllm_config
        return {
            "name": self.name,
            "backend": "vllm",
            "pid": os.getpid(),
            "device": str(config.device_config.device),
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "versions": {"torch": torch.__version__, "vllm": vllm.__version__},
            "policy_version": self.policy_version,
        }

    def _accept(self, request: Request) -> None:
        identifier = str(next(self._ids))
        prompt = {"prompt_token_ids": list(request.prompt_ids)}
        try:
            self._engine.add_request(identifier, prompt, _sampling_params(request, self.window))
        except ValueError as error:
            raise CurriculaError(f"engine {self.name}: vLLM refused {request.ticket}: {error}") from error
        self._open[identifier] = OpenRequest(request, self.policy_version)

    def _cancel(self, tickets: set[Ticket]) -> None:
        gone = [identifier for identifier, entry in self._open.items() if entry.request.ticket in tickets]
        if gone:
            self._engine.abort_request(gone)
        for identifier in gone:
            del self._open[identifier]

    def _answer(self, output: Any) -> Answer:
        outputs = sorted(output.outputs, key=lambda completion: completion.index)
        texts = self._tokenizer.batch_decode([list(completion.token_ids) for completion in outputs], skip_special_tokens=True)
        completions = [_completion(completion, text) for completion, text in zip(outputs, texts, strict=True)]
        entry = self._open.pop(output.request_id)
        repeats = entry.request.n // len(completions)
        return entry.answer(completions * repeats, self.name)

    def _load_through_files(self, named: Iterator[tuple[str, Any]]) -> None:
        """One file per chunk: worker processes map them, so nothing is sent through a pipe."""
        from safetensors.torch import save_file

        with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as folder:
            paths = []
            for i, chunk in enumerate(to_chunks(named, DEFAULT_CHUNK_BYTES)):
                paths.append(str(Path(folder) / f"{i}.safetensors"))
                save_file(dict(to_tensors(chunk)), paths[-1])
            self._engine.collective_rpc("load_files", args=(paths,))


def _on_cpu(settings: EngineSettings) -> bool:
    return settings.gpus_per_engine == 0


def _engine_arguments(settings: EngineSettings, seed: int) -> dict[str, Any]:
    """vLLM's own names and defaults except where a rollout needs others."""
    chosen = {
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_tokens or None,
        "max_num_seqs": settings.max_concurrent_rollouts,
        "tensor_parallel_size": max(1, int(settings.gpus_per_engine)),
        "logprobs_mode": "processed_logprobs",  # of the sampling distribution: after temperature and top-p
        "enforce_eager": _on_cpu(settings),
        "enable_prefix_caching": True,
        "worker_extension_cls": "rollout.engines.vllm_worker.WeightLoader",
        "disable_log_stats": True,
        "seed": seed,
    }
    if _on_cpu(settings):
        chosen["enable_chunked_prefill"] = False  # vLLM 0.32 rewinds the generator of a prefill cut in two; a CPU generator cannot
    return chosen | settings.options


def _start(arguments: dict[str, Any]) -> Any:
    from vllm import EngineArgs, LLMEngine

    try:
        engine_args = EngineArgs(**arguments)
    except TypeError as error:
        raise CurriculaError(f"engine.options: vLLM does not take them: {error}") from error
    return LLMEngine.from_engine_args(engine_args)


def _sampling_params(request: Request, window: int) -> Any:
    """vLLM seeds sample i of a request with seed + i, so seeds are scattered first: neighbours must not share samples."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampling = request.sampling
    return SamplingParams(
        n=request.n if sampling.temperature else 1,  # vLLM refuses several greedy samples; `_answer` repeats the one
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=token_limit(request, window),
        seed=scramble(request.seed) >> 2,
        stop=list(sampling.stop),
        detokenize=bool(sampling.stop),  # only stop strings need text on the way; an answer is decoded in one go
        logprobs=0,  # of the drawn token alone
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _completion(output: Any, text: str) -> Completion:
    finish = FinishReason.LENGTH if output.finish_reason == "length" else FinishReason.STOP
    return Completion(np.array(output.token_ids, np.int32), np.array(output.logprobs.logprobs, np.float32), text, finish)

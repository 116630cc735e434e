"""Rollouts in this process with a Hugging Face model and a sampling loop of our own: no server, no vLLM.

Rows (one completion each) of all requests are decoded together. A prompt is prefilled once for all its samples; rows enter as soon
as others have left, and a finished row costs nothing from then on.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.cache_utils import DynamicCache

from curricula.types import CurriculaError
from rollout.engines.draw import Distribution, stream_key, uniforms
from rollout.engines.intake import OpenRequest, refuse_unfit, token_limit
from rollout.engines.kv import ATTENTION, Layers, RowCache
from rollout.engines.stop import StopStrings
from rollout.settings import EngineSettings
from rollout.types import Answer, Completion, FinishReason, Request, Ticket
from rollout.weights import to_tensor

PREFILL_TOKENS = 16384  # padded prompt tokens of one forward pass: bounds its memory
REFILL_SHARE = 8  # rows enter when an eighth of the places is free: a prefill for every single row would be dear


@dataclass(eq=False)
class Row:
    """One completion on its way."""

    of: OpenRequest
    index: int  # among the request's samples
    key: int  # of its random stream
    limit: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: FinishReason | None = None

    @property
    def prefix(self) -> tuple[int, ...]:
        return self.of.request.prompt_ids + tuple(self.token_ids)

    @property
    def position(self) -> int:
        """Of the newest token."""
        return len(self.of.request.prompt_ids) + len(self.token_ids) - 1


class TransformersEngine:
    """An `Engine` over any causal language model of transformers with full attention; on the GPU where there is one.

    ``options`` go to ``from_pretrained``. A cancelled request is dropped without an answer. Requests in flight during a weight
    update go on under the new weights, with keys and values computed anew, and keep the policy version that they came in with.
    """

    def __init__(self, settings: EngineSettings, model_path: str, name: str, tokenizer_path: str | None = None) -> None:
        self.name = name
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer_path or model_path)
        self.model = _load(model_path, settings).to(self.device).eval()
        self.window = settings.max_model_tokens or self.model.config.max_position_embeddings
        self.max_rows = settings.max_concurrent_rollouts
        self.policy_version = 0
        self._eos = _end_tokens(self.model, self.tokenizer)
        self._stops: dict[tuple[str, ...], StopStrings] = {}
        self._waiting: deque[Row] = deque()
        self._finished: dict[OpenRequest, list[Row]] = {}  # rows that are ready, of every open request
        self._rows: list[Row] = []
        self._cache = RowCache(self.model.config.num_hidden_layers, self.max_rows)
        self._clear_rows()

    @torch.inference_mode()
    def advance(self, requests: Sequence[Request], cancel: Sequence[Ticket], budget_s: float) -> list[Answer]:
        deadline = time.monotonic() + budget_s
        refuse_unfit(requests, self.window)
        self._cancel(set(cancel))
        self._accept(requests)
        answers: list[Answer] = []
        while self._finished and not answers:
            answers = self._step()
            if time.monotonic() >= deadline:
                break
        return answers

    @torch.inference_mode()
    def load_weights(self, tensors: Iterable[tuple[str, np.ndarray]], version: int) -> None:
        expected = dict(self.model.named_parameters())  # a tied head is listed once, under the embedding's name
        for name, array in tensors:
            parameter = expected.pop(name, None)
            if parameter is None:
                raise CurriculaError(f"weights of version {version}: {name} is unknown to the engine's model or came twice")
            parameter.copy_(to_tensor(array))
        if expected:
            raise CurriculaError(f"weights of version {version}: {len(expected)} missing, first: {', '.join(list(expected)[:3])}")
        self.policy_version = version
        self._waiting.extendleft(reversed(self._rows))  # their keys and values belong to the old weights
        self._clear_rows()

    def describe(self) -> dict[str, Any]:
        import transformers

        return {
            "name": self.name,
            "backend": "transformers",
            "pid": os.getpid(),
            "device": str(self.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "policy_version": self.policy_version,
        }

    def _accept(self, requests: Sequence[Request]) -> None:
        for request in requests:
            entry = OpenRequest(request, self.policy_version)
            limit = token_limit(request, self.window)
            self._finished[entry] = []
            self._waiting.extend(Row(entry, i, stream_key(request.seed, i), limit) for i in range(request.n))

    def _cancel(self, tickets: set[Ticket]) -> None:
        gone = {entry for entry in self._finished if entry.request.ticket in tickets}
        if not gone:
            return
        for entry in gone:
            del self._finished[entry]
        self._waiting = deque(row for row in self._waiting if row.of not in gone)
        self._leave([i for i, row in enumerate(self._rows) if row.of in gone])

    def _step(self) -> list[Answer]:
        """One token for every row, and the first one of rows that come in."""
        answers = []
        if self._rows:
            logits_RV = self._decode()
            self._draw(self._rows, logits_RV, self._distribution)
            answers += self._collect()
        if self._waiting and self.max_rows - len(self._rows) >= min(len(self._waiting), max(1, self.max_rows // REFILL_SHARE)):
            self._enter()
            answers += self._collect()
        return answers

    def _decode(self) -> torch.Tensor:
        cache = self._cache
        cache.grow()
        logits: torch.Tensor = self.model(
            input_ids=self._tensor([[row.token_ids[-1]] for row in self._rows]),
            position_ids=self._tensor([[row.position] for row in self._rows]),
            attention_mask=self._cache.mask(self.model.dtype, self.device),
            past_key_values=cache,
            use_cache=True,
        ).logits
        cache.extent.end += 1
        return logits[:, -1]

    def _enter(self) -> None:
        """Prefill waiting rows, each distinct prefix once, and draw their next token."""
        rows = self._next_rows()
        prefixes = list(dict.fromkeys(row.prefix for row in rows))
        place = {prefix: i for i, prefix in enumerate(prefixes)}
        layers, logits_UV = self._prefill(prefixes)
        source = [place[row.prefix] for row in rows]
        self._cache.append(layers, source, [len(row.prefix) for row in rows])
        self._rows = self._rows + rows
        self._draw(rows, logits_UV[source], self._distribution_of(rows))
        self._distribution = self._distribution_of(self._rows)

    def _next_rows(self) -> list[Row]:
        """As many waiting rows as there are places and as one prefill may hold."""
        rows: list[Row] = []
        prefixes: set[tuple[int, ...]] = set()
        longest = 0
        while self._waiting and len(self._rows) + len(rows) < self.max_rows:
            prefix = self._waiting[0].prefix
            longest = max(longest, len(prefix))
            prefixes.add(prefix)
            if rows and longest * len(prefixes) > PREFILL_TOKENS:
                break
            rows.append(self._waiting.popleft())
        return rows

    def _prefill(self, prefixes: list[tuple[int, ...]]) -> tuple[Layers, torch.Tensor]:
        """Keys and values of left-padded prefixes, and the logits behind their last tokens."""
        width = max(map(len, prefixes))
        cache: Any = DynamicCache(config=self.model.config)
        mask = self._tensor([[0] * (width - len(p)) + [1] * len(p) for p in prefixes])
        logits = self.model(
            input_ids=self._tensor([[0] * (width - len(p)) + list(p) for p in prefixes]),
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp_(min=0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return [(layer.keys, layer.values) for layer in cache.layers], logits[:, -1]

    def _draw(self, rows: list[Row], logits_RV: torch.Tensor, distribution: Distribution) -> None:
        uniform_R = uniforms([row.key for row in rows], [len(row.token_ids) for row in rows])
        token_R, logprob_R = distribution.draw(logits_RV, uniform_R)
        for row, token, logprob in zip(rows, token_R.tolist(), logprob_R.tolist(), strict=True):
            row.token_ids.append(token)
            row.logprobs.append(logprob)
            row.finish = self._finish_of(row, token)

    def _finish_of(self, row: Row, token: int) -> FinishReason | None:
        stop = row.of.request.sampling.stop
        if token in self._eos or (stop and self._stop_strings(stop).reached(row.token_ids)):
            return FinishReason.STOP
        return FinishReason.LENGTH if len(row.token_ids) >= row.limit else None

    def _collect(self) -> list[Answer]:
        """Take finished rows out; answers of the requests that are complete with them."""
        done = [i for i, row in enumerate(self._rows) if row.finish is not None]
        finished = [self._rows[i] for i in done]
        self._leave(done)
        for row in finished:
            self._finished[row.of].append(row)
        complete = [entry for entry in dict.fromkeys(row.of for row in finished) if len(self._finished[entry]) == entry.request.n]
        return [self._answer(entry, self._finished.pop(entry)) for entry in complete]

    def _answer(self, entry: OpenRequest, rows: list[Row]) -> Answer:
        rows.sort(key=lambda row: row.index)
        texts = self.tokenizer.batch_decode([row.token_ids for row in rows], skip_special_tokens=True)
        return entry.answer([_completion(row, text) for row, text in zip(rows, texts, strict=True)], self.name)

    def _leave(self, indices: list[int]) -> None:
        if not indices:
            return
        if len(indices) == len(self._rows):
            self._clear_rows()
            return
        self._rows = [self._rows[was] for was in self._cache.drop(indices)]
        self._distribution = self._distribution_of(self._rows)

    def _clear_rows(self) -> None:
        self._rows = []
        self._cache.clear()
        self._distribution = self._distribution_of([])

    def _distribution_of(self, rows: list[Row]) -> Distribution:
        return Distribution.of([row.of.request.sampling for row in rows], self.device)

    def _stop_strings(self, stop: tuple[str, ...]) -> StopStrings:
        if stop not in self._stops:
            self._stops[stop] = StopStrings(stop, self.tokenizer)
        return self._stops[stop]

    def _tensor(self, values: list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, device=self.device)


def _load(model_path: str, settings: EngineSettings) -> Any:
    """The model with this package's attention; CurriculaError for attention that it does not compute."""
    dtype = settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype)
    arguments = {"dtype": dtype, "attn_implementation": ATTENTION} | settings.options
    model = AutoModelForCausalLM.from_pretrained(model_path, **arguments)
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise CurriculaError(
            f"engine: {model_path} has layers of kind {', '.join(sorted(kinds))}; the transformers engine computes full attention "
            "only; use engine.backend: vllm"
        )
    return model


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """End-of-sequence ids of the generation config and the tokenizer."""
    declared = model.generation_config.eos_token_id
    ids = declared if isinstance(declared, list) else [declared]
    return frozenset(int(i) for i in [*ids, tokenizer.eos_token_id] if i is not None)


def _completion(row: Row, text: str) -> Completion:
    finish = row.finish or FinishReason.CANCELLED
    return Completion(np.array(row.token_ids, np.int32), np.array(row.logprobs, np.float32), text, finish)

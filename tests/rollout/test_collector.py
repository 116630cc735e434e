"""One step's attempts: refills, admission in plan order, failures, and prompts that do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula import Curriculum
from curricula.stages import Stateless
from curricula.types import CurriculaError, Floats, Ints, Outcome, PromptPool, Reason, Status
from rollout.collector import PART, Collector, EncodedPrompts
from rollout.prompts import Prompt, PromptSet, RewardSpec, encode
from rollout.settings import RolloutSettings
from rollout.types import Completion, FinishReason, Judged, Request, Ticket
from tests.tiny import character_tokenizer


class Scripted:
    """A producer whose rewards depend on the prompt alone: "mixed" prompts have a signal, the others do not."""

    def __init__(self, status: Status = Status.OK) -> None:
        self.requests: list[Request] = []
        self._status = status

    def produce(self, requests: Sequence[Request], prompt_of: Mapping[Ticket, Prompt]) -> dict[Ticket, list[Judged]]:
        self.requests.extend(requests)
        return {request.ticket: [self._judged(prompt_of[request.ticket], i) for i in range(request.n)] for request in requests}

    def _judged(self, prompt: Prompt, i: int) -> Judged:
        completion = Completion(np.zeros(3, np.int32), np.zeros(3, np.float32), "x", FinishReason.STOP)
        reward = float(i % 2) if prompt.answer == "mixed" else 0.0
        failed = self._status is not Status.OK
        return Judged(completion, self._status, float("nan") if failed else reward, 0, "engine", "boom" if failed else "")


def collector(producer: Any, share_mixed: float = 0.5, **settings: Any) -> tuple[Collector, Curriculum]:
    prompts = [Prompt(f"p{i:03d}", "d", "1", "mixed" if i % 10 < 10 * share_mixed else "dull") for i in range(200)]
    prompt_set = PromptSet(prompts, RewardSpec("exact"))
    curriculum = Curriculum.from_recipe({"filter": {"name": "nonzero_variance", "refill": "resample"}}, prompt_set.pool)
    rollout = RolloutSettings(groups_per_step=10, rollouts_per_group=4, **settings)
    return Collector(curriculum, EncodedPrompts(prompt_set, [(1,)] * 200), producer, rollout, seed=0), curriculum


def test_refills_until_the_step_has_its_groups_and_the_rest_is_surplus() -> None:
    collect, _ = collector(Scripted(), max_attempts=8)
    attempts = collect.collect(0)
    kept = [attempt.verdict.kept_B for attempt in attempts]
    assert sum(int(k.sum()) for k in kept) == 10
    prompts = np.concatenate([attempt.plan.selection.prompt_B for attempt in attempts])
    assert len(set(prompts.tolist())) == len(prompts), "no prompt twice in a step"
    last = attempts[-1].verdict
    surplus = np.flatnonzero(last.reason_B == Reason.SURPLUS)
    assert not len(surplus) or surplus.min() > np.flatnonzero(last.kept_B).max(), "admission follows plan order"
    assert not last.carries_gradient_R[np.isin(attempts[-1].outcome.group_R, surplus)].any()


def test_attempts_and_rollouts_are_capped() -> None:
    dull = Scripted()
    attempts = collector(dull, share_mixed=0.0, max_attempts=3, max_rollouts_per_step=1000)[0].collect(0)
    assert len(attempts) == 3
    capped = Scripted()
    collector(capped, share_mixed=0.0, max_attempts=9, max_rollouts_per_step=60)[0].collect(0)
    assert sum(request.n for request in capped.requests) <= 60


def test_a_large_group_is_split_and_comes_back_whole() -> None:
    producer = Scripted()
    prompts = [Prompt(f"p{i}", "d", "1", "mixed") for i in range(4)]
    prompt_set = PromptSet(prompts, RewardSpec("exact"))
    curriculum = Curriculum.from_recipe("uniform", prompt_set.pool)
    settings = RolloutSettings(groups_per_step=2, rollouts_per_group=2 * PART + 1)
    (attempt,) = Collector(curriculum, EncodedPrompts(prompt_set, [(1,)] * 4), producer, settings, 0).collect(0)
    assert [len(group) for group in attempt.judged_B] == [2 * PART + 1] * 2
    assert sorted(request.n for request in producer.requests) == [1, 1, PART, PART, PART, PART]
    assert len({request.seed for request in producer.requests}) == 6


@dataclass(frozen=True)
class Halved(Stateless):
    """Half the reward, less a token's worth; limits of 0, 5 and 900 tokens in turn."""

    def shape(self, state: Any, pool: PromptPool, outcome: Outcome) -> Floats:
        return outcome.reward_R / 2 - outcome.n_tokens_R

    def limit(self, state: Any, pool: PromptPool, prompt_B: Ints) -> Ints:
        return np.array([0, 5, 900])[np.arange(len(prompt_B)) % 3]


def shaped_attempt(shaping: Any, producer: Any) -> Any:
    prompt_set = PromptSet([Prompt(f"p{i}", "d", "1", "mixed") for i in range(6)], RewardSpec("exact"))
    curriculum = Curriculum.from_recipe({"shaping": shaping}, prompt_set.pool)
    settings = RolloutSettings(groups_per_step=3, rollouts_per_group=4)
    return Collector(curriculum, EncodedPrompts(prompt_set, [(1,)] * 6), producer, settings, 0).collect(0)[0]


def test_groups_get_their_own_token_limit_and_never_more_than_the_recipe_allows() -> None:
    producer, plain = Scripted(), Scripted()
    attempt = shaped_attempt(Halved(), producer)
    assert attempt.plan.max_tokens_B.tolist() == [0, 5, 900]
    limits = {request.ticket.group: request.sampling.max_tokens for request in producer.requests}
    assert [limits[int(group)] for group in attempt.plan.group_B] == [256, 5, 256]
    shaped_attempt("raw", plain)
    assert {request.sampling for request in plain.requests} == {RolloutSettings().sampling}


def test_an_attempt_keeps_raw_and_shaped_rewards() -> None:
    attempt = shaped_attempt(Halved(), Scripted())
    assert attempt.outcome.reward_R.tolist() == [0, 1, 0, 1] * 3
    assert attempt.shaped_R.tolist() == [-3, -2.5, -3, -2.5] * 3
    raw = shaped_attempt("raw", Scripted())
    np.testing.assert_array_equal(raw.shaped_R, raw.outcome.reward_R)


def test_a_verifier_that_always_raises_stops_the_run_with_its_reason() -> None:
    with pytest.raises(CurriculaError, match=r"step 0: 40 of 40 rollouts have no reward \(40 error\).*first reason: boom"):
        collector(Scripted(Status.ERROR), max_attempts=1)[0].collect(0)


def test_prompts_over_the_window_are_refused_or_left_out(tmp_path: Path) -> None:
    prompts = [Prompt("short", "d", "1+1=", "2"), Prompt("long", "d", "1+" * 40 + "1=", "41")]
    prompt_set = PromptSet(prompts, RewardSpec("exact"))
    tokenizer = character_tokenizer()
    with pytest.raises(
        CurriculaError, match=r"1 of 2 are longer than the 50 tokens .*: long \(82 tokens\); set rollout\.drop_long_prompts"
    ):
        encode(prompt_set, tokenizer, 50)
    kept, ids = encode(prompt_set, tokenizer, 50, drop_long=True)
    assert [prompt.id for prompt in kept.prompts] == ["short"]
    assert [len(tokens) for tokens in ids] == [4]

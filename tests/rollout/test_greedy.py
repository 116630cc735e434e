"""Greedy completions on their way: requests, verdicts, shaping, caps and the log; they are no rollouts of their group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula import Curriculum
from curricula.stages import Stateless, Unlimited
from curricula.types import CurriculaError, Floats, Outcome, PromptPool, Status
from rollout.collector import PART, Collector, EncodedPrompts
from rollout.journal import seal
from rollout.log import ROLLOUTS, RolloutLog, read_log, read_texts
from rollout.prompts import Prompt, PromptSet, RewardSpec
from rollout.settings import RolloutSettings
from rollout.types import Attempt, Completion, FinishReason, Judged, Request, Ticket


class Scripted:
    """Rollouts are right in turn; a greedy completion is right for prompts with an even number. Texts tell the two apart."""

    def __init__(self, failing: str = "") -> None:
        self.requests: list[Request] = []
        self._failing = failing

    def produce(self, requests: Sequence[Request], prompt_of: Mapping[Ticket, Prompt]) -> dict[Ticket, list[Judged]]:
        self.requests.extend(requests)
        answers = {r.ticket: [self._judged(r, prompt_of[r.ticket], i) for i in range(r.n)] for r in reversed(requests)}
        assert len(answers) == len(requests), "tickets are unique"
        return answers

    def _judged(self, request: Request, prompt: Prompt, i: int) -> Judged:
        kind = "greedy" if request.sampling.temperature == 0 else "drawn"
        n_tokens = 7 if kind == "greedy" else 3
        completion = Completion(np.zeros(n_tokens, np.int32), np.zeros(n_tokens, np.float32), kind, FinishReason.STOP)
        if self._failing == kind:
            return Judged(completion, Status.ERROR, float("nan"), 0, "engine", "boom")
        right = int(prompt.id[1:]) % 2 == 0 if kind == "greedy" else i % 2 == 1
        return Judged(completion, Status.OK, float(right), 0, "engine")


def collector(producer: Any, curriculum: dict[str, Any], groups: int = 4, rollouts: int = 5, **settings: Any) -> Collector:
    prompts = [Prompt(f"p{i:03d}", "d", "1", "x") for i in range(200)]
    prompt_set = PromptSet(prompts, RewardSpec("exact"))
    built = Curriculum.from_recipe({"budget": "remax", **curriculum}, prompt_set.pool)
    rollout = RolloutSettings(groups_per_step=groups, rollouts_per_group=rollouts, **settings)
    return Collector(built, EncodedPrompts(prompt_set, [(1,)] * 200), producer, rollout, seed=0)


def parity(attempt: Attempt) -> list[float]:
    return [float(int(row) % 2 == 0) for row in attempt.plan.selection.prompt_B]


def test_each_group_has_one_greedy_request_of_its_own_and_it_is_no_rollout() -> None:
    producer = Scripted()
    (attempt,) = collector(producer, {}).collect(0)
    greedy = [request for request in producer.requests if request.sampling.temperature == 0]
    assert [request.ticket.group for request in greedy] == attempt.plan.group_B.tolist()
    assert {request.n for request in greedy} == {1}
    drawn = [request for request in producer.requests if request.sampling.temperature > 0]
    assert {replace(request.sampling, temperature=0.0) for request in drawn} == {request.sampling for request in greedy}
    assert len({request.seed for request in producer.requests}) == len(producer.requests) == 8
    assert [len(group) for group in attempt.judged_B] == [4] * 4
    assert {judged.completion.text for group in attempt.judged_B for judged in group} == {"drawn"}
    assert attempt.outcome.reward_R.tolist() == [0, 1, 0, 1] * 4
    assert [one.completion.text for one in attempt.greedy_B if one] == ["greedy"] * 4
    assert attempt.outcome.baseline_B.tolist() == attempt.baseline_B.tolist() == parity(attempt)
    assert len(set(parity(attempt))) == 2


def test_by_default_nothing_is_asked_for() -> None:
    producer = Scripted()
    (attempt,) = collector(producer, {"budget": "even"}).collect(0)
    assert {request.sampling for request in producer.requests} == {RolloutSettings().sampling}
    assert attempt.greedy_B == [None] * 4
    assert np.isnan(attempt.outcome.baseline_B).all()
    assert np.isnan(attempt.baseline_B).all()


def test_a_group_that_is_split_keeps_its_greedy_completion_apart() -> None:
    producer = Scripted()
    (attempt,) = collector(producer, {}, groups=2, rollouts=2 * PART + 2).collect(0)
    assert [len(group) for group in attempt.judged_B] == [2 * PART + 1] * 2
    assert sorted(request.n for request in producer.requests) == [1, 1, 1, 1, PART, PART, PART, PART]
    assert attempt.outcome.baseline_B.tolist() == parity(attempt)


def test_further_rounds_ask_for_no_second_one() -> None:
    producer = Scripted()
    budget = {"name": "remax", "inner": {"name": "speed", "n_init": 2, "n_cont": 3}}
    (attempt,) = collector(producer, {"budget": budget}, rollouts=6).collect(0)
    assert attempt.plan.round == 1
    assert [len(group) for group in attempt.judged_B] == [5] * 4
    assert sum(request.sampling.temperature == 0 for request in producer.requests) == 4
    assert attempt.outcome.baseline_B.tolist() == parity(attempt)
    assert attempt.plan.greedy_B.all()


def test_the_steps_cap_counts_them() -> None:
    producer = Scripted()
    band = {"name": "difficulty_band", "low": 0.9, "high": 0.95}  # rejects every group, so that refills go on to the cap
    collector(producer, {"filter": band}, max_attempts=9, max_rollouts_per_step=43).collect(0)
    # 20 are spent, 23 left: four more groups of 5. Counted without the greedy ones 27 would be left, for five groups
    assert sum(request.n for request in producer.requests) == 40


def test_without_a_verdict_there_is_no_baseline_and_it_counts_as_a_failure() -> None:
    (attempt,) = collector(Scripted("greedy"), {}).collect(0)  # 4 of 20: within the limit of 0.2
    assert np.isnan(attempt.outcome.baseline_B).all()
    assert [one.status for one in attempt.greedy_B if one] == [Status.ERROR] * 4
    strict = replace(RolloutSettings().verifier, max_failure_share=0.1)
    with pytest.raises(CurriculaError, match=r"4 of 20 rollouts have no reward \(4 error\).*boom"):
        collector(Scripted("greedy"), {}, verifier=strict).collect(0)


@dataclass(frozen=True)
class Halved(Unlimited, Stateless):
    """Half the reward, less a hundredth per token."""

    def shape(self, state: Any, pool: PromptPool, outcome: Outcome) -> Floats:
        return np.asarray(outcome.reward_R / 2 - outcome.n_tokens_R / 100)


def test_the_greedy_completion_is_shaped_as_the_rollouts_are() -> None:
    (attempt,) = collector(Scripted(), {"shaping": Halved()}).collect(0)
    assert attempt.shaped_R.tolist() == pytest.approx([-0.03, 0.47, -0.03, 0.47] * 4)
    assert attempt.baseline_B.tolist() == pytest.approx([right / 2 - 0.07 for right in parity(attempt)])
    assert attempt.outcome.baseline_B.tolist() == parity(attempt), "what is measured stays raw"


def test_a_groups_token_limit_holds_for_it_too() -> None:
    producer = Scripted()
    collector(producer, {"shaping": {"name": "length_budget", "budget": 9, "enforce": True}}).collect(0)
    assert {request.sampling.max_tokens for request in producer.requests} == {9}


def test_the_log_keeps_it_per_group(tmp_path: Path) -> None:
    collect = collector(Scripted(), {"shaping": Halved()})
    (attempt,) = collect.collect(0)
    missing = replace(attempt, greedy_B=[None, *attempt.greedy_B[1:]], baseline_B=np.array([np.nan, *attempt.baseline_B[1:]]))
    pool = PromptPool.from_columns([f"p{i:03d}" for i in range(200)], ["d"] * 200)
    log = RolloutLog(tmp_path)
    log.append_attempt(pool, missing)
    log.commit()
    log.close()
    first, *groups, whole = read_log(tmp_path)
    assert first["greedy"] is None
    for group, right in zip(groups, parity(attempt)[1:], strict=True):
        assert group["greedy"] == {
            "reward": right,
            "shaped": pytest.approx(right / 2 - 0.07),
            "status": "ok",
            "n_tokens": 7,
            "finish": "stop",
            "version": 0,
            "engine": "engine",
        }
        assert group["n_tokens"] == [3] * 4
        assert group["n_asked"] == 4
    assert (whole["n_rollouts"], whole["n_greedy"], whole["n_unspent"]) == (16, 4, 0)
    assert [record["greedy"] for record in read_texts(tmp_path)] == [None, "greedy", "greedy", "greedy"]


def test_a_log_from_before_has_none(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"kind": "group", "run": "a", "rewards": [1.0, 0.0]},
        {"kind": "attempt", "run": "a", "refill": "none"},
        {"kind": "commit", "schema": 1, "run": "a", "texts_bytes": 0},
    ]
    (tmp_path / ROLLOUTS).write_bytes(b"".join(seal(line) for line in lines))
    group, whole = read_log(tmp_path)
    assert group["greedy"] is None
    assert whole["n_greedy"] == 0

"""What hosts of a curriculum share: ids, outcomes, advantages by group, refills, places of a batch, state."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, Reason, Status
from curricula.hosting import (
    Advantage,
    Host,
    HostedBatch,
    HostedStep,
    curriculum_of,
    load,
    next_step,
    outcome_of,
    pool_of,
    prompt_id,
    save,
)
from curricula.rows import id_from_text

HOST = Host("demo", group_size=4, n_groups=3, max_tokens=64)


def pool(n: int = 24) -> Any:
    return pool_of([f"{i}+{i}=" for i in range(n)], distributions=[f"d{i % 3}" for i in range(n)])


def batch(curriculum: Curriculum, host: Host = HOST, step: int = 0, scores: Any = None, max_attempts: int = 4) -> HostedBatch:
    """One batch; ``scores(plan)`` gives its rewards (1, 0, 1, 0, ... by default)."""
    attempts = HostedStep(curriculum, host, step, max_attempts)
    while (plan := attempts.next_plan()) is not None:
        reward_R = np.arange(plan.n_rollouts) % 2.0 if scores is None else scores(plan)
        n = len(reward_R)
        attempts.take(outcome_of(plan, reward_R, np.full(n, 5), np.zeros(n, bool), version=step, reward_range=(0.0, 1.0)))
    return attempts.finish(Advantage())


def test_ids_come_from_the_prompt_where_there_are_none():
    chat = [{"role": "user", "content": "2+2="}]
    made = pool_of([chat, "2+2="])
    assert made.ids.tolist() == [prompt_id(chat), prompt_id("2+2=")]
    assert prompt_id([{"content": "2+2=", "role": "user"}]) == prompt_id(chat)
    assert pool_of(["a", "a"], ids=[7, 8]).ids.tolist() == ["7", "8"]
    with pytest.raises(CurriculaError, match=r"rows 1 and 3 of the data set have the same prompt.*\(2 such rows\)"):
        pool_of(["a", "b", "c", "b", "b"])
    with pytest.raises(CurriculaError, match="a prompt is no text and no chat messages"):
        prompt_id([{"role": "user", "content": object()}])


def test_rewards_that_are_missing_cut_or_off_by_rounding():
    plan = Curriculum.from_recipe("uniform", pool()).plan(0, 1, 4)
    outcome = outcome_of(plan, [np.nan, np.inf, 1.0 + 3e-8, 1.0], [1, 2, 3, 4], [False, False, False, True], 9, (0.0, 1.0))
    assert outcome.status_R.tolist() == [Status.INVALID, Status.INVALID, Status.OK, Status.TRUNCATED]
    assert outcome.reward_R[2] == 1.0
    assert outcome.policy_version_R.tolist() == [9] * 4
    with pytest.raises(CurriculaError, match="declare the reward function's reward_range"):
        outcome_of(plan, [0, 0, 0, 1.01], [1] * 4, [False] * 4, 0, (0.0, 1.0))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_compare_peers_of_a_group_alone(scale):
    reward_R, group_R = np.array([1.0, 0.0, 0.0, 0.3, 0.3, 0.9, np.nan]), np.array([0, 0, 0, 1, 1, 2, 0])
    peers_R = np.array([True] * 6 + [False])
    found_R = Advantage(scale, 1e-4).of(reward_R, group_R, peers_R, 3)
    first = np.array([1.0, 0.0, 0.0])
    std = {"group": first.std(ddof=1) + 1e-4, "batch": reward_R[:6].std(ddof=1) + 1e-4, "none": 1.0}[scale]
    assert found_R[:3] == pytest.approx((first - first.mean()) / std)
    assert found_R[3:].tolist() == [0.0] * 4  # equal rewards, alone, no reward: exactly 0


def test_a_filter_that_refills_gets_other_prompts_and_a_full_batch():
    curriculum = Curriculum.from_recipe("nonzero_variance", pool())
    calls = count()
    found = batch(
        curriculum, scores=lambda plan: np.zeros(plan.n_rollouts) if next(calls) == 0 else np.arange(plan.n_rollouts) % 2.0
    )
    assert [feedback.plan.attempt for feedback in found.attempts] == [0, 1]
    rows = np.concatenate([feedback.plan.selection.prompt_B for feedback in found.attempts])
    assert len(np.unique(rows)) == len(rows)
    whole = found.whole
    assert whole.verdict.kept_B.sum() == 3
    assert Reason.SURPLUS in whole.verdict.reason_B  # a quarter is expected to be kept, so more came than were missing
    place_P, first_P = found.places(12)
    assert first_P.all()
    assert whole.verdict.carries_gradient_R[place_P].all()
    assert (np.abs(found.advantages(Advantage())[place_P]) > 0.5).all()
    assert curriculum.metrics()["n_seen_prompts"] == len(rows)  # it learned from all of them


def test_attempts_are_bounded_and_what_is_missing_repeats_nothing_that_counts():
    found = batch(Curriculum.from_recipe("nonzero_variance", pool()), scores=lambda plan: np.zeros(plan.n_rollouts), max_attempts=2)
    assert len(found.attempts) == 2
    assert not found.advantages(Advantage()).any()
    assert found.metrics()["n_trained_rollouts"] == 0
    place_P, first_P = found.places(12)
    assert first_P.all()
    place_P, first_P = found.places(100)
    assert first_P.sum() == len(found.whole.outcome.group_R) < 100
    assert not place_P[~first_P].any()


def test_further_rounds_join_the_attempt():
    recipe = {"budget": {"name": "speed", "n_init": 2}, "filter": {"name": "nonzero_variance", "refill": "none"}}
    found = batch(Curriculum.from_recipe(recipe, pool()), Host("demo", group_size=8, n_groups=3, max_tokens=64))
    (feedback,) = found.attempts
    assert feedback.plan.round >= 1
    n_B = np.bincount(feedback.outcome.group_R, minlength=len(feedback.plan))
    assert n_B.tolist() == feedback.plan.n_rollouts_B.tolist()
    assert n_B.sum() <= 24


def test_weights_and_shaping_are_for_the_learner_alone():
    curriculum = Curriculum.from_recipe({"filter": "soft_weights", "shaping": {"name": "length_budget", "budget": 5}}, pool())
    found = batch(curriculum)
    whole = found.whole
    rule = Advantage("none")
    shaped_R = np.concatenate(found.shaped)
    assert not np.array_equal(shaped_R, whole.outcome.reward_R)
    expected_R = (shaped_R - shaped_R.reshape(3, 4).mean(1).repeat(4)) * whole.verdict.weight_B.repeat(4)
    assert found.advantages(rule) == pytest.approx(expected_R)
    raw_R = np.arange(12) % 2.0
    assert whole.advantage_R == pytest.approx((raw_R - 0.5) / (raw_R[:4].std(ddof=1) + 1e-6))


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        ("remax", {}, "greedy completions beside the rollouts"),
        ("multi_attempt", {}, "several answers per rollout"),
        ({"shaping": {"name": "length_budget", "budget": 9, "enforce": True}}, {}, "completions of at most 9 tokens"),
        (
            "nonzero_variance",
            {"one_plan": "pictures are prepared once"},
            "further rollouts in the same batch.*pictures are prepared once",
        ),
    ],
)
def test_what_a_host_cannot_do_is_refused_with_the_reason(recipe, change, message):
    with pytest.raises(CurriculaError, match=message):
        batch(Curriculum.from_recipe(recipe, pool()), replace(HOST, **change), scores=lambda plan: np.zeros(plan.n_rollouts))


def test_sizes_that_a_host_cannot_vary_are_refused():
    recipe = {
        "belief": {"name": "beta", "forgetting": 0.0},
        "selector": "sequential",
        "budget": {"name": "knapsack", "value": "plug_in"},
    }
    curriculum, fixed = Curriculum.from_recipe(recipe, pool(6)), replace(HOST, one_size="it asks for 4")
    rng = np.random.default_rng(0)

    def by_chance(plan: Any) -> Any:
        return (rng.random(plan.n_rollouts) < plan.selection.prompt_B.repeat(plan.n_rollouts_B) / 6) * 1.0

    def steps() -> None:
        for step in range(20):
            batch(curriculum, fixed, step, by_chance)

    with pytest.raises(CurriculaError, match=r"demo: the recipe asks for groups of \[.*\] rollouts, but it asks for 4"):
        steps()


def test_state_lies_beside_a_checkpoint_with_what_the_host_adds(tmp_path):
    curriculum = Curriculum.from_recipe("dump_ucb", pool())
    for step in range(3):
        batch(curriculum, step=step)
    save(tmp_path / "checkpoint-3", curriculum, {"next_batch": 3, "log": (10, 20)})
    again = Curriculum.from_recipe("dump_ucb", pool())
    facts = load(tmp_path / "checkpoint-3", again)
    assert (int(facts["next_batch"]), facts["log"].tolist()) == (3, [10, 20])
    assert next_step(again) == 3
    assert next_step(Curriculum.from_recipe("dump_ucb", pool())) == 0
    assert again.plan(3, 3, 12).selection.prompt_B.tolist() == curriculum.plan(3, 3, 12).selection.prompt_B.tolist()
    with pytest.raises(CurriculaError, match="the data set changed between save and resume"):
        load(tmp_path / "checkpoint-3", Curriculum.from_recipe("dump_ucb", pool(25)))
    with pytest.raises(CurriculaError, match="written without a curriculum"):
        load(tmp_path / "checkpoint-4", again)


def test_a_curriculum_of_other_prompts_is_refused():
    made = Curriculum.from_recipe("uniform", pool())
    assert curriculum_of(made, pool(), seed=0) is made
    with pytest.raises(CurriculaError, match="it was made for 24 prompts"):
        curriculum_of(made, pool(25), seed=0)


def test_ids_are_those_of_prompt_files_and_imported_logs():
    chat = [{"role": "user", "content": "2+2="}]
    assert pool_of([chat, "3+4="], distributions=["add", "all"]).ids.tolist() == [
        id_from_text("add", chat),
        id_from_text("all", "3+4="),
    ]

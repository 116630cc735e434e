"""Outcomes written by hand, group by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from curricula import Outcome, PromptPool, RolloutPlan, Selection, group_ids

Groups = Callable[..., Outcome]


def outcome_of(
    rewards: Sequence[Sequence[float]],
    pool: PromptPool | None = None,
    prompts: Sequence[int] | None = None,
    step: int = 0,
    version: int = 0,
    reward_range: tuple[float, float] = (0.0, 1.0),
) -> Outcome:
    """One group per list of rewards, of prompts 0, 1, ... unless named; None is a rollout that the verifier gave up on."""
    prompt_B = np.arange(len(rewards)) if prompts is None else np.asarray(prompts)
    arm_B = np.zeros(len(rewards), np.int64) if pool is None else pool.distribution_N[prompt_B]
    sizes = np.array([len(group) for group in rewards])
    plan = RolloutPlan(
        step, 0, 0, Selection(prompt_B, arm_B, np.ones(len(sizes))), sizes, group_ids(step, 0, len(sizes)), np.ones(1)
    )
    flat = [reward for group in rewards for reward in group]
    reward_R = np.array([np.nan if reward is None else reward for reward in flat], dtype=np.float64)
    status_R = np.array([1 if reward is None else 0 for reward in flat], dtype=np.uint8)
    group_R = np.repeat(np.arange(len(sizes)), sizes)
    return Outcome(plan, group_R, reward_R, status_R, group_R * 0 + 3, group_R * 0 + version, reward_range)


@pytest.fixture
def groups() -> Groups:
    return outcome_of

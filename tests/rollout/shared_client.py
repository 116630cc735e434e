"""A loop that learns with somebody else's curriculum: made rewards, no model."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from curricula import Feedback, Outcome, PromptPool, RolloutPlan, Status

N_PROMPTS, N_GROUPS, N_ROLLOUTS = 240, 8, 32


def pool(n: int = N_PROMPTS) -> PromptPool:
    return PromptPool.from_columns([f"p{i:04d}" for i in range(n)], [("easy", "middle", "hard")[i % 3] for i in range(n)])


def came(plan: RolloutPlan) -> Outcome:
    """Rewards that depend on prompt and step alone, so that it does not matter who rolls them out, and when."""
    group_R = np.repeat(np.arange(len(plan)), plan.n_rollouts_B)
    prompt_R = plan.selection.prompt_B[group_R]
    number_R = np.arange(len(group_R)) - np.repeat(np.cumsum(plan.n_rollouts_B) - plan.n_rollouts_B, plan.n_rollouts_B)
    value_R = (prompt_R * 7919 + number_R * 104729 + plan.step * 31) % 97
    status_R = np.where(value_R == 13, Status.TIMEOUT, Status.OK).astype(np.uint8)
    reward_R = np.where(status_R == Status.OK, (value_R % 3 < 1 + prompt_R % 2).astype(float), np.nan)
    return Outcome(plan, group_R, reward_R, status_R, 5 + value_R % 11, np.full(len(group_R), plan.step))


def learn(curriculum: Any, plan: RolloutPlan) -> Feedback:
    """Roll out, judge, update."""
    outcome = came(plan)
    feedback = Feedback(outcome, curriculum.judge(outcome))
    curriculum.update(feedback)
    return feedback


def work(name: str, steps: list[int], n_clients: int) -> list[tuple[int, int, list[int]]]:
    """A client in a process of its own: step, attempt and prompts of each of its plans.

    Clients race inside a step and wait for each other between steps, as ranks of one training run do: all plans of a step are
    made before its first update, all its updates before the next step's first plan.
    """
    from rollout.shared_curriculum import connect

    curriculum, mine = connect(name, pool()), []
    for step in steps:
        plan = curriculum.plan(step, N_GROUPS, N_ROLLOUTS)
        mine.append((plan.step, plan.attempt, plan.selection.prompt_B.tolist()))
        _wait(curriculum, (2 * step + 1) * n_clients)
        learn(curriculum, plan)
        _wait(curriculum, (2 * step + 2) * n_clients)
    return mine


def _wait(curriculum: Any, n_entries: int) -> None:
    while curriculum.facts()["n_entries"] < n_entries:
        time.sleep(0.001)

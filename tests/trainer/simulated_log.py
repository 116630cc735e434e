"""Logs that the simulator makes itself, so that the truth behind them is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curricula import Curriculum
from curricula.types import PromptPool
from replay.types import LoggedRun
from trainer.simulate.run import collect, learn
from trainer.simulate.setting import Setting
from trainer.simulate.student import Student, make_pool


class Made(NamedTuple):
    """A log, and the true mean pass rates of its distributions before the first step and after the last."""

    run: LoggedRun
    before_K: np.ndarray
    after_K: np.ndarray


def made_log(setting: Setting, seed: int, recipe: str = "uniform") -> Made:
    """What ``recipe`` chooses, and what the simulated student makes of it."""
    pool = make_pool(setting, seed)
    student, curriculum = Student(setting, pool, seed), Curriculum.from_recipe(recipe, pool, seed)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("prompt", "step", "group", "reward", "kept", "attempt")}
    before_K, n_groups = _means(student.pass_rates(), pool), 0
    for step in range(setting.steps):
        attempts = collect(curriculum, student, setting, step, setting.budget, seed)
        learn(curriculum, student, attempts)
        for outcome, verdict, _ in attempts:
            n = len(outcome.plan)
            columns["prompt"].append(outcome.plan.selection.prompt_B)
            columns["step"].append(np.full(n, step))
            columns["attempt"].append(np.full(n, outcome.plan.attempt))
            columns["kept"].append(verdict.kept_B)
            columns["group"].append(outcome.group_R + n_groups)
            columns["reward"].append(outcome.reward_R)
            n_groups += n
    return Made(
        _run(pool, {name: np.concatenate(parts) for name, parts in columns.items()}), before_K, _means(student.pass_rates(), pool)
    )


def write_jsonl(run: LoggedRun, path: Path) -> dict[str, object]:
    """The log as a JSONL file; returns the format that reads it."""
    prompt_R, step_R = run.prompt_G[run.group_R], run.step_G[run.group_R]
    rows = (
        {
            "id": str(run.pool.ids[prompt]),
            "level": str(run.pool.distribution_names[run.pool.distribution_N[prompt]]),
            "group": int(group),
            "step": int(step),
            "reward": float(reward),
        }
        for prompt, step, group, reward in zip(prompt_R, step_R, run.group_R, run.reward_R, strict=True)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"id": "id", "group": "group", "step": "step", "distribution": "level"}


def _means(rate_N: np.ndarray, pool: PromptPool) -> np.ndarray:
    return np.bincount(pool.distribution_N, rate_N) / pool.size_K


def _run(pool: PromptPool, columns: dict[str, np.ndarray]) -> LoggedRun:
    n_groups, n_rollouts = len(columns["prompt"]), len(columns["reward"])
    return LoggedRun(
        source="made",
        pool=pool,
        prompt_G=columns["prompt"],
        step_G=columns["step"],
        group_R=columns["group"],
        reward_R=columns["reward"],
        status_R=np.zeros(n_rollouts, np.uint8),
        n_tokens_R=np.full(n_rollouts, 10),
        policy_version_R=np.full(n_rollouts, -1),
        propensity_G=np.full(n_groups, np.nan),
        arm_probability_G=np.full(n_groups, np.nan),
        kept_G=columns["kept"].astype(np.uint8),
        attempt_G=columns["attempt"],
    )

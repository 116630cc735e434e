"""verl 0.7.1's data loader with a curriculum as its sampler; 30 s, nearly all of them verl's import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula import Curriculum, Feedback, PromptPool
from curricula.hosting import outcome_of
from tests.trainer.integrations.verl_packages import environment

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("verl")
    variables = os.environ | {"PYTHONPATH": environment("verl-0.7.1", "verl")}
    command = [sys.executable, "-W", "ignore", "-m", "tests.trainer.integrations.verl_sampler_run", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=500)
    assert (folder / "out.json").exists(), done.stderr[-6000:]
    result: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return result


def test_verl_trains_on_what_the_curriculum_chooses_without_lag(out: dict[str, Any]) -> None:
    """The same curriculum in a plain loop, which learns from each batch before it plans the next, chooses the same prompts."""
    assert out["version"] == "0.7.1"
    kinds = ["easy" if i % 2 else "hard" for i in range(12)]
    pool = PromptPool.from_columns([f"{kind}/{i // 2}" for i, kind in enumerate(kinds)], kinds)
    curriculum = Curriculum.from_recipe("dump_ucb", pool, seed=5)
    for step, chosen in enumerate(out["chosen"]):
        plan = curriculum.plan(step, 4, 8)
        assert [f"q{row}" for row in plan.selection.prompt_B] == chosen
        plan = replace(plan, n_rollouts_B=np.full(4, 4))
        reward_R = np.concatenate([([0.0] * 4, [1.0] * 4, [1.0, 0, 1.0, 0], [0.0] * 4)[row % 4] for row in plan.selection.prompt_B])
        outcome = outcome_of(plan, reward_R, np.full(16, 5), np.zeros(16, bool), step, (0.0, 1.0))
        curriculum.update(Feedback(outcome, curriculum.judge(outcome)))
    mean_N = curriculum.estimate(np.arange(12)).mean_B
    assert out["learned"] == pytest.approx(dict(zip(pool.ids.tolist(), mean_N.tolist(), strict=True)), abs=1e-12)
    assert out["metrics"]["n_seen_prompts"] == 12
    assert out["per_epoch"] == 3


def test_a_checkpoint_has_all_but_the_last_batch(out: dict[str, Any]) -> None:
    """verl saves before it gives the batch back. The fifth is drawn, and not learned from; the epoch goes on with the sixth."""
    assert out["at_resume"] == pytest.approx(out["after_four"], abs=0)
    assert out["resumed_drawn"] == 8
    assert all(len(set(batch)) == 4 for batch in out["resumed"])


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("no recipe", "add e.g. +data.sampler.curriculum.recipe=dump_ucb"),
        ("group sizes", "the recipe's budget is knapsack, expected even"),
        ("filter", "the recipe's filter is nonzero_variance, expected keep_all"),
        ("no index", "row 0 has no extra_info.index"),
        ("too few rows", "a batch has 4 prompts, the data set 2"),
        ("other id", "row 0 has prompt id 'hard/99'"),
        ("lost id", "batch: no field 'extra_info'"),
        ("never updated", "12 are in 3 batches that verl did not give back"),
        ("other data", "4 prompt(s) were added and 0 removed"),
        ("other recipe", "resume with the recipe of the saved run"),
    ],
)
def test_mistakes_are_told(out: dict[str, Any], case: str, says: str) -> None:
    assert says in out["refused"][case]


def test_newer_releases_are_told_where_to_go() -> None:
    variables = os.environ | {"PYTHONPATH": environment("verl")}
    code = "import trainer.integrations.verl_sampler"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert "verl 0.9.1 has no curriculum sampler; 0.5.0 to 0.7.1 have one. For 0.9 see trainer.integrations.verl" in done.stderr

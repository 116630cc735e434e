"""The whole run on a real language model: GRPO by torch, rollouts by transformers or vLLM, in this process or in Ray actors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula.types import CurriculaError
from rollout.engines.transformers_engine import TransformersEngine
from tests.trainer.recipes import changed
from tests.trainer.test_loop import MAIN, decisions, log_size, records, wait_for
from trainer import checkpoint
from trainer.loop import run
from trainer.recipe import Recipe, load_recipe, parse_recipe


def real(folder: Path, model: Path, **changes: Any) -> Recipe:
    """Chains of one-digit sums for a tiny random model; a reward that differs inside groups, so that every step learns."""
    data: dict[str, Any] = {
        "name": "real",
        "seed": 1,
        "task": {"name": "running_total", "levels": [1, 2, 3], "n_train": 40, "n_held_out": 6},
        "model": {"path": str(model), "dtype": "float32"},
        "curriculum": "combined",
        "rollout": {
            "groups_per_step": 4,
            "rollouts_per_group": 4,
            "max_attempts": 2,
            "sampling": {"max_tokens": 12},
            "engine": {"backend": "transformers", "placement": "driver", "dtype": "float32", "max_concurrent_rollouts": 64},
        },
        "schedule": {"name": "constant", "peak": 1e-3},
        "evaluation": {"prompts_per_distribution": 2, "samples_per_prompt": 1},
        "run": {"n_steps": 6, "checkpoint_every": 2, "folder": str(folder)},
    }
    data["task"]["reward"] = "tests.trainer.digits:share_of_digits"
    return parse_recipe(changed(data, changes))


@pytest.mark.slow
def test_a_killed_run_on_a_real_model_plans_what_the_uninterrupted_one_plans(tmp_path: Path, tiny_model_path: Path) -> None:
    straight = real(tmp_path / "straight", tiny_model_path)
    assert start(straight, "fresh").wait(timeout=200) == 0
    killed = real(tmp_path / "killed", tiny_model_path)
    process = start(killed, "fresh")
    for share in (0.4, 0.8):
        wait_for(lambda share=share: log_size(killed) >= share * log_size(straight), timeout_s=120)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start(killed, "resume")
    assert process.wait(timeout=200) == 0
    assert decisions(killed) == decisions(straight)
    assert model_bytes(killed) == model_bytes(straight), "the weights are the same, bit for bit"


def test_an_engine_that_keeps_old_weights_stops_the_run(
    tmp_path: Path, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TransformersEngine, "load_weights", lambda self, tensors, version: setattr(self, "_version", version))
    recipe = real(tmp_path / "run", tiny_model_path, schedule__peak=0.05, run__agreement_tolerance=1e-3)
    with pytest.raises(CurriculaError, match=r"disagree after policy version 1: mean \|log-prob difference\|"):
        run(recipe)


def test_weights_move_and_rewards_follow(tmp_path: Path, tiny_model_path: Path) -> None:
    recipe = real(
        tmp_path / "run", tiny_model_path, run__n_steps=25, run__checkpoint_every=25, curriculum="uniform", schedule__peak=3e-3
    )
    run(recipe)
    reward = [record["reward_mean"] for record in records(recipe.folder, "step")]
    assert np.mean(reward[-5:]) > np.mean(reward[:5]) + 0.1


@pytest.mark.ray
@pytest.mark.slow
def test_one_step_ahead_on_ray_agrees_after_updates(tmp_path: Path, tiny_model_path: Path, ray_session: None) -> None:
    recipe = real(
        tmp_path / "run",
        tiny_model_path,
        rollout__engine__placement="ray",
        rollout__engine__n_engines=2,
        run__mode="one_step_ahead",
        run__n_steps=4,
    )
    run(recipe)
    mismatch = [
        record["metrics"]["mismatch_max"] for record in records(recipe.folder, "step") if "mismatch_max" in record["metrics"]
    ]
    assert mismatch
    assert {engine for record in records(recipe.folder, "group") for engine in record["engines"]} == {"engine-0", "engine-1"}


@pytest.mark.ray
@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_grpo_with_real_vllm_in_a_ray_actor(tmp_path: Path, tiny_model_path: Path, ray_session: None) -> None:
    """Three updates; at every step the learner scores the tokens that vLLM drew with the same weights."""
    recipe = real(
        tmp_path / "run",
        tiny_model_path,
        curriculum="uniform",  # keeps every group, so that every step updates
        rollout__engine__backend="vllm",
        rollout__engine__placement="ray",
        run__n_steps=4,
        run__checkpoint_every=4,
        run__agreement_tolerance=1e-3,
        schedule__peak=1e-2,
    )
    run(recipe)
    steps = records(recipe.folder, "step")
    assert [record["metrics"]["updates"] for record in steps] == [1, 1, 1, 1]
    assert max(record["metrics"]["mismatch_max"] for record in steps) < 1e-3


def start(recipe: Recipe, how: str) -> subprocess.Popen[bytes]:
    path = recipe.folder.parent / f"{recipe.folder.name}.yaml"
    path.write_text(recipe.to_yaml())
    return subprocess.Popen([sys.executable, "-c", MAIN, str(path), how], env={**os.environ, "OMP_NUM_THREADS": "1"})


def model_bytes(recipe: Recipe) -> bytes:
    saved = checkpoint.newest(recipe.folder / "checkpoints")
    assert saved is not None
    return b"".join(path.read_bytes() for path in sorted((saved.folder / "model").glob("*.safetensors")))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_the_quickstart_runs_on_both_backends(tmp_path: Path, ray_session: None, backend: str) -> None:
    """The shipped recipe, cut short: a few examples of warm start, two steps."""
    small = {
        "rollout.engine.backend": backend,
        "rollout.groups_per_step": 8,
        "rollout.rollouts_per_group": 4,
        "task.n_train": 60,
        "task.n_held_out": 4,
        "warm_start.max_steps": 10,
        "warm_start.cache": str(tmp_path / "models"),
        "evaluation.prompts_per_distribution": 2,
        "evaluation.samples_per_prompt": 1,
        "schedule.warmup": 1,
        "run.n_steps": 2,
        "run.folder": str(tmp_path / "run"),
    }
    recipe = load_recipe(
        Path(__file__).parents[2] / "configs" / "quickstart_cpu.yaml", [f"{key}={value}" for key, value in small.items()]
    )
    summary = run(recipe)
    assert summary.n_steps == 2
    assert len(summary.evaluations) == 2
    assert len(summary.evaluations[0].scores) >= 5

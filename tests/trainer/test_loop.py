"""The whole run on the simulated engine: real curriculum, dispatcher, verifiers, log and checkpoints."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula.types import CurriculaError
from rollout.log import read_log
from tests.trainer.recipes import simulated
from trainer import checkpoint
from trainer.loop import run
from trainer.recipe import Recipe

MAIN = """
import sys
from trainer.loop import run
from trainer.recipe import load_recipe
summary = run(load_recipe(sys.argv[1]), resume=sys.argv[2] == "resume")
sys.exit(143 if summary.stopped_early else 0)
"""


def test_skills_grow_and_every_group_is_in_the_log(tmp_path: Path) -> None:
    summary = run(simulated(tmp_path / "run", run__n_steps=40))
    first, last = summary.evaluations[0], summary.evaluations[-1]
    assert last.sampled > first.sampled + 0.15
    groups = records(tmp_path / "run", "group")
    steps = records(tmp_path / "run", "step")
    assert [record["step"] for record in steps] == list(range(40))
    assert len({record["group"] for record in groups}) == len(groups) == sum(record["generated_groups"] for record in steps)
    assert any(not record["kept"] for record in groups), "rejected groups belong into the log"
    assert sum(len(record["rewards"]) for record in groups) == sum(record["n_rollouts"] for record in steps)


def test_both_modes_train_and_one_step_ahead_is_one_version_old(tmp_path: Path) -> None:
    run(simulated(tmp_path / "run", run__mode="one_step_ahead", run__n_steps=8, run__checkpoint_every=4))
    lag: dict[int, set[int]] = {}
    for record in records(tmp_path / "run", "group"):
        lag.setdefault(record["step"], set()).update(record["step"] - version for version in record["versions"])
    assert lag[0] == {0}
    assert lag[4] == {0}, "the pipeline is drained at a checkpoint"
    assert all(lag[step] == {1} for step in (1, 2, 3, 5, 6, 7))


@pytest.mark.filterwarnings("ignore::curricula.conflicts.ConflictWarning")
def test_shaping_weights_and_down_sampling_reach_the_learner_and_the_log(tmp_path: Path) -> None:
    shaping = {"name": "length_budget", "budget": 4, "enforce": True}
    parts = {"curriculum__shaping": shaping, "curriculum__downsampling": {"name": "pods", "n_kept": 4}, "run__n_steps": 3}
    run(simulated(tmp_path / "run", curriculum__filter={"name": "soft_weights"}, curriculum__budget={"name": "even"}, **parts))
    kept = [group for group in records(tmp_path / "run", "group") if group["kept"]]
    assert {group["max_tokens"] for group in kept} == {4}
    assert max(n for group in kept for n in group["n_tokens"]) == 4
    assert {sum(group["gradient"]) for group in kept} == {4}
    assert {group["weight"] for group in kept} <= {4 * k * (8 - k) / 64 for k in range(1, 8)}
    assert len({group["weight"] for group in kept}) > 1
    expected = [[0.6 * r + 0.3 * n / 4 for r, n in zip(g["rewards"], g["n_tokens"], strict=True)] for g in kept]
    assert [group["shaped"] for group in kept] == [pytest.approx(row) for row in expected]
    assert all(record["renormalise"] for record in records(tmp_path / "run", "attempt"))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["on_policy", "one_step_ahead"])
def test_a_killed_run_plans_what_the_uninterrupted_one_plans(tmp_path: Path, mode: str) -> None:
    """12 kill points in each mode: SIGKILL at random moments, then --resume, until the run is done."""
    options = {"run__mode": mode, "run__n_steps": 30, "run__checkpoint_every": 3}
    straight = simulated(tmp_path / "straight", **options)
    assert start(straight, "fresh").wait(timeout=120) == 0

    killed = simulated(tmp_path / "killed", **options)
    random_ = random.Random(mode)
    moments = sorted(random_.uniform(0, log_size(straight)) for _ in range(12))
    process = start(killed, "fresh")
    for moment in moments:
        wait_for(partial(lambda at: log_size(killed) >= at, moment))
        time.sleep(random_.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start(killed, "resume")
    assert process.wait(timeout=120) == 0
    assert decisions(killed) == decisions(straight)
    assert state(killed).keys() == state(straight).keys()
    for key, value in state(straight).items():
        np.testing.assert_array_equal(state(killed)[key], value, err_msg=key)


def test_sigterm_saves_and_the_run_goes_on_from_there(tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", run__n_steps=400, run__checkpoint_every=1000)
    process = start(recipe, "fresh")
    wait_for(lambda: (tmp_path / "run" / "log").exists() and len(records(tmp_path / "run", "step")) > 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    saved = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    assert saved.step == len(records(tmp_path / "run", "step")) < 400


def test_a_torn_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    run(simulated(tmp_path / "run", run__n_steps=8))
    folders = checkpoint.valid_folders(tmp_path / "run" / "checkpoints")
    state_file = folders[0] / "curriculum.npz"
    state_file.write_bytes(state_file.read_bytes()[:-1])
    restored = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert restored is not None
    assert restored.step == 4


def test_all_groups_degenerate_stops_with_a_diagnosis(tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", run__n_steps=60, rollout__engine__options={"n_levels": 5, "start": -60.0})
    with pytest.raises(CurriculaError, match=r"25 steps had no group with signal .* too hard for this model"):
        run(recipe)


def test_a_step_without_signal_leaves_learner_and_learning_rate_alone(tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", run__n_steps=5, rollout__engine__options={"n_levels": 5, "start": 60.0})
    run(recipe)
    rates = [record["lr"] for record in records(tmp_path / "run", "step")]
    assert len(set(rates)) == 1
    saved = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    assert json.loads((saved.folder / "learner.json").read_text())["version"] == 0


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    run(simulated(tmp_path / "run", run__n_steps=2))
    with pytest.raises(CurriculaError, match=r"a run is there already; go on with --resume"):
        run(simulated(tmp_path / "run", run__n_steps=2))


def test_resume_names_the_key_that_changed(tmp_path: Path) -> None:
    run(simulated(tmp_path / "run", run__n_steps=2))
    with pytest.raises(CurriculaError, match=r"resume: schedule\.peak was 0\.3 when the run began and is 0\.5 now"):
        run(simulated(tmp_path / "run", run__n_steps=2, schedule__peak=0.5), resume=True)


def test_resume_with_a_changed_data_set_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "prompts.jsonl"
    task = {
        "name": "prompt_file",
        "train": str(data),
        "distribution_column": "level",
        "id_column": "id",
        "reward": "exact",
    }
    write_prompts(data, range(80))
    options: dict[str, Any] = {"task": task, "run__n_steps": 4}
    run(simulated(tmp_path / "run", **options))
    write_prompts(data, range(1, 81))
    with pytest.raises(CurriculaError, match=r"(?s)pool|data set|prompts"):
        run(simulated(tmp_path / "run", **options), resume=True)


def write_prompts(path: Path, numbers: range) -> None:
    rows = [
        {"id": f"level-{level}/{number:06d}", "level": f"level-{level}", "prompt": str(level), "answer": "1"}
        for level in range(5)
        for number in numbers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def start(recipe: Recipe, how: str) -> subprocess.Popen[bytes]:
    path = recipe.folder.parent / f"{recipe.folder.name}.yaml"
    path.write_text(recipe.to_yaml())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", MAIN, str(path), how], env=environment)


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [record for record in read_log(folder / "log") if record["kind"] == kind]


def decisions(recipe: Recipe) -> list[tuple[Any, ...]]:
    """Every planned group with its budget, propensity and rewards, and every learning rate, in order."""
    groups = [
        (r["step"], r["attempt"], r["group"], r["prompt"], r["n_asked"], r["propensity"], r["rewards"], r["kept"])
        for r in records(recipe.folder, "group")
    ]
    return [*groups, *((r["step"], r["lr"]) for r in records(recipe.folder, "step"))]


def log_size(recipe: Recipe) -> int:
    path = recipe.folder / "log" / "rollouts.jsonl"
    return path.stat().st_size if path.exists() else -1


def state(recipe: Recipe) -> dict[str, Any]:
    saved = checkpoint.newest(recipe.folder / "checkpoints")
    assert saved is not None
    return {**saved.curriculum_state(), "skills": np.load(saved.folder / "skills.npy")}


def wait_for(condition: Any, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)

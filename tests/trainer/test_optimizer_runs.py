"""Optimisers inside a real GRPO run: what is drawn from, what is evaluated, what is shipped, and resume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollout.fleet import Fleet
from rollout.types import Weights
from tests.tiny import save_tiny_model
from tests.trainer.learning import make_learner, weights_of
from tests.trainer.test_loop import decisions, records
from tests.trainer.test_real_run import model_bytes, real
from trainer import checkpoint
from trainer.loop import run
from trainer.lr.averages.model import average
from trainer.lr.averages.weights import uniform
from trainer.recipe import Recipe
from trainer.run_folder import chosen

SMALL = {
    "curriculum": "uniform",
    "rollout__groups_per_step": 3,
    "rollout__max_attempts": 1,
    "rollout__sampling__max_tokens": 6,
    "evaluation__prompts_per_distribution": 1,
    "task__n_train": 12,
    "task__n_held_out": 2,
    "task__levels": [1],
}
CHOICES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "prodigy": ({"d0": 1e-3}, {"name": "linear", "peak": 1.0}),
    "dog": ({"reps_rel": 1e-3}, {"name": "constant", "peak": 1.0}),
    "muon": ({}, {"name": "wsd", "peak": 1e-3, "decay": 0.5}),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("small") / "model", hidden=32, layers=1)


def schedule_free(folder: Path, path: Path, **changes: Any) -> Recipe:
    schedule = {"name": "constant", "peak": 1e-2, "warmup": 2}
    return real(folder, path, schedule=schedule, learner__optimizer={"name": "schedule_free_adamw"}, **SMALL | changes)


def saved(recipe: Recipe) -> Path:
    newest = checkpoint.newest(recipe.folder / "checkpoints")
    assert newest is not None
    return newest.folder


def array_of(weights: Weights) -> np.ndarray:
    return np.concatenate([array.ravel() for chunk in weights.chunks for array in chunk.values()])


def test_schedule_free_draws_from_one_set_of_weights_and_evaluates_and_ships_another(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engines are given y, then x for the evaluation, then y again with the same bits and the same version."""
    published: list[tuple[int, np.ndarray]] = []
    publish = Fleet.publish

    def noted(self: Fleet, weights: Weights) -> float:
        published.append((weights.version, array_of(weights)))
        return publish(self, weights)

    monkeypatch.setattr(Fleet, "publish", noted)
    recipe = schedule_free(
        tmp_path / "run", path, run__n_steps=3, run__checkpoint_every=3, evaluation__every=2, run__mode="one_step_ahead"
    )
    run(recipe)
    versions, arrays = [version for version, _ in published], [array for _, array in published]
    assert versions == [0, 0, 1, 2, 2, 2, 3, 3, 3], "evaluated before the first step, after the second and after the third"
    for update in (3, 6):
        y, x, again = arrays[update : update + 3]
        assert not np.array_equal(x, y)
        assert np.array_equal(again, y)
    assert np.array_equal(arrays[0], arrays[1])
    assert np.array_equal(array_of(make_learner(saved(recipe) / "model").weights()), arrays[7])
    drawn = {version for record in records(recipe.folder, "group") for version in record["versions"]}
    assert drawn == {0, 1}, "one step ahead: those of the third step were drawn before its predecessor learned"
    assert max(record["metrics"].get("mismatch_max", 0.0) for record in records(recipe.folder, "step")) < 1e-3


def test_a_resumed_schedule_free_run_is_the_one_that_never_stopped(tmp_path: Path, path: Path) -> None:
    """Though the runs were evaluated at different steps: going to the average and back leaves no trace."""
    straight = schedule_free(tmp_path / "straight", path, run__n_steps=4, run__checkpoint_every=2)
    again = schedule_free(tmp_path / "again", path, run__n_steps=4, run__checkpoint_every=2, evaluation__every=1)
    run(straight)
    run(again)
    both = chosen(again.folder)
    average(again.folder, both, uniform(2), {"kind": "uniform"}, tmp_path / "mean")
    models = [weights_of(make_learner(one.folder / "model")) for one in both]
    assert all(
        np.allclose(array, (models[0][key] + models[1][key]) / 2, atol=1e-7)
        for key, array in weights_of(make_learner(tmp_path / "mean")).items()
    ), "of what was shipped, not of the masters"
    shutil.rmtree(again.folder / "checkpoints" / "step-00000004")
    run(again, resume=True)
    assert decisions(again) == decisions(straight)
    assert model_bytes(again) == model_bytes(straight)
    for file in ("optimizer.safetensors", "learner.json"):
        assert (saved(again) / file).read_bytes() == (saved(straight) / file).read_bytes()


@pytest.mark.parametrize("name", CHOICES)
def test_a_run_moves_the_weights(tmp_path: Path, path: Path, name: str) -> None:
    own, schedule = CHOICES[name]
    recipe = real(tmp_path / "run", path, **SMALL, learner__optimizer={"name": name, **own}, schedule=schedule, run__n_steps=2)
    run(recipe)
    steps = records(recipe.folder, "step")
    before, after = weights_of(make_learner(path)), weights_of(make_learner(saved(recipe) / "model"))
    assert [step["metrics"]["updates"] for step in steps] == [1, 1]
    assert max(float(np.abs(before[key] - after[key]).max()) for key in before) > 1e-5
    if name in ("prodigy", "dog"):
        assert all(step["metrics"]["step_size"] > 0 for step in steps), "the rate alone says nothing"


def test_rewards_follow_schedule_free(tmp_path: Path, path: Path) -> None:
    recipe = schedule_free(tmp_path / "run", path, run__n_steps=30, run__checkpoint_every=30, rollout__groups_per_step=6)
    run(recipe)
    reward = [record["reward_mean"] for record in records(recipe.folder, "step")]
    assert np.mean(reward[-5:]) > np.mean(reward[:5]) + 0.1

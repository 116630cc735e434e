"""Every file in configs/ and examples/ is what it claims to be."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from curricula import Curriculum, PromptPool
from rollout.rewards import load_reward
from rollout.tasks import build_task
from trainer.cluster import resources
from trainer.recipe import load_recipe
from trainer.schedules import build_schedule

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def small_pool() -> PromptPool:
    names = [f"level-{i % 4}" for i in range(400)]
    return PromptPool.from_columns([f"prompt-{i}" for i in range(400)], names)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem, "the run's folder is found by the recipe's file"
    build_task(recipe.task)
    curriculum = Curriculum.from_recipe(recipe.curriculum, small_pool(), seed=recipe.seed)
    plan = curriculum.plan(0, recipe.rollout.groups_per_step, recipe.rollout.budget)
    assert 0 < plan.n_rollouts <= recipe.rollout.budget
    schedule = build_schedule(recipe.schedule, recipe.length.updates)
    rates = [schedule.lr(t) for t in range(recipe.length.updates)]
    assert all(math.isfinite(lr) and lr >= 0 for lr in rates)
    assert max(rates) == pytest.approx(recipe.schedule["peak"])


def test_the_named_curricula_and_models_are_there() -> None:
    names = " ".join(path.stem for path in CONFIGS)
    for word in ("quickstart_cpu", "0.5b", "1.5b", "7b", "gsm8k", "countdown", "knights_knaves"):
        assert word in names
    for word in ("uniform", "dump", "sec", "difficulty_band", "knapsack", "combined"):
        assert word in names


def test_countdown_levels_are_puzzles_that_can_be_scored() -> None:
    task = load_recipe(ROOT / "configs" / "gpu_qwen2.5_1.5b_countdown_combined.yaml").task
    train, held_out = build_task({**task, "prompts_per_distribution": 3, "held_out_per_distribution": 2}).build(0)
    assert train.pool.distribution_names == ("numbers-3", "numbers-4", "numbers-5")
    assert (len(train), len(held_out)) == (9, 6)
    reward = load_reward(train.reward.name)
    for prompt in train.prompts:
        assert (
            reward(f"I think <answer>{prompt.extra['entry']['metadata']['expression']}</answer>", prompt.answer, prompt.extra)
            == 1.0
        )
        assert reward("<answer>1</answer>", prompt.answer, prompt.extra) < 1.0


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem.startswith("gpu_")], ids=lambda path: path.stem)
def test_gpu_recipes_share_gpus_soundly(path: Path) -> None:
    recipe = load_recipe(path)
    asked = resources(recipe)["GPU"]
    assert asked == int(asked), "a share of a GPU is used by nobody"
    assert recipe.rollout.sampling.max_tokens < recipe.rollout.engine.max_model_tokens


def test_the_rayjob_runs_a_recipe_that_fits_its_workers() -> None:
    job = yaml.safe_load((ROOT / "examples" / "kuberay_rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    command, verb, recipe_file, *_ = job["spec"]["entrypoint"].split()
    assert (command, verb) == ("curricula", "train")
    recipe = load_recipe(ROOT / "configs" / Path(recipe_file).name)
    cluster = job["spec"]["rayClusterSpec"]
    gpus = [
        group["replicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"])
        for group in cluster["workerGroupSpecs"]
        for container in group["template"]["spec"]["containers"]
    ]
    assert sum(gpus) >= resources(recipe)["GPU"]
    assert cluster["authOptions"] == {"mode": "token"}, "Ray's boundary is the network"
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 54, 0)

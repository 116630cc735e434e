"""What a recipe would do: pool, first plan, costs and what it asks of Ray. Starts no cluster and loads no weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curricula import Curriculum
from curricula.types import Ints, PromptPool, RolloutPlan
from rollout.budget_note import check_note
from rollout.prompts import PromptSet, encode
from rollout.tasks import build_task
from trainer.assembly import grower_of
from trainer.baselines import check_baselines
from trainer.cluster import needs_ray, resources
from trainer.co_design import check_co_design
from trainer.cuts import first_cuts
from trainer.recipe import Recipe
from trainer.schedules.build import build_rate

PROMPTS_MEASURED = 256  # prompts that are tokenised for the estimate


@dataclass(frozen=True)
class Cost:
    """Upper bounds; completions that stop early and filters that reject nothing cost less."""

    rollouts_per_step: int  # without refills
    most_rollouts_per_step: int  # with every refill that the recipe allows
    n_evaluations: int
    rollouts_per_evaluation: int
    prompt_tokens: float  # mean; NaN where the tokenizer is not on this machine

    def run_rollouts(self, n_steps: int, per_step: int) -> int:
        """Of the whole run, evaluations included."""
        return n_steps * per_step + self.n_evaluations * self.rollouts_per_evaluation


@dataclass(frozen=True, eq=False)
class DryRun:
    """A recipe and the first decisions it leads to."""

    recipe: Recipe
    pool: PromptPool
    n_held_out: int
    plan: RolloutPlan
    cost: Cost
    lr: Sequence[float]  # at the first update, half way and at the last
    ray: dict[str, float]  # CPUs and GPUs; empty = no Ray

    def groups_K(self) -> Ints:
        """(K,) groups of the first plan."""
        return np.bincount(self.plan.selection.distribution_B, minlength=self.pool.n_distributions)

    def rollouts_of(self, k: int) -> Ints:
        """Rollouts of each group that the first plan takes from distribution k."""
        n: Ints = self.plan.n_rollouts_B[self.plan.selection.distribution_B == k]
        return n


def dry_run(recipe: Recipe) -> DryRun:
    """Errors: CurriculaError for whatever in the recipe's task, curriculum or schedule cannot be built."""
    task = build_task(recipe.task)
    train, held_out = task.build(recipe.seed)
    grower_of(recipe, task, train, held_out)  # for what it refuses
    curriculum = Curriculum.from_recipe(recipe.curriculum, train.pool, seed=recipe.seed)
    check_baselines(recipe.learner, curriculum)
    check_note(recipe.rollout.budget_note, curriculum.stages)
    first_cuts(recipe, train.pool)
    rate = build_rate(recipe.schedule, recipe.length)
    check_co_design(recipe, curriculum, rate)
    horizon = rate.state.clock.horizon
    last = horizon - 1 if rate.clock.unit == "updates" else horizon
    return DryRun(
        recipe=recipe,
        pool=train.pool,
        n_held_out=len(held_out),
        plan=curriculum.plan(0, recipe.rollout.groups_per_step, recipe.rollout.budget),
        cost=_cost(recipe, train, held_out),
        lr=[rate.schedule.lr(u) for u in (0.0, last // 2 if last > 1 else last / 2, last)],
        ray=resources(recipe) if needs_ray(recipe) else {},
    )


def _cost(recipe: Recipe, train: PromptSet, held_out: PromptSet) -> Cost:
    rollout, evaluation = recipe.rollout, recipe.evaluation
    measured = np.minimum(held_out.pool.size_K, evaluation.prompts_per_distribution).sum()
    return Cost(
        rollouts_per_step=rollout.budget,
        most_rollouts_per_step=rollout.rollout_cap,
        n_evaluations=_n_evaluations(recipe),
        rollouts_per_evaluation=int(measured) * (evaluation.samples_per_prompt + 1),
        prompt_tokens=_mean_prompt_tokens(recipe, train),
    )


def _n_evaluations(recipe: Recipe) -> int:
    """Before the first step, after the last, and what lies between."""
    n_steps, every = recipe.run.n_steps, recipe.evaluation.every
    between = range(every, n_steps, every) if every else ()
    return 2 + len(between)


def _mean_prompt_tokens(recipe: Recipe, train: PromptSet) -> float:
    """Over evenly spaced prompts; NaN where the tokenizer would have to be downloaded or made first."""
    if not recipe.model.path:
        return math.nan
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(recipe.model.path, local_files_only=True)
    except (OSError, ValueError):
        return math.nan
    rows = np.linspace(0, len(train) - 1, min(len(train), PROMPTS_MEASURED)).astype(int)
    _, ids = encode(PromptSet([train.prompts[i] for i in rows], train.reward), tokenizer, 2**31)
    return float(np.mean([len(tokens) for tokens in ids]))

"""A recipe's way through a logged run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curricula import Curriculum, PromptPool
from curricula.types import CurriculaError, Floats, Ints, Status
from replay.decisions import decisions
from replay.own_run import own_run
from replay.passes import Terms, believed_rates, walk
from replay.subsampling import pilot_then_more, tally
from replay.types import LoggedRun
from tests.trainer.recipes import simulated
from trainer.loop import run as train
from trainer.replay_log.source import source

RATES = np.tile([0.0, 0.1, 0.3, 0.5, 0.8, 1.0], 10)  # of the prompts of `made_run`


def made_run(
    n_steps: int = 40, per_step: int = 12, n: int = 8, seed: int = 0, pick: Callable[..., Ints] | None = None
) -> LoggedRun:
    """A log of uniform draws from 60 prompts whose pass rates never change."""
    rng, n_prompts = np.random.default_rng(seed), len(RATES)
    pool = PromptPool.from_columns([f"p{i:02d}" for i in range(n_prompts)], ["even", "odd"] * (n_prompts // 2))
    prompt_G = np.concatenate([rng.choice(n_prompts, per_step, replace=False) for _ in range(n_steps)])
    g = len(prompt_G)
    reward_R = (rng.random((g, n)) < RATES[prompt_G][:, None]).astype(np.float64).ravel()
    return LoggedRun(
        source="made",
        pool=pool,
        prompt_G=prompt_G,
        step_G=np.repeat(np.arange(n_steps), per_step),
        group_R=np.repeat(np.arange(g), n),
        reward_R=reward_R,
        status_R=np.zeros(g * n),
        n_tokens_R=np.full(g * n, 5),
        policy_version_R=np.zeros(g * n),
        propensity_G=np.full(g, per_step / n_prompts),
        arm_probability_G=np.full(g, 0.5),
        kept_G=np.ones(g),
    )


def fresh(run: LoggedRun, recipe: object) -> Curriculum:
    return Curriculum.from_recipe(recipe, run.pool)  # type: ignore[arg-type]


def test_decisions_hold_every_group_and_rollout_once_in_order() -> None:
    run = made_run(n_steps=5)
    shuffled = np.random.default_rng(1).permutation(len(run.group_R))  # rollouts may come in any order
    mixed = replace(run, **{name: getattr(run, name)[shuffled] for name in ("group_R", "reward_R", "status_R", "n_tokens_R")})
    for given in (run, mixed):
        found = list(decisions(given))
        assert [(d.step, d.attempt) for d in found] == [(step, 0) for step in range(5)]
        assert np.concatenate([d.group_B for d in found]).tolist() == list(range(len(run)))
        for d in found:
            assert np.array_equal(d.outcome.plan.selection.prompt_B, run.prompt_G[d.group_B])
            assert np.array_equal(given.group_R[d.rollout_R], d.group_B[d.outcome.group_R])
            assert np.array_equal(given.reward_R[d.rollout_R], d.outcome.reward_R)
    sums = [np.bincount(given.group_R, weights=given.reward_R) for given in (run, mixed)]
    assert np.array_equal(*sums)


def test_attempts_are_decisions_and_a_prompt_that_comes_twice_goes_to_a_later_one() -> None:
    run = made_run(n_steps=2, per_step=4)
    prompt_G = np.array([0, 1, 2, 3, 5, 5, 6, 5])
    twice = replace(run, prompt_G=prompt_G, attempt_G=np.array([0, 0, 1, 1, 0, 0, 0, 1]))
    found = [(d.step, d.attempt, d.outcome.plan.selection.prompt_B.tolist()) for d in decisions(twice)]
    assert found == [(0, 0, [0, 1]), (0, 1, [2, 3]), (1, 0, [5, 6]), (1, 1, [5]), (1, 2, [5])]


def test_unknown_propensities_and_arms_are_filled_in_for_policies_only() -> None:
    run = made_run(n_steps=1)
    (known,) = decisions(run)
    assert known.outcome.plan.probability_K.tolist() == [0.5, 0.5]
    nowhere = np.full(len(run), np.nan)
    (decision,) = decisions(replace(run, propensity_G=nowhere, arm_probability_G=nowhere))
    assert (decision.outcome.plan.selection.propensity_B == 1.0).all()
    assert decision.outcome.plan.probability_K.sum() == pytest.approx(1.0)
    with pytest.raises(CurriculaError, match="the log lacks step"):
        next(decisions(replace(run, lacks=frozenset({"step"}))))


@pytest.mark.parametrize("mode", ["on_policy", "one_step_ahead"])
@pytest.mark.parametrize("selector", ["learnability", "uniform", "sequential", "straddle", {"name": "band", "inner": "uniform"}])
def test_a_runs_own_recipe_gives_its_groups_the_logged_propensities(tmp_path: Path, mode: str, selector: object) -> None:
    """To the last bit: the same states, the same prompts out of reach, step by step, refills included."""
    changes = {"curriculum__selector": selector, "run__mode": mode, "run__checkpoint_every": 3, "run__n_steps": 10}
    recipe = simulated(tmp_path / "run", **changes)
    train(recipe)
    found = source(tmp_path / "run")
    assert found.recipe is not None
    own = Curriculum.from_recipe(found.recipe.curriculum, found.run.pool, seed=recipe.seed)
    walked = walk(found.run, own, found.terms)
    assert np.array_equal(walked.chance_G, found.run.propensity_G)
    assert found.run.attempt_G.max() >= 1
    assert len(walked.size_D) > 10


def test_it_knows_what_it_has_seen_and_nothing_else() -> None:
    """Before the first decision the belief is the prior; before a later one it holds all earlier groups and not its own."""
    run = made_run()
    walked = walk(run, fresh(run, "uniform"))
    prior = believed_rates(fresh(run, "uniform"), run.prompt_G[:1])[0]
    first = ~np.isin(np.arange(len(run)), np.flatnonzero([p in run.prompt_G[:i] for i, p in enumerate(run.prompt_G)]))
    assert np.allclose(walked.believed_G[first], prior)
    late = run.step_G >= 20
    error = np.abs(walked.believed_G - RATES[run.prompt_G])
    assert error[late].mean() < 0.5 * error[~late].mean()


def test_another_size_of_group_is_a_fair_part_of_the_logged_one() -> None:
    run = made_run(n_steps=100)
    walked = walk(run, fresh(run, "uniform"), Terms(rollouts_per_group=4))
    assert walked.told_G.all()
    assert (walked.rollouts_G == 4).all()
    assert (walked.tokens_G == 20).all()
    rate_G = RATES[run.prompt_G]
    expected = 1 - rate_G**4 - (1 - rate_G) ** 4
    spread = np.sqrt((expected * (1 - expected)).sum())
    assert abs(walked.live_G.sum() - expected.sum()) < 4 * spread
    more = walk(run, fresh(run, "uniform"), Terms(rollouts_per_group=9))
    assert not more.told_G.any()
    assert not more.live_G.any()


def test_stopping_rules_spend_what_exact_subsampling_says() -> None:
    """SPEED's rule on logged groups of 16: 4 rollouts, 12 more where they are mixed."""
    run = made_run(n_steps=150, n=16)
    walked = walk(run, fresh(run, {"budget": {"name": "speed", "n_init": 4, "n_cont": 12}}), Terms(rollouts_per_group=16))
    assert (walked.n_rounds, walked.told_G.all()) == (2, True)
    assert set(np.unique(walked.rollouts_G)) == {4, 16}
    exact = pilot_then_more(tally(run), 4, 12, "equal")
    went_on_G = 1 - exact.stopped_GT[:, 0]
    spread = np.sqrt((went_on_G * (1 - went_on_G)).sum())
    assert abs((walked.rollouts_G == 16).sum() - went_on_G.sum()) < 4 * spread
    assert abs(walked.live_G.sum() - exact.live_G.sum()) < 4 * spread


def test_filters_see_the_shortened_group() -> None:
    run = made_run()
    walked = walk(run, fresh(run, "nonzero_variance"), Terms(rollouts_per_group=2))
    assert np.array_equal(walked.kept_G, walked.live_G)
    assert np.array_equal(walked.gradient_G, 2 * walked.kept_G)
    assert 0.1 < walked.kept_G.mean() < 0.5


def test_rollouts_without_a_reward_are_spent_and_teach_nothing() -> None:
    run = made_run(n_steps=6)
    status_R = np.where(np.arange(len(run.group_R)) % 8 < 7, Status.TIMEOUT, Status.OK)
    reward_R = np.where(status_R == Status.OK, run.reward_R, np.nan)
    walked = walk(replace(run, status_R=status_R, reward_R=reward_R), fresh(run, "uniform"))
    assert not walked.live_G.any()
    assert (walked.rollouts_G == 8).all()


def test_a_curriculum_of_another_pool_is_refused() -> None:
    run = made_run(n_steps=2)
    other = PromptPool.from_columns(["a"], ["x"])
    with pytest.raises(CurriculaError, match="the log's own pool"):
        walk(run, Curriculum.from_recipe("uniform", other))


def test_own_logs_are_refused_without_groups_or_with_another_pool(tmp_path: Path) -> None:
    with pytest.raises(CurriculaError, match="expected the folder of a run or of its log"):
        own_run(tmp_path)
    train(simulated(tmp_path / "run", run__n_steps=2, run__checkpoint_every=2))
    run = own_run(tmp_path / "run")
    assert (run.pool.n_distributions, run.lacks) == (5, frozenset())
    with pytest.raises(CurriculaError, match="replay with the data of the run"):
        own_run(tmp_path / "run", PromptPool.from_columns(["a"], ["x"]))


def test_every_recipe_walks(every_recipe: str) -> None:
    run = made_run(n_steps=6)
    walked = walk(run, fresh(run, every_recipe))
    sums: Floats = walked.share_DK.sum(axis=1)
    assert np.allclose(sums, 1.0)
    assert np.allclose(walked.size_D, 12)
    assert ((walked.chance_G >= 0) & (walked.chance_G <= 1)).all()


@pytest.fixture(
    params=["uniform", "dump_ucb", "sec", "knapsack", "mopps", "greso", "adarft", "plr", "reinforce_ada", "hapo", "d3s"]
)
def every_recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)

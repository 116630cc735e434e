"""What a log tells about other recipes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from curricula import Curriculum
from curricula.statistics import Interval
from curricula.types import CurriculaError, PromptPool
from replay.documents import document
from replay.estimators import NotEstimable, Value
from replay.evaluate import Missing, clustered, live_shares, measures, replay
from replay.passes import Terms, walk
from replay.types import LoggedRun
from tests.replay.test_passes import RATES, made_run

LIKES_HALF = {"selector": {"name": "nearest", "floor": 0.2}, "belief": "static", "exploration": 0.0}


def with_priors(run: LoggedRun) -> LoggedRun:
    pool = run.pool
    names = [pool.distribution_names[k] for k in pool.distribution_N]
    return replace(run, pool=PromptPool.from_columns(pool.ids, names, prior_pass_rate=RATES))


def live_rate(rate: np.ndarray, n: int = 8) -> np.ndarray:
    return np.asarray(1 - rate**n - (1 - rate) ** n)


@pytest.mark.parametrize("seed", range(3))
def test_a_fixed_rule_is_valued_as_it_would_do(seed: int) -> None:
    """The rule's own plan is known, the rates never change: so is the live share that it would have."""
    run = with_priors(made_run(n_steps=120, seed=seed))
    found = replay(run, {"likes half": Curriculum.from_recipe(LIKES_HALF, run.pool)}).evaluations[0]
    chance_N = Curriculum.from_recipe(LIKES_HALF, run.pool).inclusion(0, 12)
    truth = float(chance_N @ live_rate(RATES) / chance_N.sum())
    assert truth > live_rate(RATES).mean() + 0.2
    for method in ("ips", "snips", "dr"):
        value = found.choice.values["live"][method]  # type: ignore[index]
        assert isinstance(value, Value), value
        assert abs(value.value - truth) < 4 * value.standard_error
    narrow, wide = (found.choice.values["live"][method] for method in ("dr", "ips"))  # type: ignore[index]
    assert isinstance(narrow, Value)
    assert isinstance(wide, Value)
    assert narrow.high - narrow.low < 0.8 * (wide.high - wide.low)


def test_overlap_and_mix_are_those_of_the_plans() -> None:
    run = made_run(n_steps=60)
    one = {"distribution": {"name": "fixed", "weights": {"even": 1.0, "odd": 0.0}}, "exploration": 0.0}
    found = replay(run, {"uniform": fresh(run, "uniform"), "one": fresh(run, one)})
    uniform, one_sided = (evaluation.choice for evaluation in found.evaluations)
    assert uniform.by_chance == pytest.approx(12 / 60)
    assert one_sided.share_K.tolist() == [1.0, 0.0]
    assert one_sided.mix_distance == pytest.approx(0.5, abs=0.05)
    assert uniform.mix_distance < 0.2
    assert found.logged.share_K.sum() == pytest.approx(1.0)


def fresh(run: LoggedRun, recipe: object) -> Curriculum:
    return Curriculum.from_recipe(recipe, run.pool)  # type: ignore[arg-type]


def test_what_the_log_lacks_is_named_and_nothing_is_guessed() -> None:
    run = made_run(n_steps=30)
    blind = replace(
        run,
        propensity_G=np.full(len(run), np.nan),
        n_tokens_R=np.full(len(run.group_R), -1),
        lacks=frozenset({"propensity", "tokens", "rejected groups", "fixed budget"}),
    )
    found = replay(blind, {"uniform": fresh(blind, "uniform")})
    (evaluation,) = found.evaluations
    for name, values in evaluation.choice.values.items():
        for value in values.values():
            assert isinstance(value, NotEstimable)
            assert "propensity, rejected groups" in value.reason, name
    assert evaluation.spending.live == Missing(
        "the log's group sizes depended on their scores, so parts of a group are no fair sample"
    )
    assert found.logged.values["tokens"] == Missing("the log lacks tokens")
    assert isinstance(found.logged.values["live"], Interval)
    text = json.dumps(document(found), allow_nan=False)
    assert "not_estimable" in text
    assert "final accuracy" in text


def test_a_budget_that_asks_for_more_than_was_logged_is_not_told() -> None:
    run = made_run(n_steps=60)
    (evaluation,) = replay(run, {"knapsack": fresh(run, "knapsack")}).evaluations
    spent = evaluation.spending
    assert spent.told < 0.95
    assert isinstance(spent.live, Missing)
    assert "asks for more rollouts than were logged" in spent.live.reason


def test_savings_are_counted_against_the_log() -> None:
    run = made_run(n_steps=60, n=16)
    (evaluation,) = replay(run, {"speed": fresh(run, {"budget": {"name": "speed", "n_init": 4, "n_cont": 12}})}).evaluations
    spent = evaluation.spending
    assert isinstance(spent.rollouts, Interval)
    assert isinstance(spent.saved_rollouts, float)
    assert spent.saved_rollouts == pytest.approx(1 - spent.rollouts.mean / 16)
    assert spent.saved_tokens == pytest.approx(spent.saved_rollouts)
    assert 0.2 < spent.saved_rollouts < 0.7


def test_a_belief_that_is_told_the_truth_has_no_excess_error() -> None:
    run = with_priors(made_run(n_steps=100))
    knows, guesses = replay(
        run, {"knows": fresh(run, {"belief": "static"}), "guesses": fresh(made_run(1), "uniform")}
    ).evaluations
    assert abs(knows.calibration.excess) < 0.003
    assert knows.calibration.expected_error < 0.02
    assert guesses.calibration.excess > knows.calibration.excess
    assert knows.calibration.n_M.sum() == len(run)


def test_exact_live_shares_equal_the_mean_over_random_orders() -> None:
    run = made_run(n_steps=200, per_step=12)
    walked = walk(run, fresh(run, "uniform"), Terms(rollouts_per_group=3))
    exact, drawn = live_shares(run, walked), walked.live_G
    assert not np.array_equal(exact, drawn)
    assert abs(exact.mean() - drawn.mean()) < 4 * 0.5 / np.sqrt(len(run))


def test_intervals_count_steps_and_not_groups() -> None:
    """100 equal groups of one step are one observation."""
    value_T = np.random.default_rng(0).random(20)
    few = clustered(value_T, np.arange(20))
    many = clustered(np.repeat(value_T, 100), np.repeat(np.arange(20), 100))
    assert many == pytest.approx(few)
    assert clustered(value_T, np.zeros(20)).high == np.inf


def test_measures_of_groups() -> None:
    run = made_run(n_steps=3)
    found = measures(run)
    scores = run.reward_R.reshape(len(run), 8)
    assert np.array_equal(found["live"], (scores.min(axis=1) < scores.max(axis=1)).astype(float))
    assert np.allclose(found["learnability"], 4 * scores.var(axis=1, ddof=1))
    assert (found["tokens"] == 40).all()


def test_no_recipe_is_refused() -> None:
    with pytest.raises(CurriculaError, match="one recipe at least"):
        replay(made_run(2), {})

"""Do the intervals of a replay hold the truth, through whole recipes in a world whose pass rates are known? See the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmarks.replay_recipes import ADVANTAGES, EVERY, LOGS, TARGETS, Made, make, spending, spent, stopped
from curricula import Curriculum
from curricula.statistics import Interval
from curricula.types import Floats
from replay.estimators import Value
from replay.evaluate import METHODS, measures, values_at
from replay.passes import Terms, walk
from replay.types import LoggedRun
from trainer.simulate.setting import Setting

RUNS, STEPS = 16, 24
WORLD = Setting(groups=16, max_attempts=2, prompts=60, levels=2, rate=0.2)
PAIRS = [("learnability", "sec"), ("plr", "sec")]
Change = Callable[[LoggedRun], LoggedRun]


@cache
def made(log: str) -> tuple[Made, ...]:
    return tuple(make(LOGS[log], {"sec": TARGETS["sec"]}, WORLD, STEPS, seed) for seed in range(RUNS))


def errors(log: str, target: str, change: Change) -> dict[str, list[tuple[bool, float]]]:
    """Method -> (held the truth, error in standard errors) of every log; nothing held where there is no answer."""
    found: dict[str, list[tuple[bool, float]]] = {method: [] for method in METHODS}
    for seed, one in enumerate(made(log)):
        run, truth = change(one.run), one.targets[target, False]["live"]
        terms = Terms(advantages=ADVANTAGES, own=one.own if run is one.run else None)
        walked = walk(run, Curriculum.from_recipe(TARGETS[target], run.pool, seed + 1), terms)
        for method, said in values_at(run, "live", measures(run)["live"], walked, terms).items():
            known = isinstance(said, Value)
            error = (said.value - truth) / said.standard_error if isinstance(said, Value) else np.inf
            found[method].append((known and said.low <= truth <= said.high, error))  # type: ignore[union-attr]
    return found


def keeps_its_word(found: list[tuple[bool, float]]) -> bool:
    """Nominal is 95 %: of 16 intervals 10 or fewer hold by chance once in 10,000 times. The mean error is 0 within 4 of its own."""
    covered, error = np.array(found, dtype=np.float64).T
    return bool(covered.mean() > 0.65 and abs(error.mean()) < 4 / np.sqrt(len(error)))


@pytest.mark.parametrize(("log", "target"), PAIRS)
def test_intervals_hold_the_truth_under_learning(log: str, target: str) -> None:
    found = errors(log, target, lambda run: run)
    assert all(keeps_its_word(of_method) for of_method in found.values()), found


def as_if_uniform(run: LoggedRun) -> LoggedRun:
    return replace(run, propensity_G=np.full(len(run), run.propensity_G.mean()))


def swapped(run: LoggedRun) -> LoggedRun:
    """The rarest choice of a decision for the most likely one, and so on."""
    propensity_G = run.propensity_G.copy()
    for step in np.unique(run.step_G):
        here = np.flatnonzero(run.step_G == step)
        order = here[np.argsort(run.propensity_G[here], kind="stable")]
        propensity_G[order] = run.propensity_G[order[::-1]]
    return replace(run, propensity_G=propensity_G)


@pytest.mark.parametrize("wrong", [as_if_uniform, swapped])
def test_wrong_propensities_are_found_out_by_the_same_bounds(wrong: Change) -> None:
    found = errors("learnability", "sec", wrong)
    assert not any(keeps_its_word(of_method) for of_method in found.values()), found


def test_spending_and_the_logs_own_means_hold_the_truth() -> None:
    """On groups of 16: half of them, and two stopping rules."""
    recipe, world = {"distribution": "dump_ucb", "selector": EVERY}, replace(WORLD, rollouts=16)
    held: dict[tuple[str, ...], list[bool]] = {}
    for seed in range(8):
        for key, (truth, said) in spending(make(recipe, {}, world, STEPS, seed, spent)):
            assert isinstance(said, Interval), key
            held.setdefault(key, []).append(said.low <= truth <= said.high)
    assert len(held) == 12
    assert all(np.mean(of_key) > 0.5 for of_key in held.values()), held  # 4 or fewer of 8: once in 3,000 times
    assert np.mean(list(held.values())) > 0.88


def test_the_truth_of_a_stopping_rule_by_hand() -> None:
    """Two rounds of one rollout until one is right: a half stops at once; live are those that were wrong first."""
    rate: Floats = np.array([0.5])
    rollouts, live = stopped(rate, 1, 2, lambda k, failures: k >= 1)
    assert (rollouts.item(), live.item()) == (1.5, 0.25)

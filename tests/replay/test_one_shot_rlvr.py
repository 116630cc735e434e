"""Replay on a real history, against what is known of it (see ../shared/data/README.md and benchmarks/replay_history.py)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.offline_history import FIRST, N_ROLLOUTS, live, load
from benchmarks.replay_history import (
    BY_BINS,
    BY_PROMPT,
    SHARE,
    Checked,
    checked,
    logged_run,
    picked,
    spent,
    stays_wrong,
)
from curricula import Curriculum
from curricula.statistics import Interval
from curricula.types import Floats
from replay.evaluate import replay

HISTORY = Path(__file__).parents[3] / "shared" / "data" / "one_shot_rlvr" / "accuracy_history.json"
pytestmark = pytest.mark.skipif(not HISTORY.exists(), reason="the shared accuracy history is not beside this checkout")
BEST = 0.95  # live share that a posterior which sees every prompt had on the whole file
SEEDS = range(6)
ALL_RECIPES = {**BY_BINS, **BY_PROMPT}


@cache
def rates() -> Floats:
    return load(HISTORY)


def test_the_history_is_the_known_one() -> None:
    """0.51 and 0.77 are of the whole file; half of its prompts are here."""
    rate_NV = rates()
    assert live(rate_NV).mean() == pytest.approx(0.51, abs=0.02)
    assert stays_wrong(rate_NV) == pytest.approx(0.77, abs=0.03)


def test_uniform_has_the_live_share_of_the_log() -> None:
    rate_NV = rates()
    run = logged_run(rate_NV)
    found = replay(run, {"uniform": Curriculum.from_recipe(BY_BINS["uniform"], run.pool)})
    truth = live(rate_NV[:, FIRST:]).mean()
    logged = found.logged.values["live"]
    assert isinstance(logged, Interval)
    assert logged.mean == pytest.approx(truth)
    (evaluation,) = found.evaluations
    assert evaluation.choice.overlap == pytest.approx(1.0)  # a plan of 605 groups is the whole pool
    for method, value in evaluation.choice.values["live"].items():
        assert value.value == pytest.approx(truth), method  # type: ignore[union-attr]
    assert evaluation.spending.live.mean == pytest.approx(truth)  # type: ignore[union-attr]


def test_a_filter_keeps_what_lies_in_its_band() -> None:
    rate_NV = rates()[:, FIRST:]
    found = spent(rates(), N_ROLLOUTS)["difficulty_band"].spending
    assert found.kept.mean == pytest.approx(((rate_NV >= 0.25) & (rate_NV <= 0.75)).mean())  # type: ignore[union-attr]


def test_half_the_rollouts_find_fewer_live_groups_and_knapsack_loses_fewer() -> None:
    """A part of a group is live only if the group is: the log's own share is a bound for every budget."""
    rate_NV = rates()[:, FIRST:]
    half = spent(rates(), N_ROLLOUTS // 2)
    even, knapsack = half["even"].spending, half["knapsack"].spending
    assert (even.told, knapsack.told) == (1.0, 1.0)
    k = np.rint(rate_NV * N_ROLLOUTS)
    none = sum(np.prod([(some - i) / (N_ROLLOUTS - i) for i in range(4)], axis=0) for some in (k, N_ROLLOUTS - k))
    assert even.live.mean == pytest.approx(1 - none.mean())  # type: ignore[union-attr]
    assert knapsack.rollouts.mean <= 4  # type: ignore[union-attr]
    assert even.live.mean + 0.01 < knapsack.live.mean < live(rate_NV).mean()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", list(ALL_RECIPES))
def test_nobody_picks_better_than_the_known_bound(name: str) -> None:
    rate_NV = rates()
    run = logged_run(rate_NV, by_bins=name in BY_BINS)
    share_T = picked(run, ALL_RECIPES[name], rate_NV, round(SHARE * len(rate_NV)))
    least = {"uniform": 0.49, "dump_ucb": 0.75, "mopps": 0.85, "nearest": 0.88}[name]
    most = 0.53 if name == "uniform" else BEST
    assert least < share_T.mean() < most


def test_a_belief_is_worse_than_the_noise_and_better_where_it_sees_more() -> None:
    """Below the binomial floor (an excess under 0) nobody can honestly be."""
    excess = []
    for share in (1.0, SHARE):
        run = logged_run(rates(), by_bins=False, share=share)
        found = replay(run, {"nearest": Curriculum.from_recipe(BY_PROMPT["nearest"], run.pool)})
        excess.append(found.evaluations[0].calibration.excess)
    assert 0.002 < excess[0] < 0.01
    assert 2 * excess[0] < excess[1] < 0.08  # a constant of one half has an excess of 0.15


@cache
def quarters() -> list[dict[str, dict[str, Checked | str]]]:
    return [checked(rates(), seed) for seed in SEEDS]


@pytest.mark.parametrize("name", list(ALL_RECIPES))
def test_estimates_from_a_quarter_agree_with_the_whole(name: str) -> None:
    """The 95 % intervals of one draw depend on each other; 15 of 18 leave room for a draw that is off, and none for a bias."""
    found = [value for quarter in quarters() for value in quarter[name].values()]
    told = [value for value in found if isinstance(value, Checked)]
    assert len(told) == 3 * len(SEEDS), found
    assert sum(value.holds for value in told) >= 15, told
    errors = np.array([(value.value - value.truth) / (value.high - value.low) for value in told])
    assert abs(errors.mean()) < 0.3
    assert all(value.truth < BEST and value.high - value.low < 0.12 for value in told)

"""Recipes run forward from the twin, on paired draws and seeds, beside uniform, the log's own choices and the upper mark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from curricula.recipes import Recipe
from curricula.types import CurriculaError, Floats, Ints
from rollout.ranges import at_least
from trainer.simulate.compare import N_POINTS, with_marks
from trainer.simulate.run import spend
from trainer.simulate.setting import Setting
from trainer.twin.counts import Counts, update_signal
from trainer.twin.fit import Twin
from trainer.twin.learner import Draw, Start, TwinStudent, draw_of, pass_rates_K, pass_rates_N

OWN = "as logged"  # the log's own choices, made again
OWN_STREAM = 13  # of the seed
MAX_ATTEMPTS = 4  # of a step, where the log has none but first ones

Recipes = Mapping[str, str | Recipe]
OnDone = Callable[[], None]


class Range(NamedTuple):
    """Median and 90 % range over draws and seeds."""

    median: float
    low: float
    high: float


class Rolled(NamedTuple):
    """One recipe on one draw and seed."""

    end_K: Floats  # mean pass rate of each distribution
    end: float  # of the pool
    live_share: float
    n_rollouts: int
    curve_P: Floats  # the pool's, at equal shares of the budget


@dataclass(frozen=True, eq=False)
class Row:
    """One recipe over all draws and seeds (``_S``), against uniform on the same ones."""

    name: str
    end_SK: Floats
    end_S: Floats
    difference_S: Floats
    live_S: Floats
    rollouts_S: Ints
    curve_SP: Floats


@dataclass(frozen=True, eq=False)
class RollForward:
    """The log's own choices, uniform, the recipes, the oracle."""

    start: Start
    setting: Setting
    n_draws: int
    n_seeds: int
    names_K: tuple[str, ...]
    begin_S: Floats  # the pool's pass rate before the first step
    rows: Sequence[Row]

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


def range_of(value_S: Floats) -> Range:
    """Median, 5 % and 95 % quantile.

    >>> range_of(np.arange(101.0))
    Range(median=50.0, low=5.0, high=95.0)
    """
    low, median, high = np.quantile(value_S, [0.05, 0.5, 0.95])
    return Range(float(median), float(low), float(high))


def setting_of(counts: Counts) -> Setting:
    """The log's budget: its usual groups per step and rollouts per group, and as many steps as its rollouts pay for."""
    first_T = np.bincount(counts.step_G[counts.attempt_G == 0], minlength=counts.n_steps)
    groups = min(max(int(np.median(first_T)), 1), len(counts.pool))
    rollouts = int(np.median(counts.n_G))
    attempts = int(counts.attempt_G.max()) + 1
    return Setting(
        steps=max(round(int(counts.n_G.sum()) / (groups * rollouts)), 1),
        groups=groups,
        rollouts=rollouts,
        max_attempts=attempts if attempts > 1 else MAX_ATTEMPTS,
        prompts=len(counts.pool),
        levels=counts.pool.n_distributions,
    )


def roll_forward(
    twin: Twin,
    counts: Counts,
    recipes: Recipes,
    start: Start = "start",
    effort: tuple[int, int] = (20, 2),
    processes: int = 1,
    on_done: OnDone | None = None,
) -> RollForward:
    """Every recipe from the same draws; ``effort``: how many draws of the twin, and seeds of each.

    Curricula begin without knowledge, also from ``"end"``. Errors: CurriculaError for fewer than two draws or no seed.
    """
    n_draws, n_seeds = effort
    at_least("twin", 2, draws=n_draws)
    at_least("twin", 1, seeds=n_seeds)
    if n_draws > len(twin):
        raise CurriculaError(f"twin.draws: the fit holds {len(twin)} draws, got {n_draws}")
    recipes, setting = with_marks(recipes, taken=(OWN,)), setting_of(counts)
    jobs = [(draw_of(twin, draw, start), draw * n_seeds + seed) for draw in range(n_draws) for seed in range(n_seeds)]
    done: list[list[Rolled]] = []
    for rolled in _each(partial(_job, recipes, counts, setting), jobs, processes):
        done.append(rolled)
        if on_done:
            on_done()
    names = [OWN, *recipes]
    uniform_S = np.array([rolled[1].end for rolled in done])
    return RollForward(
        start=start,
        setting=setting,
        n_draws=n_draws,
        n_seeds=n_seeds,
        names_K=tuple(map(str, counts.pool.distribution_names)),
        begin_S=np.array([pass_rates_N(draw).mean() for draw, _ in jobs]),
        rows=[_row(name, [rolled[i] for rolled in done], uniform_S) for i, name in enumerate(names)],
    )


def _job(recipes: Recipes, counts: Counts, setting: Setting, job: tuple[Draw, int]) -> list[Rolled]:
    """The log's own choices and all recipes on one draw and seed."""
    draw, seed = job
    return [roll_log(draw, counts, seed), *(roll(recipe, draw, counts, setting, seed) for recipe in recipes.values())]


def roll(recipe: str | Recipe, draw: Draw, counts: Counts, setting: Setting, seed: int) -> Rolled:
    """One recipe spends the budget on one learner."""
    student = TwinStudent(draw)
    run = spend(recipe, student, setting, seed, counts.pool)
    curve_P = np.interp(np.linspace(0, setting.budget, N_POINTS), run.spent_T, run.level_T)
    spent = int(run.spent_T[-1])
    return Rolled(pass_rates_K(student.draw), float(run.level_T[-1]), run.n_live / max(run.n_groups, 1), spent, curve_P)


def roll_log(draw: Draw, counts: Counts, seed: int) -> Rolled:
    """The log's own prompts and group sizes, step by step, with outcomes that this learner draws."""
    student, kept, k = TwinStudent(draw), counts.kept_shares(), counts.pool.n_distributions
    begin_T1 = np.searchsorted(counts.step_G, np.arange(counts.n_steps + 1))
    rng = np.random.default_rng((seed, OWN_STREAM))
    level_T1, n_live = [float(student.pass_rates().mean())], 0
    for begin, end in pairwise(begin_T1):
        prompt_B, n_B = counts.prompt_G[begin:end], counts.n_G[begin:end]
        solved_B = rng.binomial(n_B, student.pass_rates()[prompt_B])
        n_live += int(((solved_B > 0) & (solved_B < n_B)).sum())
        signal_B = update_signal(solved_B, n_B, kept)
        student.add(np.bincount(draw.distribution_N[prompt_B], signal_B, k).astype(np.float64))
        level_T1.append(float(student.pass_rates().mean()))
    spent_T1 = np.concatenate([[0], np.cumsum(counts.n_G)])[begin_T1]
    curve_P = np.interp(np.linspace(0, spent_T1[-1], N_POINTS), spent_T1, level_T1)
    return Rolled(pass_rates_K(student.draw), level_T1[-1], n_live / len(counts), int(spent_T1[-1]), curve_P)


def _each(
    work: Callable[[tuple[Draw, int]], list[Rolled]], jobs: Sequence[tuple[Draw, int]], processes: int
) -> Iterator[list[Rolled]]:
    if processes <= 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, jobs)


def _row(name: str, rolled_S: Sequence[Rolled], uniform_S: Floats) -> Row:
    end_S = np.array([rolled.end for rolled in rolled_S])
    return Row(
        name=name,
        end_SK=np.array([rolled.end_K for rolled in rolled_S]),
        end_S=end_S,
        difference_S=end_S - uniform_S,
        live_S=np.array([rolled.live_share for rolled in rolled_S]),
        rollouts_S=np.array([rolled.n_rollouts for rolled in rolled_S]),
        curve_SP=np.array([rolled.curve_P for rolled in rolled_S]),
    )

"""Recipes on paired seeds, and what they differ in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np

from curricula.recipes import Recipe
from curricula.statistics import Interval, interval
from curricula.types import CurriculaError, Floats, Ints
from trainer.simulate.run import ORACLE, Run, simulate_in
from trainer.simulate.setting import Setting
from trainer.simulate.student import make_pool

REFERENCE = "uniform"
N_POINTS = 101  # of the common axis of rollouts

Recipes = Mapping[str, str | Recipe]  # label -> recipe
OnDone = Callable[[], None]  # called after every seed of every setting


@dataclass(frozen=True, eq=False)
class Row:
    """One recipe over all seeds, against uniform on the same seeds."""

    name: str
    curve_ST: Floats  # (seeds, N_POINTS) mean true pass rate at equal shares of the budget
    live_share_S: Floats  # live groups / generated groups
    updates_S: Ints  # of the learner; refills make fewer of them out of the same rollouts
    reach_S: Ints  # rollouts until uniform's final level of the same seed; the whole budget where it was not reached
    reached_S: Floats  # 1 where it was reached
    final: float
    difference: Interval  # of the final level to uniform's
    area: float  # under the curve, 0 to 1: the mean level over the budget
    area_difference: Interval

    @property
    def reach(self) -> float:
        """Mean rollouts until uniform's final level; a lower bound where some seeds did not reach it."""
        return float(self.reach_S.mean())

    @property
    def censored(self) -> int:
        """Seeds that did not reach it."""
        return int(len(self.reached_S) - self.reached_S.sum())


@dataclass(frozen=True, eq=False)
class Comparison:
    """All recipes in one setting; uniform is the first row, the oracle the last."""

    setting: Setting
    seeds: int
    rows: Sequence[Row]

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


def with_marks(recipes: Recipes, taken: Sequence[str] = ()) -> Recipes:
    """The recipes between their reference and the upper mark; ``taken`` names no recipe may have either."""
    for mark in (REFERENCE, ORACLE, *taken):
        if mark in recipes and recipes[mark] != mark:
            raise CurriculaError(f"a recipe of your own is called {mark!r}, which is always there; rename its file")
    others = {label: recipe for label, recipe in recipes.items() if label not in (REFERENCE, ORACLE)}
    return {REFERENCE: REFERENCE, **others, ORACLE: ORACLE}


def compare(
    recipes: Recipes, settings: Sequence[Setting], seeds: int, processes: int = 1, on_done: OnDone | None = None
) -> list[Comparison]:
    """Every recipe, uniform and the oracle, in every setting, on the seeds 0..seeds - 1."""
    if seeds < 2:
        raise CurriculaError(f"simulate.seeds: one seed has no interval; expected >= 2, got {seeds}")
    recipes = with_marks(recipes)
    jobs = [(setting, seed) for setting in settings for seed in range(seeds)]
    done = []
    for runs in _each(partial(_job, recipes), jobs, processes):
        done.append(runs)
        if on_done:
            on_done()
    return [_comparison(setting, list(recipes), done[i * seeds : (i + 1) * seeds]) for i, setting in enumerate(settings)]


def _job(recipes: Recipes, job: tuple[Setting, int]) -> list[Run]:
    """All recipes on one seed of one setting; they share the pool."""
    setting, seed = job
    pool = make_pool(setting, seed)
    return [simulate_in(recipe, setting, seed, pool) for recipe in recipes.values()]


def _each(
    work: Callable[[tuple[Setting, int]], list[Run]], jobs: Sequence[tuple[Setting, int]], processes: int
) -> Iterator[list[Run]]:
    if processes <= 1:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, jobs)


def _comparison(setting: Setting, names: Sequence[str], done: Sequence[Sequence[Run]]) -> Comparison:
    """``done`` holds the runs of each seed, recipe by recipe."""
    runs_by_name = {name: [runs[i] for runs in done] for i, name in enumerate(names)}
    reference = runs_by_name[REFERENCE]
    return Comparison(setting, len(done), [_row(name, runs, reference, setting.budget) for name, runs in runs_by_name.items()])


def _row(name: str, runs: Sequence[Run], reference: Sequence[Run], budget: int) -> Row:
    curve_ST = np.array([on_grid(run, budget) for run in runs])
    uniform_ST = np.array([on_grid(run, budget) for run in reference])
    area_S, uniform_area_S = areas(curve_ST), areas(uniform_ST)
    reaches = [reach(run, other.level_T[-1], budget) for run, other in zip(runs, reference, strict=True)]
    return Row(
        name=name,
        curve_ST=curve_ST,
        live_share_S=np.array([run.n_live / max(run.n_groups, 1) for run in runs]),
        updates_S=np.array([run.n_updates for run in runs]),
        reach_S=np.array([rollouts for rollouts, _ in reaches]),
        reached_S=np.array([float(reached) for _, reached in reaches]),
        final=float(curve_ST[:, -1].mean()),
        difference=interval(curve_ST[:, -1] - uniform_ST[:, -1]),
        area=float(area_S.mean()),
        area_difference=interval(area_S - uniform_area_S),
    )


def on_grid(run: Run, budget: int) -> Floats:
    """The run's level at equal shares of the budget; flat where it stopped before the end."""
    return np.interp(np.linspace(0, budget, N_POINTS), run.spent_T, run.level_T)


def areas(curve_ST: Floats) -> Floats:
    """(S,) mean height of each curve (trapezoids)."""
    return np.asarray((curve_ST[:, 1:] + curve_ST[:, :-1]).mean(axis=1) / 2)


def reach(run: Run, level: float, budget: int) -> tuple[int, bool]:
    """Rollouts until the level was first met, and whether it was; the whole budget where it was not."""
    met = np.flatnonzero(run.level_T >= level)
    return (int(run.spent_T[met[0]]), True) if len(met) else (budget, False)

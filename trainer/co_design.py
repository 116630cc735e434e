"""Recipes whose curriculum and schedule work against each other: said by `curricula plan`, never refused."""

from __future__ import annotations

import warnings

from curricula import Curriculum
from curricula.conflicts import ConflictWarning, parts_of
from trainer.recipe import Recipe
from trainer.schedules.rate import LearningRate

HARDEST_LAST = ("e2h", "staged")  # distribution policies that go from easy to hard by themselves
LOW = 0.2  # of the peak; CDMA ends at a third, arXiv 2511.18903


def check_co_design(recipe: Recipe, curriculum: Curriculum, rate: LearningRate) -> None:
    """ConflictWarning where the hardest distribution is sent last and meets the end of a decay."""
    last_to_come = [part.name for part in parts_of("distribution", curriculum.stages.distribution) if part.name in HARDEST_LAST]
    end = max(rate.schedule.multiplier(rate.state.clock.horizon), _held(recipe))
    if last_to_come and end < LOW:
        warnings.warn(
            f"curriculum.distribution {last_to_come[0]!r} sends the hardest prompts last, when schedule "
            f"{recipe.schedule['name']!r} has come down to {end:.0%} of its peak: they are learned at the lowest rate (a run's "
            "`curricula lr dose` shows it). In pre-training a floor of a third of the peak kept what such an order gains (arXiv "
            "2511.18903); in our small GRPO study decays over the whole run lost most there, one over the last fifth did not "
            "(docs/learning_rate_study.md). Try a constant rate, schedule.floor 0.33, or decay_when with floor_while_learning",
            ConflictWarning,
            stacklevel=2,
        )


def _held(recipe: Recipe) -> float:
    """The floor of a decay that comes while something learns, where the schedule has one."""
    return float((recipe.schedule.get("decay_when") or {}).get("floor_while_learning", 0.0))

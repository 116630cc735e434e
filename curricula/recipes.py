"""Named recipes: one policy per stage, ready to use, and the reader of recipes that users write.

A recipe is a mapping from stage to policy, ``{"distribution": {"name": "dump_ucb", "tau": 0.2}, "exploration": 0.05}``; stages
that it leaves out take the default. The ``*_published`` recipes follow the released code or the paper where that differs from
what we recommend; what differs is written in the policies' docstrings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curricula.registry import STAGES, build
from curricula.stages import Stages
from curricula.types import CurriculaError, known_or_raise

Recipe = Mapping[str, Any]

DEFAULTS: Recipe = {
    "belief": "beta",
    "distribution": "uniform",
    "selector": "uniform",
    "budget": "even",
    "shaping": "raw",
    "filter": "keep_all",
    "downsampling": "none",
    "exploration": 0.02,
}

RECIPES: Mapping[str, Recipe] = {
    "uniform": {},
    "dump_ucb": {"distribution": "dump_ucb"},
    "dump_ucb_published": {
        "distribution": {"name": "dump_ucb", "signal": "mean_abs_advantage", "count_unit": "rollout"},
        "exploration": 0.0,
    },
    "sec": {"distribution": "sec"},
    "sec_published": {
        "distribution": {"name": "sec", "signal": "mean_abs_advantage", "unseen": "zero"},
        "exploration": 0.0,
    },
    "nonzero_variance": {"filter": "nonzero_variance"},
    "difficulty_band": {"filter": "difficulty_band"},
    "difficulty_band_published": {
        "distribution": {"name": "uniform", "over": "prompts"},
        "filter": {"name": "difficulty_band", "low": 0.3, "high": 0.7, "closed": False},
        "exploration": 0.0,
    },
    "knapsack": {"budget": "knapsack"},
    "knapsack_published": {
        "belief": {"name": "beta", "forgetting": 0.0, "prior_alpha": 0.0, "prior_beta": 0.0, "prior_strength": 0.0},
        "distribution": {"name": "uniform", "over": "prompts"},
        "budget": {"name": "knapsack", "value": "plug_in", "min_value": "official"},
        "exploration": 0.0,
    },
    "combined": {"distribution": "dump_ucb", "budget": "knapsack", "filter": "difficulty_band"},
}


def read(recipe: str | Recipe) -> tuple[Stages, float]:
    """The policies and the exploration share of a recipe, by name or written out.

    >>> stages, exploration = read("combined")
    >>> type(stages.budget).__name__, exploration
    ('Knapsack', 0.02)
    """
    if isinstance(recipe, str):
        known_or_raise("recipe", recipe, tuple(RECIPES))
        recipe = RECIPES[recipe]
    for key in recipe:
        known_or_raise("key of a curriculum recipe:", key, tuple(DEFAULTS))
    whole = {**DEFAULTS, **recipe}
    return Stages(**{stage: build(stage, whole[stage]) for stage in STAGES}), checked_exploration(whole["exploration"])


def checked_exploration(value: Any) -> float:
    """The share of every plan that is spread evenly over distributions, in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise CurriculaError(f"exploration: expected a number in 0..1, got {value!r}")
    return float(value)

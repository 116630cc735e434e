"""Small recipes for tests of the whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.recipe import Recipe, parse_recipe


def simulated(folder: Path, **changes: Any) -> Recipe:
    """A run on the simulated engine in this process; ``changes`` are dotted keys with __ for the dot."""
    data: dict[str, Any] = {
        "name": "simulated",
        "seed": 3,
        "task": {"name": "simulated", "n_levels": 5, "prompts_per_level": 60, "held_out_per_level": 20},
        "curriculum": {
            "distribution": {"name": "dump_ucb"},
            "selector": {"name": "uniform"},
            "budget": {"name": "knapsack"},
            "filter": {"name": "nonzero_variance", "refill": "resample"},
        },
        "rollout": {
            "groups_per_step": 12,
            "rollouts_per_group": 8,
            "max_attempts": 3,
            "sampling": {"max_tokens": 32},
            "engine": {"backend": "simulated", "placement": "driver", "options": {"n_levels": 5, "mean_tokens": 10}},
        },
        "schedule": {"name": "cosine", "peak": 0.3, "warmup": 1, "floor": 0.1},
        "evaluation": {"prompts_per_distribution": 10, "samples_per_prompt": 4},
        "run": {"n_steps": 12, "checkpoint_every": 4, "folder": str(folder)},
    }
    return parse_recipe(changed(data, changes))


def beside(name: str) -> dict[str, Any]:
    """What a named curriculum needs of the other parts of a recipe."""
    needs: dict[str, dict[str, Any]] = {
        "remax": {"learner__advantage": "remax"},
        "anytime_reasoner": {"rollout__summary": "\n", "rollout__sampling__max_tokens": 8000},
    }
    return needs.get(name, {})


def changed(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = data
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = value
    return data

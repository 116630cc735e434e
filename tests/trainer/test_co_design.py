"""`curricula plan` says where a curriculum sends the hardest prompts into the end of a decay."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from curricula.conflicts import ConflictWarning
from tests.trainer.recipes import simulated
from trainer.dry_run import dry_run

STALLS = {"name": "progress_stalls", "floor_while_learning": 0.33}
STAGED = {"name": "staged", "steps": [3]}


@pytest.mark.parametrize(
    ("distribution", "schedule", "said"),
    [
        (STAGED, {"name": "linear"}, "'staged' sends the hardest prompts last, when schedule 'linear' has come down to 0%"),
        ({"name": "e2h"}, {"name": "wsd", "floor": 0.1}, "'e2h' .* has come down to 10%"),
        ({"name": "floored", "inner": STAGED}, {"name": "cosine"}, "'staged'"),
        (STAGED, {"name": "wsd", "floor": 0.33}, None),
        (STAGED, {"name": "wsd", "floor": 0.1, "decay_when": STALLS}, None),
        (STAGED, {"name": "constant"}, None),
        ({"name": "uniform"}, {"name": "linear"}, None),
    ],
)
def test_easy_to_hard_into_a_decay_is_named(tmp_path: Path, distribution: Any, schedule: Any, said: str | None) -> None:
    recipe = simulated(tmp_path / "run", curriculum__distribution=distribution, schedule={"peak": 0.1, **schedule})
    if said is not None:
        with pytest.warns(ConflictWarning, match=said):
            dry_run(recipe)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConflictWarning)
        dry_run(recipe)

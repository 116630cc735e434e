"""Every named recipe through the whole loop on the simulated engine: refills, further rounds, learner, log, checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from curricula import RECIPES
from rollout.log import read_log
from tests.trainer.recipes import beside, simulated
from trainer.loop import run


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_and_its_log_agrees(name: str, tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", curriculum=dict(RECIPES[name]), run__n_steps=4, run__checkpoint_every=2, **beside(name))
    summary = run(recipe)
    assert summary.n_steps == 4
    assert not summary.stopped_early
    records = list(read_log(tmp_path / "run" / "log"))
    assert {record["step"] for record in records if record["kind"] == "attempt"} == {0, 1, 2, 3}
    groups = [record for record in records if record["kind"] == "group"]
    assert all(0 < group["propensity"] <= 1 + 1e-12 for group in groups)
    assert all(len(group["rewards"]) == len(group["shaped"]) for group in groups)

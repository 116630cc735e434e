"""Scales of the learning rate that a real learner feeds, inside a real run."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.tiny import save_tiny_model
from tests.trainer.test_loop import decisions, records
from tests.trainer.test_optimizer_runs import SMALL
from tests.trainer.test_real_run import model_bytes, real
from trainer.loop import run
from trainer.recipe import Recipe

CONTROLLERS = {"kl_adaptive": {"target": 1e-7}, "signal_to_noise": {"settle": 1}, "hypergradient": {}}


def fed(folder: Path, model: Path) -> Recipe:
    schedule = {"name": "constant", "peak": 1e-2, "controllers": CONTROLLERS}
    return real(
        folder, model, **SMALL | {"rollout__groups_per_step": 6, "run__n_steps": 6, "run__checkpoint_every": 3}, schedule=schedule
    )


def test_what_the_learner_measures_moves_the_rate_and_a_resumed_run_has_the_same_rates(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", hidden=32, layers=1)
    straight, again = fed(tmp_path / "straight", model), fed(tmp_path / "again", model)
    run(straight)
    run(again)
    shutil.rmtree(again.folder / "checkpoints" / "step-00000006")
    run(again, resume=True)
    steps = records(straight.folder, "step")
    for metric in ("update_kl", "gradient_noise", "update_cosine"):
        assert sum(metric in step["metrics"] for step in steps) >= 3, f"{metric} is measured"
    assert len({step["lr"] for step in steps}) >= 3, "with so small a target the divergence lowers the rate"
    assert any("lr/held_by/kl_adaptive" in step["metrics"] for step in steps)
    assert [step["lr"] for step in records(again.folder, "step")] == [step["lr"] for step in steps]
    assert decisions(again) == decisions(straight)
    assert model_bytes(again) == model_bytes(straight)

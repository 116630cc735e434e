"""Dose accounting: by hand, against the weights' own recursion, and from the log of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curricula.types import CurriculaError
from rollout.log import read_log
from tests.trainer.recipes import simulated
from trainer.cli import main
from trainer.loop import run
from trainer.report import write_report
from trainer.report.data import read_run
from trainer.report.dose import n_trained
from trainer.schedules.dose import after_step, doses

LATE = np.array([[8, 0], [8, 0], [0, 8], [0, 8]])  # the second distribution comes in the later half


def test_by_hand() -> None:
    assert doses(np.full(4, 0.5), LATE).tolist() == [8.0, 8.0], "constant rate, no decay: rate x counts"
    assert doses(np.array([1.0, 0.75, 0.5, 0.25]), LATE).tolist() == [14.0, 6.0], "what comes late under a decay is learned less"
    # decay 0.5: step 0 leaves 8, step 1 (x 0.5) 4 + 8 = 12, step 2 (x 0.75) 9 and 0.5 x 8 = 4, step 3 (x 1) with rate 0
    decayed = doses(np.array([1.0, 1.0, 0.5, 0.0]), LATE, weight_decay=0.5)
    assert decayed.tolist() == [9.0, 4.0]
    # two updates of one step: half the rollouts decay once more
    assert doses(np.array([0.5]), np.array([[8]]), 0.5, np.array([2])).tolist() == [0.5 * (4 * 0.75 + 4)]
    assert doses(np.array([0.5, 0.5]), np.array([[8], [8]]), 0.0, np.array([1, 0])).tolist() == [4.0], "no update, no dose"
    assert len(doses(np.zeros(0), np.zeros((0, 2)))) == 2


def test_it_is_what_adamw_leaves_in_the_weights_of_unit_updates() -> None:
    """Under a constant gradient Adam's step is lr, so a weight that one distribution trains ends at minus its dose."""
    rates, n_TK = [0.3, 0.2, 0.4, 0.1], np.array([[1, 0], [1, 0], [1, 0], [1, 0]])
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=1.0, weight_decay=0.25, eps=0.0)
    for lr in rates:
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert doses(np.array(rates), n_TK, 0.25)[0] == pytest.approx(-weight.item(), rel=1e-12)


def test_the_running_form_is_the_sum() -> None:
    rng = np.random.default_rng(0)
    lr_T, n_TK, updates_T = rng.random(9), rng.integers(0, 9, (9, 3)), rng.integers(0, 4, 9)
    running = np.zeros(3)
    for lr, n_K, updates in zip(lr_T, n_TK, updates_T, strict=True):
        running = after_step(running, lr, n_K, 0.1, int(updates))
    left_T = [np.prod((1 - 0.1 * lr_T[t + 1 :]) ** updates_T[t + 1 :]) for t in range(9)]
    own_T = [np.mean((1 - 0.1 * lr) ** np.arange(u)) if u else 0.0 for lr, u in zip(lr_T, updates_T, strict=True)]
    expected = (lr_T * np.array(left_T) * np.array(own_T)) @ n_TK
    np.testing.assert_allclose(running, expected, rtol=1e-12)
    np.testing.assert_array_equal(doses(lr_T, n_TK, 0.1, updates_T), running)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(CurriculaError, match=r"got shapes \(2,\), \(1, 1\)"):
        doses(np.ones(2), np.ones((1, 1)))
    with pytest.raises(CurriculaError, match="expected finite rates >= 0"):
        doses(np.array([np.nan]), np.ones((1, 1)))


def group(**fields: Any) -> dict[str, Any]:
    plain = {"gradient": [1, 1, 1, 0], "shaped": [1, 0, 0, None], "statuses": ["ok", "ok", "ok", "timeout"]}
    return plain | {"weight": 1.0, "credits": [[], [], [], []], "greedy": None} | fields


def test_trained_are_the_rollouts_with_gradient_of_groups_with_a_signal() -> None:
    assert n_trained(group(), False) == 3
    assert n_trained(group(shaped=[1, 1, 1, None]), False) == 0
    assert n_trained(group(weight=0.0), False) == 0
    assert n_trained(group(gradient=[1, 0, 0, 0]), False) == 1, "compared with the whole group"
    assert n_trained(group(gradient=[0, 1, 1, 0]), True) == 0, "compared with each other"
    assert n_trained(group(shaped=[1, 1, 1, None], greedy={"shaped": 0.0}), False, remax=True) == 3
    assert n_trained(group(greedy=None), False, remax=True) == 0
    assert n_trained(group(shaped=[1, 1, 1, None], credits=[[0.5, 0], [0, 0], [0, 0], [0, 0]]), False) == 3


def easy_to_hard(folder: Path, **changes: Any) -> Any:
    staged = {"name": "staged", "steps": [4, 4, 4]}
    fixed = {
        "task__n_levels": 3,
        "rollout__engine__options": {"n_levels": 3, "mean_tokens": 10},
        "curriculum": {"distribution": staged, "selector": {"name": "uniform"}, "filter": {"name": "keep_all"}},
        "schedule": {"name": "linear", "peak": 0.05},
    }
    return simulated(folder, **(fixed | changes))


def test_a_run_that_ends_hard_gives_its_last_stage_the_smallest_dose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = easy_to_hard(tmp_path / "run")
    run(recipe)
    found = {one.name: one for one in read_run(recipe.folder).doses}
    records = list(read_log(recipe.folder / "log"))
    lr = {record["step"]: record["lr"] for record in records if record["kind"] == "step"}
    for name, one in found.items():
        groups = [record for record in records if record["kind"] == "group" and record["distribution"] == name]
        live = [record for record in groups if len(set(record["rewards"])) > 1]
        assert one.n_rollouts == sum(len(record["rewards"]) for record in groups)
        assert one.n_trained == sum(len(record["rewards"]) for record in live)
        assert one.dose == pytest.approx(sum(lr[record["step"]] * len(record["rewards"]) for record in live), rel=1e-12)
    first, *_, last = sorted(found)
    assert found[last].mean_lr < 0.3 * found[first].mean_lr
    page = write_report(recipe.folder).read_text()
    assert "<h2>Dose by distribution</h2>" in page
    assert f"<td>{found[last].n_trained:,}</td>" in page
    with pytest.raises(SystemExit) as ended:
        main(["lr", "dose", str(recipe.folder)])
    assert not ended.value.code
    said = capsys.readouterr().out
    assert last in said
    assert f"{found[last].mean_lr:.3g}" in said


def test_a_run_without_an_update_has_no_dose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hopeless = {"n_levels": 3, "mean_tokens": 10, "start": -60.0}
    recipe = easy_to_hard(tmp_path / "run", rollout__engine__options=hopeless, run__n_steps=2, run__checkpoint_every=2)
    run(recipe)
    assert "Dose by distribution" not in write_report(recipe.folder).read_text()
    with pytest.raises(SystemExit) as ended:
        main(["lr", "dose", str(recipe.folder)])
    assert ended.value.code == 2
    assert "no rollout has carried gradient yet" in capsys.readouterr().err

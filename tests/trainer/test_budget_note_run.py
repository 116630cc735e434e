"""Train Long, Think Short end to end, the budget stated in the prompts: simulated, resumed, and on a real language model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula.types import CurriculaError
from tests.trainer.recipes import simulated
from tests.trainer.test_loop import decisions, records, state
from tests.trainer.test_real_run import real
from trainer import checkpoint
from trainer.dry_run import dry_run
from trainer.loop import run
from trainer.recipe import Recipe
from trainer.verify_log import reexecuted, verify_run

NOTE = " Think for at most {budget} tokens."
PUBLISHED = {"pacing": "exponential_steps", "first": 256, "factor": 0.7, "every": 2, "least": 1}
STATED: dict[str, Any] = {
    "curriculum": {"shaping": {"name": "length_budget", "budget": PUBLISHED}},
    "rollout__budget_note": NOTE,
    "run__n_steps": 8,
}


def stated(recipe: Recipe) -> list[int]:
    """The budget of each step, the same in all its groups."""
    by_step: dict[int, set[int]] = {}
    for group in records(recipe.folder, "group"):
        by_step.setdefault(group["step"], set()).add(group["stated_tokens"])
    assert all(len(budgets) == 1 for budgets in by_step.values())
    return [min(by_step[step]) for step in sorted(by_step)]


def test_the_log_says_what_the_prompts_said_and_verifies(tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", **STATED)
    run(recipe)
    assert stated(recipe) == [256, 256, 179, 179, 125, 125, 87, 87]
    assert [checked.difference for checked in verify_run(recipe.folder)] == [None, None]
    assert reexecuted(recipe.folder)[::2] == (8, None)


def test_without_a_note_the_run_is_the_same_and_nothing_is_stated(tmp_path: Path) -> None:
    told, plain = simulated(tmp_path / "told", **STATED), simulated(tmp_path / "plain", **{**STATED, "rollout__budget_note": ""})
    run(told)
    run(plain)
    assert stated(plain) == [0] * 8
    assert decisions(plain) == decisions(told), "a simulated model reads no notes"
    assert reexecuted(plain.folder)[::2] == (8, None)


def test_a_run_that_lost_its_last_checkpoint_states_the_same_again(tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", **STATED)
    run(recipe)
    straight = decisions(recipe), stated(recipe), state(recipe)
    newest = checkpoint.newest(recipe.folder / "checkpoints")
    assert newest is not None
    shutil.rmtree(newest.folder)
    run(recipe, resume=True)
    assert (decisions(recipe), stated(recipe)) == straight[:2]
    for key, value in straight[2].items():
        np.testing.assert_array_equal(state(recipe)[key], value, err_msg=key)


def test_a_note_that_no_policy_fills_in_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", rollout__budget_note=NOTE)
    for start in (run, dry_run):
        with pytest.raises(CurriculaError, match=r"rollout.budget_note: the recipe's shaping policy states no budget"):
            start(recipe)


def test_a_real_model_is_trained_behind_the_prompt_that_it_read(tmp_path: Path, tiny_model_path: Path) -> None:
    """Log-probabilities of engine and learner only agree behind the very same tokens."""
    recipe = real(tmp_path / "run", tiny_model_path, **{**STATED, "run__n_steps": 4})
    run(recipe)
    assert stated(recipe) == [256, 256, 179, 179]
    mismatches = [step["metrics"]["mismatch_max"] for step in records(recipe.folder, "step") if "updates" in step["metrics"]]
    assert len(mismatches) >= 3
    assert max(mismatches) < 1e-3


def test_the_note_needs_room_in_the_window(tmp_path: Path, tiny_model_path: Path) -> None:
    """A window that holds the prompts and their completions, but not the notes."""
    short = real(tmp_path / "run", tiny_model_path, **STATED, rollout__engine__max_model_tokens=50)
    with pytest.raises(CurriculaError, match=r"beside sampling.max_tokens and rollout.budget_note"):
        run(short)
    run(real(tmp_path / "plain", tiny_model_path, run__n_steps=1, rollout__engine__max_model_tokens=50))

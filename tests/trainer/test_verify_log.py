"""The log of a run is what its curriculum learned: folded anew, it gives the checkpoints bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curricula import RECIPES
from curricula.types import CurriculaError
from replay.verify import first_difference
from tests.trainer.recipes import beside, simulated
from trainer.cli import main
from trainer.loop import run
from trainer.verify_log import reexecuted, verify_run


@pytest.mark.parametrize("name", [*RECIPES])
def test_every_recipes_log_gives_its_checkpoints(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(simulated(folder, curriculum=dict(RECIPES[name]), run__n_steps=4, run__checkpoint_every=2, **beside(name)))
    assert [(checked.step, checked.n_logged, checked.difference) for checked in verify_run(folder)] == [(2, 2, None), (4, 4, None)]
    replayed = reexecuted(folder)
    assert (replayed.n_steps, replayed.departure) == (4, None)
    assert replayed.n_attempts >= 4


def test_one_step_ahead_verifies_too(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(simulated(folder, run__mode="one_step_ahead", run__n_steps=9, run__checkpoint_every=4, run__keep_checkpoints=5))
    assert [(checked.step, checked.difference) for checked in verify_run(folder)] == [(4, None), (8, None), (9, None)]
    assert reexecuted(folder)[::2] == (9, None)


def test_another_recipe_departs_and_is_told_where(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(simulated(folder, run__n_steps=4))
    recipe = (folder / "recipe.yaml").read_text()
    assert "dump_ucb" in recipe
    (folder / "recipe.yaml").write_text(recipe.replace("dump_ucb", "sec"))
    replayed = reexecuted(folder)
    assert replayed.n_steps < 4
    assert replayed.departure is not None
    assert replayed.departure.startswith(f"step {replayed.n_steps}: ")


def test_a_state_that_the_log_does_not_give_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    run(simulated(folder, run__n_steps=3, run__checkpoint_every=3))
    saved = folder / "checkpoints" / "step-00000003" / "curriculum.npz"
    with np.load(saved) as file:
        state = dict(file)
    seen = np.flatnonzero(state["belief.success_N"])[0]
    state["belief.success_N"][seen] += 1
    np.savez(saved, **state)
    with pytest.raises(SystemExit) as stopped:
        main(["log", "verify", str(folder)])
    assert stopped.value.code == 1
    assert f"belief.success_N[{seen}]: the log gives" in capsys.readouterr().out


def test_what_is_no_run_or_has_other_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CurriculaError, match=r"no recipe\.yaml in it; expected the folder of a run"):
        verify_run(tmp_path)
    folder = tmp_path / "run"
    run(simulated(folder, run__n_steps=2, run__checkpoint_every=2))
    recipe = (folder / "recipe.yaml").read_text()
    assert "prompts_per_level: 60" in recipe
    (folder / "recipe.yaml").write_text(recipe.replace("prompts_per_level: 60", "prompts_per_level: 61"))
    with pytest.raises(CurriculaError, match=r"was planned from a pool with fingerprint .* replay with the data of the run"):
        verify_run(folder)


def test_differences_in_shape_and_key() -> None:
    one = {"a": np.zeros(3), "b": np.array([1.0, np.nan])}
    assert first_difference(one, {"a": np.zeros(3), "b": np.array([1.0, np.nan])}) is None
    assert str(first_difference(one, {"a": np.zeros(4), "b": one["b"]})) == (
        "a: the log gives float64 (3,), the checkpoint has float64 (4,)"
    )
    with pytest.raises(CurriculaError, match="key 'c' is in one of them only"):
        first_difference(one, {**one, "c": np.zeros(1)})

"""`curricula evaluate`: any model by the prompts, seeds and engine of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.recipes import simulated
from tests.trainer.test_loop import records
from tests.trainer.test_real_run import real
from trainer.cli import main
from trainer.loop import run
from trainer.lr.averages.model import average
from trainer.lr.averages.weights import uniform
from trainer.measure import measure, subject_of
from trainer.observer import EvaluationResult, read_evaluation
from trainer.run_folder import chosen


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path) -> Path:
    """A run on a real model that measures itself before, between and after two steps."""
    recipe = real(
        tmp_path_factory.mktemp("finished") / "run",
        tiny_model_path,
        curriculum="uniform",
        schedule__peak=0.02,
        evaluation={"every": 1, "prompts_per_distribution": 3, "samples_per_prompt": 2},
        rollout__verifier={"n_workers": 1},
        run__n_steps=2,
        run__checkpoint_every=1,
    )
    run(recipe)
    return recipe.folder


def logged(folder: Path, step: int) -> EvaluationResult:
    (found,) = (read_evaluation(record) for record in records(folder, "evaluation") if record["step"] == step)
    return found


def measured(where: Path, model: Path | None = None, step: int | None = None, overrides: tuple[str, ...] = ()) -> EvaluationResult:
    return measure(subject_of(where, overrides, model, step)).result


def test_a_checkpoint_has_the_very_numbers_that_its_run_logged(finished: Path) -> None:
    assert len({logged(finished, step).sampled for step in range(3)}) == 3, "or nothing could differ"
    assert measured(finished) == logged(finished, 2)
    assert measured(finished, step=1) == logged(finished, 1)


def test_a_recipe_is_measured_by_its_starting_model(finished: Path) -> None:
    assert measured(finished / "recipe.yaml") == logged(finished, 0)


def test_an_average_is_measured_and_that_of_one_checkpoint_is_the_checkpoint(finished: Path, tmp_path: Path) -> None:
    found = chosen(finished)
    average(finished, found[-1:], uniform(1), {}, tmp_path / "one")
    average(finished, found, uniform(2), {}, tmp_path / "both")
    assert measured(finished, tmp_path / "one").scores == logged(finished, 2).scores
    assert measured(finished, tmp_path / "both").scores not in [logged(finished, step).scores for step in range(3)]


def test_the_command_writes_every_prompt(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "scores.json"
    assert call(str(finished), "--set", "evaluation.prompts_per_distribution=2", "--json", str(out)) == 0
    said = capsys.readouterr().out
    assert "the checkpoint after 2 steps" in said
    assert "mean over distributions" in said
    found = json.loads(out.read_text())
    assert found["step"] == 2
    assert found["model"].endswith("step-00000002/model")
    for name, score in found["scores"].items():
        prompts = found["prompts"][name]
        assert len(set(prompts["ids"])) == score["n_prompts"] == 2
        assert np.mean(prompts["sampled"]) == pytest.approx(score["sampled"])
        assert np.mean(prompts["greedy"]) == pytest.approx(score["greedy"])
    assert np.mean([score["sampled"] for score in found["scores"].values()]) == pytest.approx(found["sampled"])


def test_simulated_runs_are_measured_by_their_skills(tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", run__n_steps=8)
    run(recipe)
    assert measured(recipe.folder) == logged(recipe.folder, 8) != logged(recipe.folder, 0)
    assert measured(recipe.folder / "recipe.yaml") == logged(recipe.folder, 0)


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    return int(ended.value.code or 0)


def test_what_is_not_there_is_said(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(finished / "recipe.yaml")
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(recipe, bare)
    for arguments, message in (
        ([str(finished), "--model", str(tmp_path), "--step", "1"], "give one of them"),
        ([str(tmp_path)], "no recipe.yaml in it; expected a recipe file, or the folder of a run"),
        ([recipe, "--step", "1"], "--step 1 is of a run's checkpoints"),
        ([str(finished), "--step", "7"], "no checkpoint after 7 steps; there are 2, after 1, 2 steps"),
        ([str(finished), "--model", str(tmp_path)], "no config.json in it; expected a Hugging Face model folder"),
        ([str(bare)], "no intact checkpoint yet"),
    ):
        assert call(*arguments) == 2
        assert message in " ".join(capsys.readouterr().err.split())

"""The learning rate inside a run: clocks of information, scales, and resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from curricula.types import CurriculaError
from rollout.log import read_log
from tests.trainer.recipes import simulated
from trainer import checkpoint
from trainer.loop import run
from trainer.report import write_report
from trainer.verify_log import reexecuted

SCHEDULES: dict[str, dict[str, Any]] = {
    "information": {"name": "wsd", "peak": 0.3, "decay": 0.3, "warmup": 0.1, "clock": "informative_rollouts"},
    "budget": {"name": "linear", "peak": 0.3, "clock": "rollouts", "horizon": 2000},
    "scales": {
        "name": "constant",
        "peak": 0.3,
        "controllers": {
            "batch_coupling": {"reference": 400},
            "guard": {"hold": 2},
            "length_surge": {"first": 2},
            "volatility": {"window": 2},
        },
    },
}


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [record for record in read_log(folder / "log") if record["kind"] == "step"]


def rates_of(folder: Path) -> list[tuple[float, ...]]:
    names = ("lr/clock", "lr/multiplier", "lr/scale")
    return [(step["lr"], *(step["metrics"][name] for name in names)) for step in steps_of(folder)]


@pytest.mark.parametrize("mode", ["on_policy", "one_step_ahead"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resumed_run_has_the_rates_of_one_that_never_stopped(tmp_path: Path, name: str, mode: str) -> None:
    options = {
        "schedule": SCHEDULES[name],
        "run__mode": mode,
        "run__n_steps": 12,
        "run__checkpoint_every": 4,
        "run__keep_checkpoints": 9,
    }
    straight, folder = simulated(tmp_path / "straight", **options), simulated(tmp_path / "again", **options)
    run(straight)
    run(folder)
    for later in ("step-00000008", "step-00000012"):
        shutil.rmtree(folder.folder / "checkpoints" / later)
    run(folder, resume=True)
    rates = rates_of(straight.folder)
    assert rates_of(folder.folder) == rates
    assert len({rate[0] for rate in rates}) >= 3
    assert all(rate[0] == pytest.approx(0.3 * rate[2] * rate[3]) for rate in rates)


def test_the_information_clock_ends_with_the_run_and_follows_live_groups(tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", schedule={"name": "linear", "peak": 0.3, "clock": "informative_rollouts"}, run__n_steps=10)
    run(recipe)
    clocks = [step["metrics"]["lr/clock"] for step in steps_of(recipe.folder)]
    facts = json.loads((checkpoint.valid_folders(recipe.folder / "checkpoints")[0] / "manifest.json").read_text())["facts"]
    assert clocks == sorted(clocks)
    assert clocks[0] == 0
    assert facts["rate"]["clock"][0] == pytest.approx(1.0)
    assert facts["rate"]["updates"] == 10


@pytest.mark.parametrize("mode", ["on_policy", "one_step_ahead"])
def test_tokens_end_a_run_and_its_schedule(tmp_path: Path, mode: str) -> None:
    """With the step that reaches them; a resumed run ends there too, and one that is over has nothing left to do."""
    linear = {"name": "linear", "peak": 0.3, "clock": "tokens"}
    options = {"schedule": linear, "run__n_steps": 50, "run__n_tokens": 9000, "run__mode": mode, "run__keep_checkpoints": 9}
    straight, again = simulated(tmp_path / "straight", **options), simulated(tmp_path / "again", **options)
    summary = run(straight)
    run(again)
    newest = checkpoint.valid_folders(again.folder / "checkpoints")[0]
    shutil.rmtree(newest)
    assert run(again, resume=True).n_steps == run(again, resume=True).n_steps == summary.n_steps < 50
    assert not summary.stopped_early
    steps, tokens = steps_of(straight.folder), [step["n_tokens_generated"] for step in steps_of(straight.folder)]
    assert sum(tokens[:-1]) < 9000 <= sum(tokens)
    assert rates_of(again.folder) == rates_of(straight.folder)
    assert [step["lr"] for step in steps] == pytest.approx([0.3 * (1 - sum(tokens[:i]) / 9000) for i in range(len(tokens))])
    assert reexecuted(straight.folder).departure is None
    assert steps[-1]["n_steps"] == len(steps)


def test_a_clock_of_updates_does_not_know_when_tokens_end_a_run(tmp_path: Path) -> None:
    with pytest.raises(CurriculaError, match=r"schedule.horizon: run.n_tokens ends the run.*schedule.clock: tokens"):
        simulated(tmp_path / "run", schedule={"name": "linear", "peak": 1.0}, run__n_tokens=1000)


@pytest.mark.parametrize("refill", ["none", "resample"])
def test_the_coupling_is_inert_where_batches_are_refilled_until_they_are_full(tmp_path: Path, refill: str) -> None:
    """96 informative rollouts in every step, so nothing to follow; without refills there is."""
    recipe = simulated(
        tmp_path / "run",
        curriculum__filter={"name": "nonzero_variance", "refill": refill},
        curriculum__budget={"name": "even"},
        rollout__max_attempts=30,
        schedule={"name": "constant", "peak": 0.01, "controllers": {"batch_coupling": {"reference": 96, "least": 0.01}}},
        run__n_steps=4,
    )
    run(recipe)
    scales = {step["metrics"]["lr/scale/batch_coupling"] for step in steps_of(recipe.folder)}
    assert (scales == {1.0}) == (refill == "resample")


def test_the_report_shows_what_made_the_rate(tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", schedule=SCHEDULES["scales"], run__n_steps=4, run__checkpoint_every=4)
    run(recipe)
    page = write_report(recipe.folder).read_text()
    assert 'aria-label="what made the learning rate"' in page
    for name in ("batch coupling", "guard", "length surge"):
        assert f"</i>{name}</li>" in page


def test_what_the_learner_cannot_measure_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(CurriculaError, match=r"learner.statistics: grad_norm_l1 .* cannot be measured with .* simulated"):
        simulated(tmp_path / "run", learner__statistics=["grad_norm_l1"])
    with pytest.raises(CurriculaError, match=r"learner.statistics.0: expected 'gradient_noise', .* did you mean 'update_kl'"):
        simulated(tmp_path / "run", learner__statistics=["update_k"])
    saturating = {"batch_coupling": {"form": "saturating"}}
    for controllers, message in (
        ({"signal_to_noise": {}}, "learner.statistics: gradient_noise .* needed by a controller of the schedule"),
        ({"kl_adaptive": {}, **saturating}, "learner.statistics: gradient_noise, update_kl "),
        ({"hypergradient": {}}, "learner.statistics: update_cosine "),
        ({"batch_coupling": {"form": "saturated"}}, "did you mean 'saturating'"),
        ({"guard": {"holds": 3}}, "did you mean 'hold'"),
        ({"brake": {}}, "unknown controller of the learning rate 'brake'"),
    ):
        with pytest.raises(CurriculaError, match=message):
            simulated(tmp_path / "run", schedule={"name": "constant", "peak": 1.0, "controllers": controllers})

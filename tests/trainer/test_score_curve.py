"""The sigmoid of score over compute: recovery, coverage, what is not told, and the command on runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from curricula.types import CurriculaError, Floats
from rollout.log import RolloutLog
from tests.trainer.made_run import made_run
from trainer.cli import app, main
from trainer.lr.from_logs.fit import fit_command, foreseen
from trainer.lr.from_logs.measurements import measured
from trainer.lr.from_logs.sigmoid import Scores, Sigmoid, fit_sigmoid
from trainer.observer import DistributionScore, EvaluationResult, StepRecord, to_dict
from trainer.recipe import parse_recipe
from trainer.run_log import read_run_log

LAST = 100.0


def curve(at: Floats, start: float, end: float, middle: float, steepness: float) -> Floats:
    with np.errstate(divide="ignore"):
        return start + (end - start) / (1 + (middle / at) ** steepness)


def drawn(seed: int, n_evaluations: int = 16, n: int = 400, wander: float = 0.0, **of: float) -> Scores:
    at = np.linspace(0, LAST, n_evaluations)
    rng = np.random.default_rng((seed, n_evaluations, n))
    p = np.clip(curve(at, **of) + wander * rng.standard_normal(n_evaluations), 0, 1)
    return Scores(at, rng.binomial(n, p) / n, np.full(n_evaluations, float(n)))


BENT = {"start": 0.1, "end": 0.8, "middle": 30.0, "steepness": 1.5}
YOUNG = {"start": 0.1, "end": 0.8, "middle": 90.0, "steepness": 1.5}


def test_without_noise_the_constants_come_back() -> None:
    at = np.linspace(0, LAST, 21)
    found = fit_sigmoid(Scores(at, curve(at, **BENT), np.full(21, 1e6)))
    assert found.start.value == pytest.approx(0.1, abs=1e-3)
    assert found.asymptote.value == pytest.approx(0.8, abs=2e-3)
    assert found.middle.value == pytest.approx(30, rel=5e-3)
    assert found.steepness.value == pytest.approx(1.5, rel=5e-3)
    assert found.predict([200.0])[0] == pytest.approx(curve(np.array([200.0]), **BENT), abs=2e-3)


@pytest.mark.parametrize(("of", "wander"), [(BENT, 0.0), (BENT, 0.04), (YOUNG, 0.0)])
def test_intervals_cover(of: dict[str, float], wander: float) -> None:
    """Nominally 95 %; of 60 fits at least 52 with a probability of 0.996 (benchmarks.score_curve has more)."""
    truth = curve(np.array([LAST, 2 * LAST]), **of)
    hits = np.zeros(5)
    for seed in range(60):
        found = fit_sigmoid(drawn(seed, wander=wander, **of))
        low, high = found.predict([LAST, 2 * LAST])[1:]
        ranges = ((found.asymptote, of["end"]), (found.middle, of["middle"]), (found.steepness, of["steepness"]))
        hits[:3] += [range_.low <= value <= range_.high for range_, value in ranges]
        hits[3:] += (low <= truth) & (truth <= high)
    assert (hits >= 52).all(), hits


def test_a_run_that_has_not_bent_gives_a_bound_only() -> None:
    young = [fit_sigmoid(drawn(seed, **YOUNG)) for seed in range(40)]
    assert sum(one.bent for one in young) <= 4
    assert all(one.asymptote.high == 1 for one in young if not one.bent)
    assert all(fit_sigmoid(drawn(seed, n=4000, **BENT)).bent for seed in range(10))


def test_more_measurements_tell_more_and_wander_less() -> None:
    def width(**more: float) -> float:
        found = [fit_sigmoid(drawn(seed, **more, **BENT)) for seed in range(20)]  # type: ignore[arg-type]
        return float(np.median([one.asymptote.high - one.asymptote.low for one in found]))

    assert width(n_evaluations=41, n=1600) < 0.6 * width()
    assert width(n=1600, wander=0.04) > 1.3 * width(n=1600)


def test_neighbours_that_err_alike_widen() -> None:
    at, rng = np.linspace(0, LAST, 30), np.random.default_rng(0)
    off = np.zeros(30)
    for i in range(1, 30):
        off[i] = 0.8 * off[i - 1] + 0.03 * rng.standard_normal()
    alike = fit_sigmoid(Scores(at, np.clip(curve(at, **BENT) + off, 0, 1), np.full(30, 400.0)))
    mixed = fit_sigmoid(Scores(at, np.clip(curve(at, **BENT) + rng.permutation(off), 0, 1), np.full(30, 400.0)))
    assert alike.drag > 1.5
    assert mixed.drag == 1


def test_what_is_refused() -> None:
    with pytest.raises(CurriculaError, match=r"expected 7 measurements at different computes or more .* got 6"):
        fit_sigmoid(drawn(0, n_evaluations=6, **BENT))
    flat = np.random.default_rng(0).binomial(400, 0.3, 16) / 400
    with pytest.raises(CurriculaError, match="the scores do not rise"):
        fit_sigmoid(Scores(np.arange(16.0), flat, np.full(16, 400.0)))
    with pytest.raises(CurriculaError, match=r"scores in \[0, 1\]"):
        Scores(np.arange(3.0), np.array([0.0, 2.0, 1.0]), np.ones(3))
    with pytest.raises(CurriculaError, match="rising order"):
        Scores(np.array([1.0, 0.0]), np.zeros(2), np.ones(2))


def test_the_first_part_foresees_the_last() -> None:
    inside = 0
    for seed in range(40):
        found: Sigmoid = fit_sigmoid(drawn(seed, n_evaluations=21, **BENT))
        checked = foreseen(found)
        assert checked is not None
        inside += checked.inside
    assert inside >= 35
    assert foreseen(fit_sigmoid(drawn(0, n_evaluations=8, **BENT))) is None


def test_a_curve_of_another_form_is_found_out() -> None:
    at = np.linspace(0, LAST, 26)
    ladder = sum(1 / (1 + np.exp(-(at - middle) / 4)) for middle in (10, 85)) / 2  # one level, and much later the next
    checked = foreseen(fit_sigmoid(Scores(at, ladder, np.full(26, 4000.0))))
    assert checked is not None
    assert not checked.inside


def run_with_evaluations(folder: Path, seed: int, n_steps: int = 60, **of: float) -> Path:
    """A run's folder by the real log's writer: two distributions, 100 prompts of 4 samples each."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    recipe = {"name": "made", "task": {"name": "running_total"}, "model": {"path": "tiny"}, "run": {"n_steps": n_steps}}
    (folder / "recipe.yaml").write_text(parse_recipe(recipe).to_yaml())
    log = RolloutLog(folder / "log")
    for step in range(n_steps + 1):
        if step % 4 == 0:
            p = float(curve(np.array([step * LAST / n_steps]), **of)[0])
            scores = {}
            for name, rate in (("a", p * 0.8), ("b", p * 1.2)):
                score = rng.binomial(400, rate) / 400
                scores[name] = DistributionScore(score, score, 0.03, 100, 0.03)
            log.append_evaluation(to_dict(EvaluationResult(step, scores)))
        if step < n_steps:
            p = float(curve(np.array([step * LAST / n_steps]), **of)[0])
            accuracy = rng.binomial(256, p) / 256
            record = StepRecord(
                step, n_steps, accuracy, accuracy, 0.5, 16, 32, 256, 5000 + step, 2500, 1e-6, {}, {}, seconds=1.5, loss=0.1
            )
            log.append_step(to_dict(record))
        log.commit()
    log.close()
    return folder


def test_compute_is_what_was_spent_before_the_measurement(tmp_path: Path) -> None:
    data = read_run_log(run_with_evaluations(tmp_path / "run", 0, **BENT))
    for unit, each in (("rollouts", 256.0), ("updates", 1.0), ("seconds", 1.5)):
        assert measured(data, unit).scores.at_E == pytest.approx(each * np.arange(0, 61, 4))
    assert measured(data, "tokens").scores.at_E[[0, 1, -1]] == pytest.approx([0, 20006, 60 * 5000 + 59 * 30])
    by_step = measured(data, "updates", "training").scores
    assert by_step.at_E[:2] == pytest.approx([0.5, 2.5])  # means of two steps: weights of no and of one update
    assert by_step.n_E[0] == 512
    alike, shared = measured(data, "updates")
    assert shared == pytest.approx(0.03 / np.sqrt(2))
    assert 800 <= alike.n_E[0] < 900  # unequal distributions: a little less noise than 800 alike
    with pytest.raises(CurriculaError, match="unit of compute"):
        measured(data, "token")


def test_updates_are_those_that_the_learner_made() -> None:
    made, skipped, silent = (
        StepRecord(0, 1, 0.5, 0.5, 0.5, 1, 1, 8, 80, 80, 1e-6, {}, {}, loss=loss, metrics=metrics)
        for loss, metrics in ((0.1, {"updates": 3.0}), (0.0, {"updates": 0.0}), (0.1, {}))
    )
    assert [record.n_updates for record in (made, skipped, silent)] == [3, 0, 1]


def test_the_command_compares_runs(tmp_path: Path) -> None:
    runs = [run_with_evaluations(tmp_path / f"{name}", i, **of) for i, (name, of) in enumerate([("bent", BENT), ("young", YOUNG)])]
    words = ["lr", "fit", *map(str, runs), "--unit", "updates", "--predict", "90", "--out", str(tmp_path / "out" / "v1.2")]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    assert result.exit_code == 0, result.output
    for word in ("A at least", "it has not bent yet", "A = ", "inside", "score at 90", "error over prompts"):
        assert word in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["v1.2.png", "v1.2.svg"]
    again = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["lr", "fit", str(runs[0]), "--of", "training", "--out", str(tmp_path / "t")]
    )
    assert "the prompts that the curriculum chose" in again.output


def test_what_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = made_run(tmp_path / "few", n_steps=8, n_distributions=2)
    with pytest.raises(SystemExit):
        main(["lr", "fit", str(few), "--out", str(tmp_path / "x")])
    assert "5 evaluations, expected 7 or more" in " ".join(capsys.readouterr().err.split())
    run = run_with_evaluations(tmp_path / "run", 0, **BENT)
    with pytest.raises(CurriculaError, match="the same run was given twice"):
        fit_command([run, run], "tokens", "evaluations", None, tmp_path / "x", Console())
    with pytest.raises(CurriculaError, match="--predict expects tokens above 0"):
        fit_command([run], "tokens", "evaluations", -1.0, tmp_path / "x", Console())
    with pytest.raises(CurriculaError, match=r"no recipe\.yaml"):
        fit_command([tmp_path], "tokens", "evaluations", None, tmp_path / "x", Console())

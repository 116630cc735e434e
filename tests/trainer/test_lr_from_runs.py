"""`curricula lr refine` and `score` on the folders of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula.types import CurriculaError
from rollout.log import RolloutLog
from tests.trainer.recipes import simulated
from trainer import strict_yaml
from trainer.cli import main
from trainer.loop import run
from trainer.lr.curves import stated
from trainer.lr.from_logs.refine import LEAST_CORRELATION, Refining, correlation_of_halves, refine, snippet
from trainer.lr.from_logs.score import Tuned, of_run, on_run, scored
from trainer.lr.from_logs.updates import read_updates, refuse_unlike
from trainer.observer import to_dict
from trainer.report.data import read_run
from trainer.schedules import build_schedule
from trainer.schedules.convex_bound import convex_bound
from trainer.schedules.refine import smoothed


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated run of 60 steps."""
    recipe = simulated(
        tmp_path_factory.mktemp("lr") / "run",
        schedule={"name": "constant", "peak": 0.05, "clock": "informative_rollouts"},
        run__n_steps=60,
        run__checkpoint_every=60,
        evaluation={"prompts_per_distribution": 1, "samples_per_prompt": 1},
    )
    run(recipe)
    return recipe.folder


def with_norms(source: Path, folder: Path, norms: Any, metrics: dict[str, Any] | None = None, **changes: Any) -> Path:
    """The run's steps with other gradient norms, and metrics as arrays over steps, in a folder of its own."""
    data = read_run(source)
    recipe = simulated(folder, schedule=data.recipe.schedule, run__n_steps=len(data.steps), **changes)
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    log = RolloutLog(folder / "log")
    for t, record in enumerate(data.steps):
        more = {name: float(values[t]) for name, values in (metrics or {}).items()}
        log.append_step(to_dict(replace(record, grad_norm=float(norms[t]), metrics={**record.metrics, **more})))
    log.commit()
    log.close()
    return folder


def falling(seed: int = 0, noise: float = 0.1) -> np.ndarray:
    return np.linspace(3.0, 1.0, 60) * np.exp(np.random.default_rng(seed).normal(0, noise, 60))


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["lr", *arguments])
    return int(ended.value.code or 0)


def test_a_refined_schedule_drives_the_next_run(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = with_norms(plain, tmp_path / "a", falling()), tmp_path / "next.yaml"
    assert call("refine", str(source), "--out", str(out)) == 0
    assert "l2 norms stand in" in capsys.readouterr().out
    schedule = strict_yaml.load_file(out)["schedule"]
    table = np.array(schedule["multipliers"])
    top = int(table.argmax())
    assert schedule["clock"] == "informative_rollouts"
    assert table.max() == 1
    assert table[-1] == pytest.approx(0.1)
    assert (table[:top] >= 0.02).all()
    assert np.interp(0.5, np.linspace(0, 1, len(table)), table) > 0.55, "falling norms put more rate late than a line does"
    assert 0.05 < schedule["peak"] < 0.5, "a constant rate goes with a larger peak once it is annealed"
    following = simulated(tmp_path / "next", schedule=schedule, run__n_steps=8, run__checkpoint_every=8)
    run(following)
    logged = read_run(following.folder).steps
    for record in logged:
        at = np.interp(record.metrics["lr/clock"], np.linspace(0, 1, len(table)), table)
        assert record.lr == pytest.approx(schedule["peak"] * at, rel=1e-6)


def test_to_zero_for_the_last_run_and_one_curve_for_several(plain: Path, tmp_path: Path) -> None:
    runs = [read_updates(with_norms(plain, tmp_path / str(seed), falling(seed))) for seed in (1, 2)]
    found = refine(runs, Refining(final=True))
    assert found.multiplier_P[-1] == 0
    assert found.correlation > 0.9
    assert "60 updates of" not in snippet(runs, found)
    assert "120 updates of" in snippet(runs, found)


def test_l1_norms_are_taken_where_the_log_has_them(plain: Path, tmp_path: Path) -> None:
    rising = np.linspace(1.0, 3.0, 60)
    source = read_updates(with_norms(plain, tmp_path / "a", falling(noise=0.0), {"grad_norm_l1": rising}))
    other = read_updates(with_norms(plain, tmp_path / "b", rising))
    by_l1, by_l2 = refine([source], Refining()), refine([other], Refining())
    assert by_l1.multiplier_P == pytest.approx(by_l2.multiplier_P)
    assert by_l1.notes == ()
    assert refine([source], Refining("sgd")).multiplier_P.tolist() != by_l1.multiplier_P.tolist()


def test_batch_noise_is_taken_out(plain: Path, tmp_path: Path) -> None:
    """|g|^2 = S + N / n of batches that shrink, S constant: corrected norms are constant, and refused for having no course."""
    groups = np.linspace(64, 8, 60).round()
    facts = {"gradient_signal": np.ones(60), "gradient_noise": np.full(60, 20.0), "update_groups": groups}
    norms = np.sqrt(1.0 + 20.0 / groups)
    as_logged = refine([read_updates(with_norms(plain, tmp_path / "a", norms))], Refining("sgd"))
    assert any("no signal and noise" in note for note in as_logged.notes)
    with pytest.raises(CurriculaError, match="their course is noise"):
        refine([read_updates(with_norms(plain, tmp_path / "b", norms, facts))], Refining("sgd"))


def test_noise_and_unlike_runs_are_refused(plain: Path, tmp_path: Path) -> None:
    one = read_updates(with_norms(plain, tmp_path / "one", falling()))
    noises = [np.random.default_rng(seed).lognormal(0, 0.3, 60) for seed in range(20)]
    refused = [correlation_of_halves([one], [noise]) < LEAST_CORRELATION for noise in noises]
    assert sum(refused) >= 17, "about one in twenty passes"
    with pytest.raises(CurriculaError, match=r"correlate by .* expected 0\.5 or more"):
        refine([replace(one, norm_T=noises[refused.index(True)])], Refining())
    other = read_updates(with_norms(plain, tmp_path / "other", falling(), rollout__rollouts_per_group=16))
    with pytest.raises(CurriculaError, match=r"rollout.rollouts_per_group is 16, in .* it is 8"):
        refine([one, other], Refining())
    loss = read_updates(with_norms(plain, tmp_path / "loss", falling(), learner={"loss": "gspo"}))
    with pytest.raises(CurriculaError, match=r"learner\.loss is 'gspo'"):
        refuse_unlike([one, loss])
    with pytest.raises(CurriculaError, match=r"no recipe\.yaml"):
        read_updates(tmp_path)
    with pytest.raises(CurriculaError, match="adam or sgd"):
        Refining("adamw")  # type: ignore[arg-type]


def test_scores_equal_the_published_ratios() -> None:
    names = ["rex", "{name: cosine, floor: 0.0}", "{name: wsd, decay: 0.2}", "constant"]
    share = np.arange(400) / 400
    line = Tuned("linear", 1 - share, 1e-6, share, np.ones(400), "updates")
    found = {each.name.split()[0]: each for each in scored(line, [stated(name, 400) for name in names])}
    assert list(found) == ["linear", "rex", "cosine", "wsd", "constant"], "best first"
    for name, factor in (("rex", 0.8066), ("cosine", 0.9733), ("wsd", 0.5417), ("constant", 0.3667)):
        assert found[name].factor == pytest.approx(factor, rel=1e-3)
        assert found[name].peak == pytest.approx(factor * 1e-6, rel=1e-3)


def test_a_runs_norms_and_clock_count(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = with_norms(plain, tmp_path / "a", np.linspace(1.0, 4.0, 60))
    assert call("score", "linear", "{name: wsd, decay: 0.2}", "--run", str(source)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "convex losses and SGD" in said
    assert "a as it was" in said
    logged = read_updates(source)
    line = build_schedule({"name": "linear", "peak": 1.0}, 1.0)
    m = np.array([line.multiplier(share) for share in logged.share_T])
    found = next(each for each in scored(of_run(logged), [stated("linear", 400)]) if each.name == "linear")
    norms = smoothed(logged.norm_T)
    factor = convex_bound(m, norms).peak / convex_bound(np.ones(60), norms).peak
    assert found.factor == pytest.approx(factor, rel=1e-6)
    laid = on_run(logged, stated("{name: linear, warmup: 0.5}", 400))
    assert (laid.length.steps, laid.rate.clock.unit) == (60, "informative_rollouts")
    assert found.peak == pytest.approx(0.05 * factor, rel=1e-6)


def test_without_a_run_the_first_schedule_is_the_tuned_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("score", "{name: constant, peak: 1.0e-6}", "linear") == 0
    assert "2.73e-06" in capsys.readouterr().out
    assert call("score", "{name: constant, peak: 1.0}", "linear") == 0
    assert {"2.727", "2.73"} <= set(capsys.readouterr().out.split()), "a peak of 1 is a peak: carried over beside its factor"
    assert call("score") == 2
    assert "expected schedules" in capsys.readouterr().err
    assert call("score", "linear", "{name: wsd, clock: tokens}") == 2
    assert "on one clock" in capsys.readouterr().err

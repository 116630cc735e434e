"""Rates tried on rollouts of a real, tiny model: what is measured, and that nothing is left of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curricula.types import CurriculaError
from tests.trainer.learning import differences, weights_of
from tests.trainer.recipes import simulated
from tests.trainer.test_real_run import real
from trainer import checkpoint
from trainer.cli import main
from trainer.loop import run
from trainer.lr.trials.batches import Drawn, Start, drawn, start_of
from trainer.lr.trials.effects import Effect, change_of, largest_within, one_batch, rates_between, sweep
from trainer.lr.trials.held_out import old_logprobs, try_rate
from trainer.lr.trials.range_test import RangeTest, table, verdict
from trainer.settings import LearnerSettings
from trainer.types import TrainSequence

RATES = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path) -> Iterator[Drawn]:
    """Two batches of a recipe."""
    folder = tmp_path_factory.mktemp("range")
    (folder / "recipe.yaml").write_text(real(folder / "run", tiny_model_path).to_yaml())
    with drawn(start_of(folder / "recipe.yaml", None), 2) as found:
        yield found
    assert not (folder / "run").exists()


def test_kl_grows_with_the_square_of_the_rate_and_trials_leave_nothing(bench: Drawn) -> None:
    bench.learner.load(bench.state)
    before = weights_of(bench.learner)
    effects = [one_batch(bench, lr) for lr in RATES]
    kl = [effect.kl for effect in effects]
    assert kl == sorted(kl)
    assert 30 < kl[2] / kl[1] < 300, "twice the way is four times the divergence"
    assert effects[0].clipped == 0 < effects[-1].clipped
    assert [one_batch(bench, lr) for lr in reversed(RATES)] == effects[::-1], "no trial sees another"
    bench.learner.load(bench.state)
    assert differences(weights_of(bench.learner), before) == 0
    assert bench.learner.version == 0


def test_a_trial_is_what_a_fresh_learner_would_do(bench: Drawn) -> None:
    one_batch(bench, 1e-2)  # leaves moments behind
    single = replace(bench, batches=bench.batches[:1])
    effect = one_batch(single, 1e-4)
    bench.learner.load(bench.state)
    batch = bench.batches[0]
    old = bench.learner.logprobs(batch)
    bench.learner.step(batch, 1e-4)
    d_T = np.concatenate(bench.learner.logprobs(batch)).astype(float) - np.concatenate(old)
    assert effect.kl == pytest.approx(np.mean(np.exp(d_T) - 1 - d_T), rel=1e-6)
    assert effect.kl_rollout == pytest.approx(effect.kl * len(d_T) / len(batch))
    assert sweep(single, [1e-4])[0][:4] == effect[:4]


def test_a_sweep_reads_entropy_and_gradient_at_the_next_visit(bench: Drawn) -> None:
    effects = sweep(bench, rates_between(1e-5, 1e-2, 6).tolist())
    assert [effect.lr for effect in effects] == pytest.approx(np.geomspace(1e-5, 1e-2, 6))
    assert np.isfinite([effect.entropy_drop for effect in effects[:4]]).all()
    assert np.isnan([effect.grad_norm for effect in effects[4:]]).all()


def test_batches_judge_each_other(bench: Drawn) -> None:
    old = old_logprobs(bench)
    still, moved = try_rate(bench, old, 0.0), try_rate(bench, old, 3e-3)
    assert (still.kl, still.ess) == (0, 1)
    assert not still.gain_B.any()
    assert len(moved.gain_B) == len({sequence.group for batch in bench.batches for sequence in batch})
    assert 0 < moved.ess < 1
    assert moved.kl > 0
    assert np.isfinite(try_rate(bench, old, 1e-4, updates=5, until=20).gain_B).all()


def test_divergence_and_clipping_by_hand() -> None:
    def sequence(advantage: float, n: int, drawn: list[bool] | None = None) -> TrainSequence:
        mark = None if drawn is None else np.array(drawn)
        return TrainSequence((1,), np.zeros(n, np.int32), np.zeros(n, np.float32), advantage, 0, 0, mark)

    def change(*ratios: list[float], **settings: object):
        news = [np.log(np.array(ratio, np.float32)) for ratio in ratios]
        return change_of(batch, [np.zeros_like(new) for new in news], news, LearnerSettings(**settings))

    batch = [sequence(1.0, 2), sequence(-1.0, 3, [True, False, True])]
    found = change([1.5, 0.5], [0.5, 7.0, 1.5])
    assert found.kl == pytest.approx(np.mean([r - 1 - np.log(r) for r in (1.5, 0.5, 0.5, 1.5)]), rel=1e-5)
    assert found.kl_rollout == pytest.approx(2 * found.kl)
    assert found.clipped == 0.5, "up where the advantage is positive, down where it is negative"
    assert change([1.5, 0.9], [0.5, 7.0, 1.9], loss="gspo", clip_low=0.1, clip_high=0.1).clipped == 0.5
    assert np.isnan(change([np.nan, 1.0], [1.0, 1.0, 1.0]).kl)


def test_the_largest_rate_below_the_first_beyond_the_target() -> None:
    effects = [
        Effect(lr, kl, kl, 0.0, 0.0, 1.0) for lr, kl in ((1e-6, 1e-4), (1e-5, 5e-3), (1e-4, 2e-2), (1e-3, 1e-3), (1e-2, np.nan))
    ]
    best = largest_within(effects)
    assert best is not None
    assert best.lr == 1e-5
    assert largest_within(effects[2:]) is None
    assert rates_between(1e-7, 1e-4, 101)[[0, 25, 50, 75, 100]] == pytest.approx(
        [1e-7, 5.6234e-7, 3.1623e-6, 1.7783e-5, 1e-4], rel=1e-4
    )
    assert rates_between(1e-7, 1e-4, 101, True)[[25, 50, 75]] == pytest.approx([2.5075e-5, 5.005e-5, 7.5025e-5])
    for message, test in (("0 < low < high", {"low": 0.0}), ("two updates or more", {"updates": 1})):
        with pytest.raises(CurriculaError, match=message):
            RangeTest(**test)
    many = [Effect(lr, 1e-4, 1e-3, 0.0, 0.0, 1.0) for lr in RangeTest(sweep=True).rates]
    assert table(many, RangeTest()).row_count <= 27
    assert "go up with --high" in verdict(many, RangeTest(), Start(simulated(Path("run")), None))


def test_from_a_checkpoint_of_a_run_which_stays_as_it_was(
    tmp_path: Path, tiny_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = real(tmp_path / "run", tiny_model_path, run__n_steps=2, run__checkpoint_every=1)
    run(recipe)
    before = digests(recipe.folder)
    call = ["lr", "range", str(recipe.folder), "--low", "1e-6", "--updates", "2", "--checkpoint", "1", "--out", str(tmp_path / "p")]
    with pytest.raises(SystemExit) as ended:
        main(call)
    assert not ended.value.code
    assert "largest rate with a KL below 0.01" in capsys.readouterr().out
    assert (tmp_path / "p.png").stat().st_size > 10_000
    with pytest.raises(SystemExit) as ended:
        main(["lr", "search", str(recipe.folder), "--low", "1e-6", "--tries", "3", "--out", str(tmp_path / "s")])
    assert not ended.value.code
    assert "held-out groups" in capsys.readouterr().out
    assert (tmp_path / "s.svg").read_text().count("<path") > 3
    assert digests(recipe.folder) == before
    assert start_of(recipe.folder, None).saved == checkpoint.newest(recipe.folder / "checkpoints")
    with pytest.raises(CurriculaError, match="no checkpoint after 7 steps; there are 2, after 1, 2 steps"):
        start_of(recipe.folder, 7)


def test_what_cannot_be_tried_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(simulated(tmp_path / "run").to_yaml())
    with pytest.raises(CurriculaError, match="a simulated learner has no policy"):
        start_of(tmp_path, None)
    with pytest.raises(CurriculaError, match=r"needs the folder of a run"):
        start_of(tmp_path / "recipe.yaml", 3)
    recipe = real(
        tmp_path / "run", tmp_path, learner={"optimizer": {"name": "prodigy"}}, schedule={"name": "constant", "peak": 1.0}
    )
    (tmp_path / "prodigy.yaml").write_text(recipe.to_yaml())
    with pytest.raises(CurriculaError, match="prodigy finds its step size itself"):
        start_of(tmp_path / "prodigy.yaml", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CurriculaError, match=r"no recipe\.yaml in it"):
        start_of(tmp_path / "empty", None)


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}

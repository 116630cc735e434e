"""The twin: it finds the learner that made a log, refuses logs that it does not foresee, and says what it is."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curricula.types import CurriculaError, PromptPool, Status
from replay.types import LoggedRun
from rollout.engines.simulated import ItemResponse
from tests.trainer.recipes import simulated
from tests.trainer.simulated_log import Made, made_log, write_jsonl
from trainer.cli import main
from trainer.loop import run as train
from trainer.simulate.run import simulate
from trainer.simulate.setting import Setting
from trainer.twin import label_of
from trainer.twin.counts import Counts, counts_of, group_signal
from trainer.twin.fit import Twin, fit
from trainer.twin.forward import Rolled, range_of, roll_forward, roll_log, setting_of
from trainer.twin.holdout import HoldOut, check
from trainer.twin.learner import draw_of, pass_rates_K
from trainer.twin.likelihood import difficulties, evaluate, evidence_of

WORLD = Setting(steps=60, groups=16, rollouts=8, prompts=200, levels=3, rate=0.15, jitter=0.0)
RECIPES = ("uniform", "dump_ucb", "nonzero_variance", "combined")


@pytest.fixture(scope="module")
def made() -> Made:
    return made_log(WORLD, 1)


@pytest.fixture(scope="module")
def twin(made: Made) -> Twin:
    return fit(made.run)


def changed(run: LoggedRun, **columns: object) -> LoggedRun:
    return replace(run, **columns)


def pass_rates_DK(twin: Twin, start: str) -> np.ndarray:
    return np.array([pass_rates_K(draw_of(twin, draw, start)) for draw in range(len(twin))])  # type: ignore[arg-type]


# --- what the log says ------------------------------------------------------------------------------------------------------------


def test_failed_rollouts_are_left_out_and_not_wrong(made: Made) -> None:
    status_R, reward_R = made.run.status_R.copy(), made.run.reward_R.copy()
    lost_R = np.random.default_rng(0).random(len(status_R)) < 0.3
    status_R[lost_R], reward_R[lost_R] = Status.TIMEOUT, math.nan
    whole, less = counts_of(made.run), counts_of(changed(made.run, status_R=status_R, reward_R=reward_R))
    assert less.n_G.sum() < 0.75 * whole.n_G.sum()
    assert less.k_G.sum() / less.n_G.sum() == pytest.approx(whole.k_G.sum() / whole.n_G.sum(), abs=0.02)


def test_the_signal_of_a_step_is_what_its_student_learned() -> None:
    """Two groups of one level without transfer: the ability rises by rate x signal."""
    setting = Setting(
        steps=2, groups=4, rollouts=6, prompts=40, levels=1, transfer=0.0, jitter=0.0, spread=0.0, start=0.0, rate=0.5
    )
    made = made_log(setting, 0)
    logit = [math.log(rate / (1 - rate)) for rate in (made.before_K[0], made.after_K[0])]
    assert logit[1] - logit[0] == pytest.approx(0.5 * counts_of(made.run).signal_TK().sum(), rel=1e-4)


def test_groups_that_a_filter_dropped_are_not_learned_from() -> None:
    counts = counts_of(made_log(replace(WORLD, steps=8), 0, "nonzero_variance").run)
    assert not counts.trained_G.all()
    live_G = counts.live_G & counts.trained_G & (counts.step_G == 3)
    by_hand = group_signal(counts.k_G[live_G], counts.n_G[live_G]).sum() / counts.n_G[live_G].sum()
    assert counts.signal_TK()[3].sum() == pytest.approx(by_hand)
    assert any("larger steps" in caveat for caveat in counts.caveats)


# --- the likelihood ---------------------------------------------------------------------------------------------------------------


def test_difficulties_are_integrated_out_as_on_a_fine_grid(made: Made) -> None:
    evidence, spread = evidence_of(counts_of(made.run)), 0.9
    logit_G = np.random.default_rng(0).normal(0, 1.5, len(evidence.n_G))
    found = difficulties(evidence, logit_G, spread)
    grid = np.linspace(-8, 8, 4001)
    for prompt in (0, 5, 77):
        mine = evidence.place_G == prompt
        z = logit_G[mine][:, None] - grid
        log = (evidence.k_G[mine][:, None] * z - evidence.n_G[mine][:, None] * np.logaddexp(0, z)).sum(axis=0)
        density = np.exp(log - log.max()) * np.exp(-0.5 * (grid / spread) ** 2) / (spread * math.sqrt(2 * math.pi))
        mass = density.sum() * (grid[1] - grid[0])
        assert found.log_marginal_M[prompt] == pytest.approx(math.log(mass) + log.max(), abs=1e-4)
        assert found.mean_M()[prompt] == pytest.approx((density * grid).sum() / density.sum(), abs=1e-3)


def test_gradient_and_curvature_are_the_derivatives(made: Made) -> None:
    counts = counts_of(made.run)
    evidence = evidence_of(counts)
    x_G = (counts.step_G / counts.n_steps)[evidence.order_G]
    beta_P = np.array([1.5, 0.4, -0.3, 0.7, -0.2])
    at = evaluate(evidence, x_G, beta_P)
    for p, unit_P in enumerate(np.eye(5) * 1e-4):
        up, down = (evaluate(evidence, x_G, beta_P + sign * unit_P) for sign in (1, -1))
        assert (up.log_density - down.log_density) / 2e-4 == pytest.approx(at.gradient_P[p], rel=2e-3, abs=0.05)
        assert -(up.gradient_P - down.gradient_P) / 2e-4 == pytest.approx(at.information_PP[p], rel=5e-3, abs=0.5)


# --- the fit ----------------------------------------------------------------------------------------------------------------------


def test_the_truth_lies_in_the_ranges_as_often_as_they_say() -> None:
    """Eight logs under four recipes; per log the pass rates of three levels before and after, and the rate."""
    hits = []
    for seed in range(8):
        made = made_log(WORLD, seed, RECIPES[seed % 4])
        twin = fit(made.run, n_draws=100, seed=seed)
        for truth, drawn in (
            (made.before_K, pass_rates_DK(twin, "start")),
            (made.after_K, pass_rates_DK(twin, "end")),
            (np.array([WORLD.rate]), twin.rate_D[:, None]),
        ):
            low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
            hits.extend(((low <= truth) & (truth <= high)).tolist())
    share = np.mean(hits)  # of 56, correlated within a log
    assert 0.80 <= share <= 0.98, share


def test_the_spread_of_difficulty_and_the_difficulties_are_found(made: Made, twin: Twin) -> None:
    assert np.median(twin.spread_D) == pytest.approx(WORLD.spread, abs=0.15)
    assert twin.ability_DK.mean(axis=0) == pytest.approx(WORLD.start - WORLD.slope * np.arange(3), abs=0.35)
    world, pool = ItemResponse(WORLD.levels, WORLD.slope, WORLD.spread, WORLD.start), made.run.pool
    truth_N = np.array([world.difficulty(str(id_)) for id_ in pool.ids]) - WORLD.slope * pool.distribution_N
    off_N = (twin.difficulty_DN.mean(axis=0) - truth_N) / twin.difficulty_DN.std(axis=0)
    error_N = twin.difficulty_DN.mean(axis=0) - truth_N
    assert (error_N**2).mean() < 0.5 * WORLD.spread**2  # half of what the distributions' means would leave
    assert off_N.std() == pytest.approx(1, abs=0.15)  # the doubt about single prompts is as large as it says


def test_a_prompt_that_the_log_never_tried_is_drawn_from_its_distribution(made: Made, twin: Twin) -> None:
    pool = made.run.pool
    more = PromptPool.from_columns([*pool.ids, "new"], [*(pool.distribution_names[k] for k in pool.distribution_N), "level-000"])
    wider = fit(changed(made.run, pool=more), n_draws=400)
    assert wider.difficulty_DN[:, -1].std() == pytest.approx(np.median(wider.spread_D), rel=0.15)
    assert np.median(wider.rate_D) == pytest.approx(np.median(twin.rate_D), rel=0.1)


def test_names_of_distributions_do_not_matter(made: Made) -> None:
    pool = made.run.pool
    names = np.array(["c", "a", "b"])
    renamed = PromptPool.from_columns(pool.ids, names[pool.distribution_N])
    first, second = fit(made.run, n_draws=400), fit(changed(made.run, pool=renamed), n_draws=400)
    order = [list(renamed.distribution_names).index(name) for name in names]
    assert np.median(second.ability_DK, axis=0)[order] == pytest.approx(np.median(first.ability_DK, axis=0), abs=0.03)
    assert second.rank_K[order].tolist() == first.rank_K.tolist()


def test_one_distribution_has_no_reach() -> None:
    twin = fit(made_log(replace(WORLD, levels=1, prompts=60, start=0.0), 0).run)
    assert set(twin.reach_D) == {0.0}
    assert twin.learns


def test_distributions_that_are_always_or_never_solved_keep_the_fit_finite(made: Made) -> None:
    run = made.run
    level_R = run.pool.distribution_N[run.prompt_G][run.group_R]
    reward_R = np.where(level_R == 0, 1.0, np.where(level_R == 2, 0.0, run.reward_R))
    twin = fit(changed(run, reward_R=reward_R))
    assert np.isfinite(twin.ability_DK).all()
    assert twin.rank_K.tolist() == [0, 1, 2]
    assert pass_rates_DK(twin, "end")[:, 0].min() > 0.97
    assert pass_rates_DK(twin, "end")[:, 2].max() < 0.03


# --- the hold-out check -----------------------------------------------------------------------------------------------------------


def shuffled(run: LoggedRun, seed: int) -> LoggedRun:
    return changed(run, step_G=np.random.default_rng(seed).permutation(run.step_G.max() + 1)[run.step_G])


def fallen_back(run: LoggedRun, seed: int) -> LoggedRun:
    """From the middle on, prompts are solved as rarely as in the first steps."""
    rng, level_R, step_R = np.random.default_rng(seed), run.pool.distribution_N[run.prompt_G][run.group_R], run.step_G[run.group_R]
    first_K = np.array([run.reward_R[(level_R == k) & (step_R < 8)].mean() for k in range(run.pool.n_distributions)])
    drawn_R = (rng.random(len(level_R)) < first_K[level_R]).astype(float)
    return changed(run, reward_R=np.where(step_R >= (run.step_G.max() + 1) // 2, drawn_R, run.reward_R))


@pytest.mark.parametrize("seed", range(4))
def test_only_the_log_that_goes_on_as_it_began_passes(seed: int) -> None:
    run = made_log(WORLD, seed, RECIPES[seed]).run
    own, other, worse = (check(counts_of(log)) for log in (run, shuffled(run, seed), fallen_back(run, seed)))
    assert own.passed, own.complaints
    assert own.inside >= 0.7
    assert not other.passed
    assert not worse.passed
    assert any("no better than the baseline 'constant'" in complaint for complaint in worse.complaints)


def test_the_check_never_looks_at_the_second_half_to_foresee_it(made: Made) -> None:
    """Other outcomes of the second half change what came, and nothing that was foreseen."""
    own, other = check(counts_of(made.run)), check(counts_of(fallen_back(made.run, 0)))
    assert np.array_equal(own.forecast_FWK[:1], other.forecast_FWK[:1])
    assert np.array_equal(own.low_WK, other.low_WK)
    assert not np.array_equal(own.seen_WK, other.seen_WK)


def test_baselines_are_what_they_are_called() -> None:
    """Eight steps of one prompt's group of ten: 1, 2, 3, 4 | 5, 6, 7, 8 solved."""
    solved = np.arange(1, 9)
    counts = Counts(
        source="made",
        pool=PromptPool.from_columns(["a"], ["all"]),
        n_steps=8,
        step_G=np.arange(8),
        prompt_G=np.zeros(8, np.int64),
        n_G=np.full(8, 10),
        k_G=solved,
        trained_G=np.ones(8, bool),
        attempt_G=np.zeros(8, np.int64),
    )
    found = check(counts)
    assert found.edge_W1.tolist() == [4, 5, 6, 7, 8]
    assert found.seen_WK[:, 0] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert found.forecast_FWK[1, :, 0] == pytest.approx(0.4)  # the last quarter of four steps is one
    assert found.forecast_FWK[2, :, 0] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert found.loss_F[2] == pytest.approx(found.floor)
    assert not found.passed  # nothing beats a perfect trend
    assert "no better than the baseline 'trend'" in found.complaints[0]


# --- rolling forward --------------------------------------------------------------------------------------------------------------


def test_the_budget_is_the_logs(made: Made) -> None:
    setting = setting_of(counts_of(made.run))
    assert (setting.steps, setting.groups, setting.rollouts, setting.prompts) == (60, 16, 8, 200)
    refilled = made_log(replace(WORLD, steps=10), 0, "difficulty_band").run
    setting = setting_of(counts_of(refilled))
    assert setting.budget == pytest.approx(len(refilled.reward_R), rel=0.05)
    assert (setting.groups, setting.max_attempts) == (16, refilled.attempt_G.max() + 1)


def test_paired_runs_come_again_on_any_number_of_processes(made: Made, twin: Twin) -> None:
    counts = counts_of(replace_steps(made.run, 6))
    results = [roll_forward(twin, counts, {"sec": "sec"}, "start", (2, 2), processes) for processes in (1, 1, 2)]
    assert [row.name for row in results[0].rows] == ["as logged", "uniform", "sec", "oracle"]
    for other in results[1:]:
        for row, same in zip(results[0].rows, other.rows, strict=True):
            assert row.end_SK.tolist() == same.end_SK.tolist()
            assert row.curve_SP.tolist() == same.curve_SP.tolist()
    uniform, sec = results[0].row("uniform"), results[0].row("sec")
    assert sec.difference_S == pytest.approx(sec.end_S - uniform.end_S)
    assert len(set(uniform.end_S)) == 4


def test_what_another_recipe_would_do_to_the_simulated_student_is_foreseen() -> None:
    """The one case in which it can be known: the log comes from the simulator, and so does the truth about the other recipe."""
    made = made_log(WORLD, 2)
    result = roll_forward(fit(made.run), counts_of(made.run), {"dump_ucb": "dump_ucb"}, "start", (6, 1))
    truth = {name: simulate(name, WORLD, 2).level_T[-1] for name in ("uniform", "dump_ucb", "oracle")}
    for name, level in truth.items():
        assert range_of(result.row(name).end_S).median == pytest.approx(level, abs=0.03)
    assert range_of(result.row("dump_ucb").difference_S).median == pytest.approx(truth["dump_ucb"] - truth["uniform"], abs=0.015)
    assert result.row("as logged").end_S.mean() == pytest.approx(made.after_K.mean(), abs=0.03)


def test_from_the_end_the_learner_starts_where_the_log_left_it(made: Made, twin: Twin) -> None:
    counts = counts_of(made.run)
    rolled: list[Rolled] = [roll_log(draw_of(twin, 0, start), counts, 0) for start in ("start", "end")]
    assert rolled[0].curve_P[0] < rolled[0].end == pytest.approx(rolled[1].curve_P[0], abs=0.03)
    assert rolled[1].end > rolled[1].curve_P[0]


def replace_steps(run: LoggedRun, n_steps: int) -> LoggedRun:
    keep_G = run.step_G < n_steps
    keep_R = keep_G[run.group_R]  # groups are in the order of their steps
    names = ("prompt_G", "step_G", "propensity_G", "arm_probability_G", "kept_G", "attempt_G")
    groups = {name: getattr(run, name)[keep_G] for name in names}
    rollouts = {name: getattr(run, name)[keep_R] for name in ("group_R", "reward_R", "status_R", "n_tokens_R", "policy_version_R")}
    return changed(run, **groups, **rollouts)


# --- what a user is told ----------------------------------------------------------------------------------------------------------


def refused(run: LoggedRun) -> HoldOut:
    return check(counts_of(run))


def test_a_log_without_steps_is_refused(made: Made) -> None:
    with pytest.raises(CurriculaError, match="made: not estimable: the log lacks step"):
        refused(changed(made.run, step_G=np.full(len(made.run), -1), lacks=frozenset({"step"})))


@pytest.mark.parametrize(("steps", "message"), [(1, "at least 2 steps, got 1"), (3, "at least 4 steps, got 3")])
def test_a_log_with_too_few_steps_is_refused(made: Made, steps: int, message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        refused(replace_steps(made.run, steps))


def test_graded_scores_are_refused_by_place(made: Made) -> None:
    reward_R = made.run.reward_R.copy()
    reward_R[200] = 0.25
    group = made.run.group_R[200]
    with pytest.raises(CurriculaError, match=f"step {made.run.step_G[group]}, prompt .*: reward 0.25; .* in 1 of {len(reward_R)}"):
        refused(changed(made.run, reward_R=reward_R))
    signed = changed(made.run, reward_R=2 * made.run.reward_R - 1, reward_range=(-1.0, 1.0))
    assert counts_of(signed).k_G.tolist() == counts_of(made.run).k_G.tolist()


def test_logs_that_teach_nothing_are_refused(made: Made) -> None:
    with pytest.raises(CurriculaError, match="all rewards are equal in every group"):
        refused(changed(made.run, reward_R=np.zeros(len(made.run.reward_R))))
    first_R = made.run.step_G[made.run.group_R] < 30
    with pytest.raises(CurriculaError, match="the first 30 steps hold no group whose rewards differ"):
        refused(changed(made.run, reward_R=np.where(first_R, 0.0, made.run.reward_R)))


def test_a_filters_survivors_are_refused(made: Made) -> None:
    alternating = changed(made.run, reward_R=np.arange(len(made.run.reward_R)) % 2.0)
    assert counts_of(alternating).live_G.all()
    with pytest.raises(CurriculaError, match="it holds what a filter let through"):
        counts_of(changed(alternating, lacks=frozenset({"rejected groups"})))
    open_ = counts_of(changed(made.run, lacks=frozenset({"rejected groups"})))
    assert any("does not say whether groups were rejected" in caveat for caveat in open_.caveats)


def test_efforts_and_names_are_checked(made: Made, twin: Twin) -> None:
    counts = counts_of(made.run)
    with pytest.raises(CurriculaError, match="draws: expected >= 2"):
        roll_forward(twin, counts, {}, "start", (1, 2))
    with pytest.raises(CurriculaError, match="draws: the fit holds 64 draws, got 65"):
        roll_forward(twin, counts, {}, "start", (65, 1))
    with pytest.raises(CurriculaError, match="'oracle', which is always there"):
        roll_forward(twin, counts, {"oracle": {"filter": "keep_all"}}, "start", (2, 1))


# --- the command ------------------------------------------------------------------------------------------------------------------


def twin_words(run: LoggedRun, folder: Path, *words: str) -> list[str]:
    path = folder / "log.jsonl"
    return [
        "twin",
        str(path),
        *words,
        "--format",
        json.dumps(write_jsonl(run, path)),
        "--out",
        str(folder / "out"),
        "--processes",
        "1",
    ]


def test_a_log_of_another_trainer_is_rolled_forward(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(twin_words(made.run, tmp_path, "dump_ucb", "--draws", "2", "--seeds", "1"))
    said = capsys.readouterr()
    assert exit_.value.code == 0, said.err
    out = " ".join(said.out.split())
    assert out.count("SIMULATION, fitted to mapping") == 4  # one per table
    assert "hold-out check passed" in out
    assert "all are taken to have" in out  # the file does not say which groups were trained on
    data = json.loads((tmp_path / "out" / "twin.json").read_text())
    label = label_of(f"mapping {tmp_path / 'log.jsonl'}")
    assert data["label"] == data["roll_forward"]["label"] == label
    assert [row["recipe"] for row in data["roll_forward"]["rows"]] == ["as logged", "uniform", "dump_ucb", "oracle"]
    assert data["hold_out"]["passed"]
    assert "expected accuracy" not in (out + json.dumps(data)).lower()
    for name in ("hold_out.png", "roll_forward.png"):
        assert (tmp_path / "out" / name).stat().st_size > 10_000


def test_a_twin_that_failed_is_not_rolled_forward(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = twin_words(fallen_back(made.run, 0), tmp_path, "--draws", "2", "--seeds", "1")
    with pytest.raises(SystemExit) as exit_:
        main(words)
    said = capsys.readouterr()
    assert exit_.value.code == 2
    assert "no roll-forward" in said.err
    assert "no better than the baseline 'constant'" in said.out
    data = json.loads((tmp_path / "out" / "twin.json").read_text())
    assert (data["roll_forward"], data["fit"], data["hold_out"]["passed"]) == (None, None, False)
    assert not (tmp_path / "out" / "roll_forward.png").exists()
    with pytest.raises(SystemExit) as exit_:
        main([*words, "--anyway"])
    assert exit_.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("FAILED its hold-out check") == 4
    assert "FAILED its hold-out check" in json.loads((tmp_path / "out" / "twin.json").read_text())["roll_forward"]["label"]
    assert (tmp_path / "out" / "roll_forward.png").is_file()


def test_the_folder_of_a_run_is_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(simulated(tmp_path / "run"))
    with pytest.raises(SystemExit):
        main(
            [
                "twin",
                str(tmp_path / "run"),
                "--anyway",
                "--draws",
                "2",
                "--seeds",
                "1",
                "--out",
                str(tmp_path / "out"),
                "--from",
                "end",
            ]
        )
    out = " ".join(capsys.readouterr().out.split())
    assert "rolled forward from the end of the log" in out
    data = json.loads((tmp_path / "out" / "twin.json").read_text())
    assert data["log"]["source"] == str(tmp_path / "run" / "log")
    assert data["roll_forward"]["from"] == "end"


def test_a_wrong_start_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["twin", str(tmp_path), "--from", "middle"])
    assert "unknown place to start from: 'middle'" in " ".join(capsys.readouterr().err.split())

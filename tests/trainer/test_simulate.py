"""The simulator: what it charges, what it learns, what it says of the differences."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from curricula import Curriculum
from curricula.statistics import Interval, interval, t_quantile
from curricula.types import CurriculaError
from rollout.collector import Collector
from rollout.settings import RolloutSettings
from trainer.advantages import group_advantages
from trainer.cli import main
from trainer.recipe_words import read_recipes
from trainer.simulate.command import Effort, setting_of, simulate_command
from trainer.simulate.compare import N_POINTS, areas, compare, on_grid, reach, with_marks
from trainer.simulate.oracle import nearest_half
from trainer.simulate.run import Run, collect, groups_wanted, simulate
from trainer.simulate.setting import Setting
from trainer.simulate.student import Student, make_pool
from trainer.simulate.sweep import read_axes, settings_of
from trainer.simulate.tables import points

SMALL = Setting(steps=12, groups=8, rollouts=4, prompts=80, levels=4)


def student_with(**changes: float) -> tuple[Student, np.ndarray]:
    setting = Setting(prompts=1, levels=1, jitter=0.0, **changes)
    return Student(setting, make_pool(setting, 0), 0), np.zeros(4, dtype=np.int64)


# --- the learner ------------------------------------------------------------------------------------------------------------------


DROPS = {"name": "nonzero_variance", "refill": "none"}


def test_the_gain_of_a_group_is_the_policy_gradient_of_its_skill() -> None:
    """A group of 3 out of 4: mean of advantage x (solved - p) = mean of advantage x solved, as advantages sum to 0."""
    student, prompt_R = student_with(rate=0.5)
    logit = math.log(student.pass_rates()[0] / (1 - student.pass_rates()[0]))
    solved_R = np.array([True, True, True, False])
    advantage_R = group_advantages("grpo", solved_R.astype(float), prompt_R, np.ones(4, bool), 1)
    student.learn(prompt_R, solved_R, advantage_R)
    after = math.log(student.pass_rates()[0] / (1 - student.pass_rates()[0]))
    assert after - logit == pytest.approx(0.5 * math.sqrt(3 / 16) * math.sqrt(3 / 4), rel=1e-5)  # std with ddof 1


def test_what_the_verifier_gets_wrong_teaches_nothing_on_a_hopeless_prompt() -> None:
    """All rollouts fail, the verifier passes two: advantages are large, but truth and score function agree on nothing to learn."""
    student, prompt_R = student_with(start=-30.0)
    before = student.pass_rates()[0]
    reward_R = np.array([1.0, 1.0, 0.0, 0.0])
    advantage_R = group_advantages("grpo", reward_R, prompt_R, np.ones(4, bool), 1)
    assert np.abs(advantage_R).min() > 0.8
    student.learn(prompt_R, np.zeros(4, bool), advantage_R)
    assert student.pass_rates()[0] == pytest.approx(before, rel=1e-9)


def test_the_verifier_errs_as_often_as_it_is_said_to() -> None:
    setting = Setting(prompts=1, levels=1, start=-30.0, noise=0.2)
    student = Student(setting, make_pool(setting, 0), 0)
    solved_R, reward_R = student.answer(np.zeros(20_000, np.int64), np.random.default_rng(0))
    assert not solved_R.any()
    assert reward_R.mean() == pytest.approx(0.2, abs=0.012)  # four standard errors


def test_learning_reaches_the_neighbours_by_the_transfer() -> None:
    rates = {}
    for reach_ in (0.0, 2.0):
        setting = Setting(prompts=3, levels=3, slope=0.0, spread=0.0, start=0.0, transfer=reach_, jitter=0.0)
        student = Student(setting, make_pool(setting, 0), 0)
        student.learn(np.zeros(2, np.int64), np.array([True, False]), np.array([1.0, -1.0]))
        logit_N = np.log(student.pass_rates() / (1 - student.pass_rates()))
        rates[reach_] = logit_N / logit_N[0]
    assert rates[0.0] == pytest.approx([1.0, 0.0, 0.0])
    assert rates[2.0] == pytest.approx([1.0, math.exp(-0.5), math.exp(-1.0)])


@pytest.mark.parametrize(("constant", "ratio"), [(0, 1.0), (1, 2 / (32 * 8))])
def test_a_constant_denominator_makes_small_updates_small(constant: int, ratio: float) -> None:
    setting = Setting(prompts=1, levels=1, slope=0.0, spread=0.0, start=0.0, jitter=0.0, rate=1e-3, constant=constant)
    student = Student(setting, make_pool(setting, 0), 0)
    student.learn(np.zeros(2, np.int64), np.array([True, False]), np.array([1.0, -1.0]))
    logit = float(np.log(student.pass_rates() / (1 - student.pass_rates()))[0])
    assert logit == pytest.approx(1e-3 * 0.5 * ratio, rel=1e-3)  # advantage x (solved - p) is 0.5 for both


def test_leaving_dead_groups_out_is_no_gain_with_a_constant_denominator() -> None:
    gains = {}
    for constant in (0, 1):
        setting = replace(SMALL, constant=constant)
        uniform, dropped = (simulate(recipe, setting, 0).level_T[-1] for recipe in ("uniform", {"filter": DROPS}))
        gains[constant] = float(dropped - uniform)
    assert gains[0] > 0.002
    assert gains[1] == pytest.approx(0.0, abs=1e-9)


def test_seeds_are_paired() -> None:
    """The same seed gives the same prompts, difficulties and step noise; another seed gives other ones."""
    a, b, other = (Student(SMALL, make_pool(SMALL, seed), seed) for seed in (0, 0, 1))
    assert (a.pass_rates() == b.pass_rates()).all()
    assert not (a.pass_rates() == other.pass_rates()).any()
    assert a._step_noise() == b._step_noise() != other._step_noise()


def test_the_same_run_twice() -> None:
    one, other = simulate("combined", SMALL, 3), simulate("combined", SMALL, 3)
    assert one.level_T.tolist() == other.level_T.tolist()


# --- what a run costs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["uniform", "nonzero_variance", "difficulty_band", "knapsack", "combined", "oracle"])
def test_every_run_spends_the_budget_and_no_more(recipe: str) -> None:
    run = simulate(recipe, SMALL, 0)
    assert SMALL.budget - SMALL.rollouts * SMALL.groups < run.spent_T[-1] <= SMALL.budget == 384
    assert (np.diff(run.spent_T) > 0).all()
    assert run.n_live <= run.n_groups


def test_rejected_groups_are_paid_for() -> None:
    """Refilling makes fuller batches and fewer updates out of the same rollouts."""
    uniform, refilled = simulate("uniform", SMALL, 0), simulate("nonzero_variance", SMALL, 0)
    assert uniform.n_updates == 12
    assert refilled.n_updates < 12
    assert refilled.n_kept <= refilled.n_live < refilled.n_groups
    assert abs(refilled.n_groups - uniform.n_groups) <= 1


def test_unspent_rollouts_never_lift_a_plan_over_what_is_left() -> None:
    recipe = {"budget": {"name": "knapsack", "max_n": 3}}  # leaves a quarter of every budget, which carries over
    curriculum, student = Curriculum.from_recipe(recipe, make_pool(SMALL, 0)), Student(SMALL, make_pool(SMALL, 0), 0)
    for step, left in enumerate((100, 100, 20, 7)):
        attempts = collect(curriculum, student, SMALL, step, left, seed=0)
        assert sum(attempt.outcome.plan.n_rollouts for attempt in attempts) <= left


@pytest.mark.parametrize("recipe", ["difficulty_band", "greso"])
def test_the_refill_rule_is_the_collectors(recipe: str) -> None:
    """Step by step through a run with refills, both ask for the same number of groups."""
    settings = RolloutSettings(groups_per_step=SMALL.groups, rollouts_per_group=SMALL.rollouts, max_attempts=SMALL.max_attempts)
    collector = Collector.__new__(Collector)
    collector._settings = settings
    curriculum, student = Curriculum.from_recipe(recipe, make_pool(SMALL, 0)), Student(SMALL, make_pool(SMALL, 0), 0)

    class Attempt:
        def __init__(self, attempt):
            self.plan, self.outcome, self.verdict = attempt.outcome.plan, attempt.outcome, attempt.verdict

    asked = set()
    for step in range(6):
        attempts = collect(curriculum, student, SMALL, step, 10_000, seed=0)
        for n in range(len(attempts) + 1):
            wanted = groups_wanted(attempts[:n], SMALL)
            assert wanted == collector._groups_wanted([Attempt(attempt) for attempt in attempts[:n]])
            asked.add(wanted)
    assert len(asked) > 3  # else the test compared nothing


def test_the_oracle_takes_what_is_nearest_to_one_half() -> None:
    rate_N = np.array([0.9, 0.5, 0.1, 0.45, 0.6])
    assert nearest_half(rate_N, np.arange(5), 3).tolist() == [1, 3, 4]
    assert nearest_half(rate_N, np.array([0, 2]), 3).tolist() in ([0, 2], [2, 0])
    setting = Setting(steps=20, groups=8, prompts=400)
    oracle, uniform = simulate("oracle", setting, 0), simulate("uniform", setting, 0)
    assert oracle.n_live / oracle.n_groups > 0.95 > 0.75 > uniform.n_live / uniform.n_groups
    assert oracle.level_T[-1] > uniform.level_T[-1]


# --- the numbers ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probability", "degrees", "t"),
    [(0.975, 1, 12.7062), (0.975, 2, 4.30265), (0.975, 3, 3.18245), (0.975, 9, 2.26216), (0.95, 19, 1.72913), (0.995, 30, 2.75)],
)
def test_t_quantiles_are_those_of_the_tables(probability: float, degrees: int, t: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(t, rel=1e-5)


def test_intervals_cover_what_they_promise() -> None:
    """Means of five normal numbers with mean 1: the interval holds 1 in 95 of 100 cases (four standard errors of the count)."""
    draws = np.random.default_rng(0).normal(1.0, 3.0, (4000, 5))
    inside = [low <= 1.0 <= high for _, low, high in map(interval, draws)]
    assert np.mean(inside) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))


def test_the_words_of_intervals() -> None:
    assert [Interval(0, low, high).word for low, high in ((0.1, 0.2), (-0.1, 0.2), (-0.2, -0.1))] == ["wins", "ties", "loses"]
    assert points(Interval(0.021, 0.015, 0.027)) == "+2.1 [+1.5, +2.7]"
    assert interval(np.array([1.0])).word == "ties"  # one seed tells nothing


def test_curves_are_read_at_equal_rollouts() -> None:
    run = Run(np.array([0, 10, 40]), np.array([0.0, 0.1, 0.4]), 1, 1, 1, 1)
    grid = on_grid(run, 100)
    assert len(grid) == N_POINTS
    assert grid[[0, 5, 10, 40, 100]] == pytest.approx([0.0, 0.05, 0.1, 0.4, 0.4])  # flat after the run's last point
    assert areas(np.array([[0.0, 1.0, 1.0]])) == pytest.approx([0.75])
    assert reach(run, 0.05, 100) == (10, True)
    assert reach(run, 0.5, 100) == (100, False)


def test_uniform_against_itself_is_no_difference() -> None:
    (result,) = compare({"twin": {}}, [SMALL], seeds=3)
    assert [row.name for row in result.rows] == ["uniform", "twin", "oracle"]
    twin = result.row("twin")
    assert twin.difference == (0.0, 0.0, 0.0)
    assert twin.difference.word == "ties"
    assert twin.censored == 0
    assert twin.reach == result.row("uniform").reach <= SMALL.budget


def test_two_processes_give_the_numbers_of_one() -> None:
    alone, side_by_side = (compare({"sec": "sec"}, [SMALL, SMALL.with_value("noise", 0.1)], 2, n) for n in (1, 2))
    for one, other in zip(alone, side_by_side, strict=True):
        assert one.setting == other.setting
        assert [row.curve_ST.tolist() for row in one.rows] == [row.curve_ST.tolist() for row in other.rows]


# --- the command ------------------------------------------------------------------------------------------------------------------


def test_settings_from_words() -> None:
    setting = setting_of({"steps": 100, "groups": 10, "visits": 2, "spread": None}, ["levels=4", "rate=0.2"])
    assert (setting.prompts, setting.levels, setting.rate, setting.visits) == (500, 4, 0.2, 2.0)
    axes = read_axes(["visits=1,2", "groups=8,16"])
    assert [(chosen["visits"], s.groups, s.prompts) for chosen, s in settings_of(Setting(steps=10), axes)] == [
        (1.0, 8, 80),
        (1.0, 16, 160),
        (2.0, 8, 40),
        (2.0, 16, 80),
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: setting_of({"visits": 2, "prompts": 20}, []), "visits and prompts say the same"),
        (lambda: setting_of({}, ["level=4"]), "did you mean 'levels'"),
        (lambda: setting_of({}, ["levels=four"]), "expected name=number"),
        (lambda: setting_of({}, ["levels=2.5"]), "simulate.levels: expected a whole number, got 2.5"),
        (lambda: setting_of({"noise": 0.7}, []), "simulate.noise: expected a chance in 0..0.5"),
        (lambda: setting_of({"rollouts": 1}, []), "simulate.rollouts: expected >= 2"),
        (lambda: setting_of({"visits": 0.0}, []), "simulate.visits: expected a number above 0"),
        (lambda: read_axes(["spread"]), "expected name=value,value"),
        (lambda: read_axes(["spread=1", "spread=2"]), "every name once"),
        (lambda: read_axes(["spread=1,x"]), "'x' is no number"),
        (lambda: read_recipes(["dump_ubc"]), "did you mean 'dump_ucb'"),
        (lambda: read_recipes(["sec", "sec"]), "two recipes are called 'sec'"),
        (lambda: with_marks({"oracle": {"filter": "keep_all"}}), "rename its file"),
        (lambda: compare({}, [SMALL], seeds=1), "one seed has no interval"),
    ],
)
def test_what_a_user_is_told(call, message: str) -> None:
    with pytest.raises(CurriculaError, match=message.replace("(", r"\(")):
        call()


def test_recipes_from_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: run\ncurriculum: {selector: {name: nearest, target: 0.6}}\n")
    assert read_recipes([str(path), "sec"]) == {"mine": {"selector": {"name": "nearest", "target": 0.6}}, "sec": "sec"}
    path.write_text("curriculum: dump_ucb\n")
    assert read_recipes([str(path)]) == {"mine": "dump_ucb"}
    path.write_text("name: run\n")
    with pytest.raises(CurriculaError, match="expected a key 'curriculum'"):
        read_recipes([str(path)])


def test_a_comparison_prints_draws_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = ["--steps", "6", "--groups", "4", "--rollouts", "4", "--prompts", "40", "--set", "levels=3"]
    with pytest.raises(SystemExit) as exit_:
        main(["simulate", "sec", "--seeds", "2", *numbers, "--out", str(tmp_path), "--processes", "1"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("uniform", "sec", "oracle", "2 paired seeds, 96 rollouts each"))
    assert "no evidence about language models" in " ".join(out.split())
    data = json.loads((tmp_path / "comparison.json").read_text())
    assert [row["recipe"] for row in data["rows"]] == ["uniform", "sec", "oracle"]
    assert (data["budget_rollouts"], data["setting"]["levels"], data["seeds"]) == (96, 3, 2)
    by_seed = [row["final_pass_rate_by_seed"] for row in data["rows"][:2]]
    assert data["rows"][1]["difference_to_uniform"]["mean"] == pytest.approx(np.mean(by_seed[1]) - np.mean(by_seed[0]))
    assert data["rows"][0]["updates"] <= 6
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    assert "</svg>" in (tmp_path / "comparison.svg").read_text()


def test_a_sweep_writes_the_regime_map(tmp_path: Path) -> None:
    console = Console(record=True, width=120, file=(tmp_path / "out.txt").open("w"))
    simulate_command(["sec"], SMALL, ["noise=0,0.3", "spread=0.5,2"], Effort(2, 1, tmp_path), console)
    text = console.export_text()
    assert "4 regimes" in text
    data = json.loads((tmp_path / "map.json").read_text())
    assert [entry["regime"]["spread"] for entry in data["regimes"]] == [0.5, 2.0, 0.5, 2.0]
    rows = [entry["rows"][1] for entry in data["regimes"]]
    lines = [line.split() for line in text.splitlines()]
    for noise, spread, row in zip((0, 0, 0.3, 0.3), (0.5, 2, 0.5, 2), rows, strict=True):
        shown = next(line[4] for line in lines if line[:2] == [str(noise), str(spread)])
        mean = f"{100 * row['difference_to_uniform']['mean']:+.1f}"
        assert shown == (f"({mean})" if row["verdict"] == "ties" else mean)
    verdicts = [row["verdict"] for row in rows]
    assert next(line[1:] for line in lines if line[:1] == ["sec"]) == [str(verdicts.count(w)) for w in ("wins", "ties", "loses")]
    assert (tmp_path / "map.png").is_file()
    assert (tmp_path / "map.svg").is_file()

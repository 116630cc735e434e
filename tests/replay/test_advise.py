"""What a log says about its run: each finding where it must speak, with the right number, and where it must be silent."""

from __future__ import annotations

import ast
import doctest
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest

import replay.advise.beta_model
import replay.advise.finding
import replay.advise.findings
from curricula.budget.knapsack import Knapsack
from curricula.recipes import RECIPES
from curricula.statistics import t_quantile
from curricula.types import CurriculaError, Estimate, PromptPool, Status
from replay.advise import Finding, Suggestion, advise, as_plain, known_findings
from replay.advise.beta_model import fitted, predicted_live
from replay.advise.findings.budgets import FORGETTING, OFTEN, _beliefs
from replay.advise.groups import groups_of, next_visits
from replay.advise.intervals import mean_of, thirds
from replay.importers import read
from replay.sources import load
from replay.subsampling import Tally, tally
from replay.types import Lack, LoggedRun
from tests.trainer.made_run import made_run
from trainer.cli import main
from trainer.recipe import load_recipe

DATA = Path(__file__).parents[3] / "shared" / "data"
ROOT = Path(__file__).parents[2]
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the shared data of other trainers is not beside this checkout")
N = 8


def made(
    k_G: Sequence[int] | np.ndarray,
    n: int = N,
    step_G: Sequence[int] | np.ndarray | None = None,
    prompt_G: Sequence[int] | np.ndarray | None = None,
    distribution_N: Sequence[str] | None = None,
    lacks: Sequence[Lack] = (),
) -> LoggedRun:
    """Groups of n rollouts with k successes each; a prompt of its own and four groups per step where nothing else is said."""
    g = len(k_G)
    prompt = np.arange(g) if prompt_G is None else np.asarray(prompt_G)
    n_prompts = int(prompt.max(initial=-1)) + 1
    group_R = np.repeat(np.arange(g), n)
    names = ["all"] * n_prompts if distribution_N is None else list(distribution_N)
    return LoggedRun(
        source="made",
        pool=PromptPool.from_columns([f"p{i}" for i in range(len(names))], names),
        prompt_G=prompt,
        step_G=np.arange(g) // 4 if step_G is None else np.asarray(step_G),
        group_R=group_R,
        reward_R=(np.tile(np.arange(n), g) < np.repeat(np.asarray(k_G), n)).astype(float),
        status_R=np.zeros(g * n, dtype=np.uint8),
        n_tokens_R=np.full(g * n, 10),
        policy_version_R=(np.arange(g) // 4 if step_G is None else np.asarray(step_G))[group_R],
        propensity_G=np.full(g, 0.1),
        arm_probability_G=np.full(g, 0.1),
        kept_G=np.ones(g, dtype=np.uint8),
        lacks=frozenset(lacks),
    )


def said(run: LoggedRun, name: str) -> Finding:
    """The finding of this name; it must speak."""
    (finding,) = advise(run, [name])
    return finding


def silent(run: LoggedRun, name: str) -> bool:
    return advise(run, [name]) == []


def value(finding: Finding, name: str) -> float:
    (number,) = [number for number in finding.evidence if number.name == name]
    return number.value


def recipes(finding: Finding) -> set[str]:
    return {suggestion.recipe for suggestion in finding.suggestions} - {""}


def unknown(run: LoggedRun, name: str) -> tuple[str, ...]:
    """What is lacking, of a finding that must say that it cannot tell."""
    finding = said(run, name)
    assert finding.severity == "not estimable"
    assert all(lack in finding.sentence for lack in finding.lacks)
    return finding.lacks


# ---------------------------------------------------------------------------------------------------------------- intervals


def test_steps_are_what_counts_as_independent() -> None:
    run = made([0] * 4 + [4] * 4 + [0, 0, 4, 4])  # shares without signal per step: 1, 0, 1/2
    measured = mean_of(run, groups_of(run).dead_G)
    half = t_quantile(0.975, 2) * np.std([1, 0, 0.5], ddof=1) / math.sqrt(3)
    assert (measured.value, measured.n, measured.of) == (0.5, 3, "steps")
    assert measured.low == pytest.approx(max(0.0, 0.5 - half))
    assert measured.high == pytest.approx(min(1.0, 0.5 + half))


def test_prompts_are_where_there_are_no_steps() -> None:
    run = made([0, 0, 4, 4], prompt_G=[0, 0, 1, 2], lacks=["step"])
    measured = mean_of(run, groups_of(run).dead_G)
    assert (measured.value, measured.n, measured.of) == (0.5, 3, "prompts")


def test_a_share_that_was_always_0_is_not_known_to_be_0() -> None:
    measured = mean_of(made([4] * 20), np.zeros(20))
    assert (measured.value, measured.low) == (0.0, 0.0)
    assert measured.high == pytest.approx(1 - 0.025 ** (1 / 5))
    assert mean_of(made([4] * 20), np.ones(20)).low == pytest.approx(0.025 ** (1 / 5))


def test_intervals_hold_what_they_promise_where_groups_of_a_step_are_alike() -> None:
    generator, held = np.random.default_rng(0), 0
    run = made([4] * 120, step_G=np.arange(120) // 6)
    for _ in range(400):
        rate_T = generator.beta(2, 2, 20)
        measured = mean_of(run, (generator.random(120) < np.repeat(rate_T, 6)).astype(float))
        held += measured.low <= 0.5 <= measured.high
    assert 0.92 <= held / 400 <= 0.98


def test_a_value_that_no_group_has_is_no_number() -> None:
    measured = mean_of(made([4] * 8), np.full(8, np.nan))
    assert math.isnan(measured.value)
    assert (measured.low, measured.high, measured.n) == (0, 1, 0)


def test_thirds_compare_the_means_of_steps() -> None:
    run = made([0] * 8 + [4] * 8 + [4] * 8)
    change = thirds(run, groups_of(run).dead_G)
    assert change is not None
    assert (change.first, change.last, change.difference.value) == (1.0, 0.0, -1.0)
    assert change.shows
    assert thirds(made([4] * 20), np.zeros(20)) is None  # five steps
    assert thirds(made([4] * 40, lacks=["step"]), np.zeros(40)) is None


# ---------------------------------------------------------------------------------------------------------------- signal


def test_no_signal_counts_groups_rollouts_and_tokens() -> None:
    run = made([0, 0, 0, 8, 4, 4, 4, 4, 4, 4] * 4)
    tokens = np.where(np.repeat(groups_of(run).dead_G == 1, N), 30, 10)
    finding = said(replace(run, n_tokens_R=tokens), "no_signal")
    assert value(finding, "groups without signal") == pytest.approx(0.4)
    assert value(finding, "rollouts in such groups") == pytest.approx(0.4)
    assert value(finding, "tokens in such groups") == pytest.approx(0.4 * 30 / (0.4 * 30 + 0.6 * 10))
    assert value(finding, "all wrong") == pytest.approx(0.3)
    assert value(finding, "all right") == pytest.approx(0.1)
    assert recipes(finding) == {"nonzero_variance", "uniform"}


def test_no_signal_names_the_distributions() -> None:
    run = made([0] * 40 + [4] * 80, step_G=np.arange(120) % 12, distribution_N=["hard"] * 40 + ["fair"] * 80)
    finding = said(run, "no_signal")
    assert "hard 100 %" in finding.sentence
    assert value(finding, "groups without signal in hard") == 1.0
    assert not any("fair" in number.name for number in finding.evidence)


def test_no_signal_is_silent_where_there_is_little() -> None:
    run = made(([4] * 19 + [0]) * 20)
    assert silent(run, "no_signal")
    assert value(said(run, "little_to_win"), "groups with signal") == pytest.approx(0.95)


def test_little_to_win_is_silent_where_there_is_more() -> None:
    assert silent(made([4, 4, 0, 4] * 10), "little_to_win")
    assert silent(made([4] * 4), "little_to_win")  # four groups are no evidence


def test_what_a_filter_left_is_no_share_of_what_was_drawn() -> None:
    run = made([0, 4] * 20, lacks=["rejected groups"])
    assert unknown(run, "no_signal") == ("rejected groups",)
    assert value(said(run, "no_signal"), "groups without signal") == 0.5
    assert silent(run, "little_to_win")
    assert unknown(made([1, 0] * 20, n=1), "no_signal") == ("groups with two scored rollouts",)


def test_signal_over_time() -> None:
    growing = made([4] * 40 + [4, 8] * 20 + [8] * 40)
    finding = said(growing, "signal_over_time")
    assert value(finding, "change of the share without signal, last minus first third") == pytest.approx(1.0, abs=0.15)
    assert value(finding, "change of the share all wrong") == 0.0
    assert [suggestion.change for suggestion in finding.suggestions] == ["add harder prompts, in levels"]
    back = made([4] * 40 + [4, 8] * 20 + [8] * 40, prompt_G=np.arange(120) % 40)
    assert recipes(said(back, "signal_over_time")) == {"greso"}
    assert silent(made([4, 0, 4, 8] * 30), "signal_over_time")
    assert unknown(made([4] * 40, lacks=["step"]), "signal_over_time") == ("step",)


# ---------------------------------------------------------------------------------------------------------------- distributions


def levels_run(easy: int, hard: int, middle: int = 4) -> LoggedRun:
    """Three distributions of 40 groups each, with this many of 8 right."""
    k = np.tile([easy, hard, middle], 40)
    return made(k, step_G=np.arange(120) // 6, distribution_N=["easy", "hard", "middle"] * 40)


def test_saturated_and_starving_distributions() -> None:
    finding = said(levels_run(8, 0), "saturated")
    assert "easy" in finding.sentence
    assert value(finding, "mean score in easy") == 1.0
    assert value(finding, "rollouts spent there") == pytest.approx(1 / 3)
    assert recipes(finding) == {"dump_ucb"}
    finding = said(levels_run(8, 0), "starving")
    assert "hard" in finding.sentence
    assert value(finding, "all wrong there") == 1.0
    assert value(finding, "rollouts spent there") == pytest.approx(1 / 3)
    assert silent(levels_run(7, 1), "saturated")
    assert silent(levels_run(7, 1), "starving")


def test_severity_is_low_while_an_interval_is_not_past_the_threshold() -> None:
    assert said(levels_run(8, 0), "starving").severity == "low"  # 20 steps without a success: up to 0.17
    k = np.tile([8, 0, 4], 200)
    many = made(k, step_G=np.arange(600) // 6, distribution_N=["easy", "hard", "middle"] * 200)
    assert said(many, "starving").severity == "medium"
    assert said(many, "saturated").severity == "medium"


def test_nothing_is_said_of_a_distribution_with_few_groups() -> None:
    run = made([8] * 10 + [0] * 10, distribution_N=["a"] * 10 + ["b"] * 10)
    assert silent(run, "saturated")
    assert silent(run, "starving")


def test_more_rollouts_are_named_only_where_a_success_was_ever_seen() -> None:
    k = np.tile([0, 4], 100)
    k[0] = 1
    now_and_then = made(k, distribution_N=["hard", "fair"] * 100)
    assert recipes(said(now_and_then, "starving")) == {"dump_ucb", "reinforce_ada"}
    k[0] = 0
    assert recipes(said(made(k, distribution_N=["hard", "fair"] * 100), "starving")) == {"dump_ucb"}


def test_rarely_visited() -> None:
    prompts = np.where(np.arange(400) < 398, np.arange(400) % 50, 50)
    names = ["a"] * 25 + ["b"] * 25 + ["rare"] * 25 + ["never"] * 25
    finding = said(made([4] * 400, prompt_G=prompts, distribution_N=names), "rarely_visited")
    assert value(finding, "groups of rare") == 2
    assert value(finding, "groups of never") == 0
    assert value(finding, "groups given to them together") == pytest.approx(2 / 400)
    assert finding.severity == "medium"
    even = made([4] * 400, prompt_G=np.arange(400) % 100, distribution_N=names)
    assert silent(even, "rarely_visited")
    assert silent(made([4] * 400), "rarely_visited")


def test_levels_tell_what_lies_between_distributions() -> None:
    generator = np.random.default_rng(1)
    at = np.arange(4000) % 4
    rate = np.array([0.2, 0.4, 0.6, 0.8])[at] + generator.uniform(-0.15, 0.15, 4000)
    run = made(generator.binomial(N, rate), step_G=np.arange(4000) // 40, distribution_N=[f"d{k}" for k in at])
    finding = said(run, "levels")
    truth = 0.05 / (0.05 + 0.3**2 / 12)
    number = finding.evidence[0]
    assert number.value == pytest.approx(truth, abs=0.03)
    assert number.low is not None
    assert number.high is not None
    assert number.low <= truth <= number.high
    assert recipes(finding) == {"dump_ucb", "sec"}


def test_levels_that_tell_nothing() -> None:
    generator = np.random.default_rng(2)
    k = generator.binomial(N, generator.beta(1, 1, 2000))
    names = [f"d{i % 4}" for i in range(2000)]
    once = made(k, distribution_N=names)
    finding = said(once, "levels")
    assert finding.evidence[0].value < 0.05
    assert recipes(finding) == {"uniform"}
    often = made(k, prompt_G=np.arange(2000) % 100, distribution_N=names[:100])
    assert recipes(said(often, "levels")) == {"mopps", "uniform"}
    assert silent(made(k), "levels")  # one distribution
    assert unknown(made(k, distribution_N=names, lacks=["fixed budget"]), "levels") == ("fixed budget",)


# ---------------------------------------------------------------------------------------------------------------- visits, budgets


def test_visits_say_what_the_last_one_tells() -> None:
    k_NV = np.array([[4, 4, 4, 0], [0, 0, 0, 4]] * 40)  # live, live, live, dead; dead, dead, dead, live
    run = made(k_NV.T.ravel(), step_G=np.repeat(np.arange(4), 80), prompt_G=np.tile(np.arange(80), 4))
    finding = said(run, "visits")
    assert value(finding, "visits per prompt") == 4.0
    assert value(finding, "live after a live visit") == pytest.approx(2 / 3)
    assert value(finding, "live after a dead visit") == pytest.approx(1 / 3)
    assert value(finding, "change of the mean score per visit") == 0.0
    assert silent(made([4] * 80), "visits")
    assert unknown(made([4] * 80, prompt_G=np.arange(80) % 20, lacks=["step"]), "visits") == ("step",)


def test_the_noise_of_finite_groups_is_no_drift() -> None:
    generator = np.random.default_rng(3)
    rate_N = generator.uniform(0.2, 0.8, 200)
    for moved in (0.0, 0.1):
        rate_NV = rate_N[:, None] + moved * (-1.0) ** np.arange(20)
        run = made(
            generator.binomial(N, rate_NV).T.ravel(), step_G=np.repeat(np.arange(20), 200), prompt_G=np.tile(np.arange(200), 20)
        )
        square = value(said(run, "visits"), "squared change of the true mean score per visit, noise taken off")
        assert square == pytest.approx((2 * moved) ** 2, abs=0.004)


def test_beliefs_per_prompt_are_named_where_prompts_come_back_and_outcomes_persist() -> None:
    k = np.tile([4, 0] * 20, 12)
    run = made(k, step_G=np.repeat(np.arange(12), 40), prompt_G=np.tile(np.arange(40), 12))
    assert recipes(said(run, "visits")) == {"mopps", "greso"}
    mostly = np.where(np.random.default_rng(15).random(240) < 0.1, 4 - k[:240], k[:240])
    few = made(mostly, step_G=np.repeat(np.arange(6), 40), prompt_G=np.tile(np.arange(40), 6))
    assert "belief: pooled" in said(few, "visits").suggestions[0].change
    assert recipes(said(few, "visits")) == set()
    noise = made(np.random.default_rng(4).permutation(k), step_G=np.repeat(np.arange(12), 40), prompt_G=np.tile(np.arange(40), 12))
    assert recipes(said(noise, "visits")) == {"uniform"}


def returning(visits: int, rate_N: np.ndarray, seed: int) -> LoggedRun:
    generator, n = np.random.default_rng(seed), len(rate_N)
    k = generator.binomial(N, np.tile(rate_N, visits))
    return made(k, step_G=np.repeat(np.arange(visits), n), prompt_G=np.tile(np.arange(n), visits))


def test_beliefs_know_the_earlier_visits_and_nothing_else() -> None:
    run = returning(5, np.linspace(0.1, 0.9, 7), 5)
    groups = tally(run)
    spread = fitted(groups)
    assert spread is not None
    alpha, beta = _beliefs(run, groups, spread)
    for g in range(len(run)):
        mine = [h for h in range(len(run)) if run.prompt_G[h] == run.prompt_G[g] and run.step_G[h] < run.step_G[g]]
        weight = [(1 - FORGETTING) ** (run.step_G[g] - 1 - run.step_G[h]) for h in mine]
        assert alpha[g] == pytest.approx(spread.alpha + sum(w * groups.k_G[h] for w, h in zip(weight, mine, strict=True)))
        assert beta[g] == pytest.approx(spread.beta + sum(w * (N - groups.k_G[h]) for w, h in zip(weight, mine, strict=True)))


def test_budgets_are_the_knapsacks_and_their_gain_is_what_they_get() -> None:
    """Rates stand still, so what a budget gets is known: the claimed gain has to be near the true one."""
    generator = np.random.default_rng(6)
    rate = generator.beta(0.5, 1.5, 60)
    run = returning(40, rate, 7)
    finding = said(run, "budgets")
    groups = tally(run)
    spread = fitted(groups)
    assert spread is not None
    alpha, beta = _beliefs(run, groups, spread)
    moved, gained = [], []
    for step in range(20, 40):
        here = np.flatnonzero(run.step_G == step)
        budget = Knapsack().shares(Estimate(alpha[here], beta[here]), N * 60)
        moved.append(np.abs(budget - N).sum() / 2)
        p = rate[run.prompt_G[here]]
        live = [1 - p**n - (1 - p) ** n for n in (budget, N)]
        gained.append((budget * live[0] - N * live[1]).sum() / (N * 60))
    assert value(finding, "rollouts that the knapsack would move") == pytest.approx(sum(moved) / (20 * 60 * N))
    assert value(finding, "gain in rollouts of live groups") == pytest.approx(np.mean(gained), abs=0.03)
    labels = {number.kind for number in finding.evidence if number.name.startswith("gain")}
    assert labels == {"model"}
    assert (recipes(finding) == {"knapsack"}) == ("knapsack" in finding.suggestions[0].recipe)


def test_budgets_name_the_knapsack_only_where_prompts_come_back_as_often_as_our_maps_ask() -> None:
    rate = np.random.default_rng(8).beta(0.5, 1.5, 60)
    assert recipes(said(returning(int(OFTEN) - 10, rate, 9), "budgets")) == {"uniform"}
    assert silent(returning(2, rate, 9), "budgets")
    assert silent(returning(20, np.full(60, 0.5), 9), "budgets")  # equal rates: the even split
    many = returning(20, rate, 9)
    assert unknown(replace(many, lacks=frozenset({"step"})), "budgets") == ("step",)
    assert unknown(replace(many, lacks=frozenset({"fixed budget"})), "budgets") == ("fixed budget",)


# ---------------------------------------------------------------------------------------------------------------- group size


def test_groups_that_could_be_smaller() -> None:
    finding = said(made([4] * 40), "group_size")
    assert value(finding, "live groups of 8") == 1.0
    assert value(finding, "live groups of 4") == pytest.approx(1 - 2 / comb(8, 4))
    assert finding.suggestions[0].setting == "rollout.rollouts_per_group=4"
    assert all(number.kind in ("exact", "model") for number in finding.evidence)


def test_groups_that_are_too_small() -> None:
    k = np.random.default_rng(10).binomial(N, np.full(4000, 0.1))
    finding = said(made(k), "group_size")
    assert value(finding, "live groups of 8") == pytest.approx(1 - 0.9**8, abs=0.03)
    assert value(finding, "live groups of 16") == pytest.approx(1 - 0.9**16, abs=0.03)
    assert {number.name: number.kind for number in finding.evidence}["live groups of 16"] == "model"
    assert finding.suggestions[0].setting == "rollout.rollouts_per_group=16"


def test_no_size_is_named_where_the_model_misses_or_sizes_were_not_fixed() -> None:
    assert silent(made([0, 1] * 40), "group_size")  # a model would say 0.64 for 16, and 0.40 for 8, of which 0.5 are live
    assert unknown(made([4] * 40, lacks=["fixed budget"]), "group_size") == ("fixed budget",)
    assert silent(made([4] * 8), "group_size")


def test_sizes_of_graded_scores_are_exact_too() -> None:
    run = made([4] * 40)
    finding = said(replace(run, reward_R=np.where(run.reward_R > 0, 0.7, 0.2)), "group_size")
    assert value(finding, "live groups of 4") == pytest.approx(1 - 2 / comb(8, 4))


def test_the_model_is_a_beta() -> None:
    generator = np.random.default_rng(11)
    spread = fitted(Tally(np.full(50_000, 8), generator.binomial(8, generator.beta(0.5, 1.5, 50_000))))
    assert spread is not None
    assert spread == pytest.approx((0.5, 1.5), abs=0.05)
    rate = generator.beta(0.5, 1.5, 400_000)
    assert predicted_live(0.5, 1.5, 16) == pytest.approx(np.mean(1 - rate**16 - (1 - rate) ** 16), abs=0.003)
    assert fitted(Tally(np.full(4, 8), np.zeros(4, dtype=np.int64))) is None


# ---------------------------------------------------------------------------------------------------------- waste and failures


def test_filter_waste() -> None:
    run = made([0, 0, 4, 4, 4] * 40, step_G=np.arange(200) // 10)
    kept = np.tile([0, 0, 1, 1, 1], 40).astype(np.uint8)
    attempt = np.tile([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], 20)
    finding = said(replace(run, kept_G=kept, attempt_G=attempt), "filter_waste")
    assert value(finding, "rollouts of rejected groups") == pytest.approx(0.4)
    assert value(finding, "rejected groups that had signal") == 0.0
    assert value(finding, "attempts per step") == 2.0
    assert value(finding, "groups kept") == 120
    assert "1.7 rollouts drawn per rollout kept" in finding.sentence
    assert "nonzero_variance" not in recipes(finding)
    band = said(replace(run, kept_G=np.tile([1, 1, 1, 0, 0], 40).astype(np.uint8)), "filter_waste")
    assert value(band, "rejected groups that had signal") == 1.0
    assert "nonzero_variance" in recipes(band)
    assert silent(run, "filter_waste")
    assert unknown(replace(run, kept_G=np.full(200, 2, dtype=np.uint8)), "filter_waste") == ("which groups entered the update",)
    assert unknown(replace(run, lacks=frozenset({"rejected groups"})), "filter_waste") == ("rejected groups",)


def test_staleness() -> None:
    run = made([4] * 40)
    version = run.step_G[run.group_R].copy()
    version[::4] = np.maximum(version[::4] - 2, 0)
    finding = said(replace(run, policy_version_R=version), "staleness")
    behind = run.step_G[run.group_R] - version
    assert value(finding, "rollouts behind the newest version, at least") == pytest.approx((behind > 0).mean())
    assert value(finding, "lag") == pytest.approx(behind.mean())
    assert value(finding, "largest lag") == 2
    assert value(finding, "groups of several versions") == pytest.approx(0.9)  # not in the first step
    assert silent(run, "staleness")
    assert silent(replace(run, policy_version_R=np.zeros(320)), "staleness")  # one model was evaluated
    assert unknown(replace(run, policy_version_R=np.full(320, -1)), "staleness") == ("policy version",)


@pytest.mark.parametrize("updates", [1, 3])
def test_a_delay_that_every_rollout_shares_is_seen_in_the_first_steps(updates: int) -> None:
    run = made([4] * 40)  # ten steps
    ahead = updates * np.maximum(run.step_G - 1, 0)[run.group_R]
    finding = said(replace(run, policy_version_R=ahead), "staleness")
    assert value(finding, "rollouts behind the newest version, at least") == pytest.approx(0.9)
    assert value(finding, "lag") == pytest.approx(0.9 * updates)
    assert silent(replace(run, policy_version_R=updates * run.step_G[run.group_R]), "staleness")


def test_truncation_by_status() -> None:
    run = made([4] * 40, distribution_N=["long"] * 20 + ["short"] * 20, step_G=np.arange(40) % 10)
    status = np.where((np.arange(320) < 160) & (np.arange(320) % 4 == 0), Status.TRUNCATED, Status.OK)
    cut = replace(run, status_R=status, reward_R=np.where(status == Status.OK, run.reward_R, np.nan))
    finding = said(cut, "truncation")
    assert value(finding, "rollouts truncated (by status)") == pytest.approx(1 / 8)
    assert value(finding, "truncated in long") == pytest.approx(1 / 4)
    assert "They have no score" in finding.sentence
    assert silent(run, "truncation")


def test_truncation_by_a_pile_at_the_limit() -> None:
    run = made([4] * 40)
    length = np.random.default_rng(12).integers(40, 500, 320)
    length[run.reward_R == 0] = np.where(np.arange(160) % 2 == 0, 512, length[run.reward_R == 0])
    finding = said(replace(run, n_tokens_R=length), "truncation")
    assert value(finding, "rollouts truncated (inferred: a pile at 512 tokens)") == pytest.approx(0.25)
    assert value(finding, "score of truncated rollouts") == 0.0
    assert value(finding, "score of the others") == pytest.approx(160 / 240)
    assert finding.suggestions[0].setting == "rollout.sampling.max_tokens=1024"
    assert silent(replace(run, n_tokens_R=np.where(np.arange(320) % 2, 1, 2)), "truncation")  # answers of one or two tokens
    nothing = replace(run, n_tokens_R=np.full(320, -1), lacks=frozenset({"tokens", "status"}))
    assert unknown(nothing, "truncation") == ("tokens", "status")


def test_verifier_failures() -> None:
    run = made([4] * 60, distribution_N=["slow"] * 20 + ["quick"] * 40, step_G=np.arange(60) % 10)
    status = np.zeros(480, dtype=np.uint8)
    status[:160:8] = Status.TIMEOUT
    status[1:160:16] = Status.ERROR
    failing = replace(run, status_R=status, reward_R=np.where(status == 0, run.reward_R, np.nan))
    finding = said(failing, "verifier_failures")
    assert value(finding, "rollouts that failed") == pytest.approx(30 / 480)
    assert value(finding, "timeout") == pytest.approx(20 / 480)
    assert value(finding, "failed in slow") == pytest.approx(30 / 160)
    assert "deadline" in finding.suggestions[0].why
    assert silent(run, "verifier_failures")
    assert unknown(replace(run, lacks=frozenset({"status"})), "verifier_failures") == ("status",)


def test_reward_scale() -> None:
    run = made([4] * 40)
    assert silent(run, "reward_scale")
    narrow = said(replace(run, reward_R=0.5 + 0.01 * run.reward_R), "reward_scale")
    assert value(narrow, "groups with signal whose scores differ by 0.05 or less") == 1.0
    assert value(narrow, "different scores") == 2
    assert narrow.suggestions[0].setting == "learner.advantage=dr_grpo"
    wide = said(replace(run, reward_R=0.9 * run.reward_R), "reward_scale")
    assert value(wide, "groups with signal whose scores differ by 0.05 or less") == 0.0
    assert wide.severity == "low"
    same = said(made([8] * 40), "reward_scale")
    assert same.severity == "high"
    assert "Every one of the 320 scores is 1" in same.sentence


def test_logging_gaps() -> None:
    assert silent(made([4] * 8), "logging_gaps")
    finding = said(made([4] * 8, lacks=["propensity", "step"]), "logging_gaps")
    assert {suggestion.change for suggestion in finding.suggestions} == {"log the step", "log the propensity"}
    kept = replace(made([4] * 8), kept_G=np.full(8, 2, dtype=np.uint8))
    assert said(kept, "logging_gaps").suggestions[0].change == "log whether each group entered the update"


# ---------------------------------------------------------------------------------------------------------------- the whole


def many_runs() -> list[LoggedRun]:
    """Logs that make findings speak."""
    rate = np.random.default_rng(13).beta(0.5, 1.5, 40)
    return [
        made([0, 4, 8, 4] * 30),
        levels_run(8, 0),
        returning(40, rate, 14),
        made([4] * 40 + [8] * 40, prompt_G=np.arange(80) % 20),
        made([0] * 40, lacks=["rejected groups", "step", "status", "tokens", "policy version", "propensity"]),
        made([8] * 40),
        made([0] * 40, n=1),
    ]


@pytest.mark.parametrize("place", range(7))
def test_findings_come_by_severity_and_are_plain_json(place: int) -> None:
    run = many_runs()[place]
    findings = advise(run)
    order = ["high", "medium", "low", "not estimable"]
    places = [order.index(finding.severity) for finding in findings]
    assert places == sorted(places)
    assert {finding.name for finding in findings} <= set(known_findings())
    for finding in findings:
        plain = json.loads(json.dumps(as_plain(finding), allow_nan=False))
        assert set(plain) == {"name", "severity", "sentence", "evidence", "suggestions", "refuted_by", "lacks"}
        assert bool(plain["lacks"]) == (plain["severity"] == "not estimable")
        assert plain["refuted_by"] or plain["lacks"]
        assert plain["evidence"] or plain["lacks"]
        for number in plain["evidence"]:
            assert set(number) == {"name", "value", "unit", "low", "high", "n", "of", "kind"}
            if number["low"] is not None and number["high"] is not None:
                assert number["low"] <= number["value"] <= number["high"]


def test_the_same_run_gives_the_same_findings_whatever_was_asked_before() -> None:
    first, second = many_runs()[2], many_runs()[2]
    assert [advise(first, [name]) for name in known_findings()] == [advise(second, [name]) for name in known_findings()]


def test_an_empty_log_says_nothing_wrong() -> None:
    empty = replace(
        made([4]),
        **{name: np.zeros(0) for name in ("prompt_G", "step_G", "propensity_G", "arm_probability_G", "kept_G", "attempt_G")},
        **{name: np.zeros(0) for name in ("group_R", "reward_R", "status_R", "n_tokens_R", "policy_version_R")},
    )
    assert all(finding.severity == "not estimable" for finding in advise(empty))


def test_unknown_findings_are_refused() -> None:
    with pytest.raises(CurriculaError, match=r"staleness"):
        advise(made([4]), ["stalenes"])


def test_every_suggested_recipe_exists() -> None:
    named = set()
    for file in Path(replay.advise.findings.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "recipe" and isinstance(node.value, ast.Constant):
                named.add(node.value.value)
    assert {"dump_ucb", "uniform", "knapsack"} <= named <= set(RECIPES)
    with pytest.raises(CurriculaError, match="recipe"):
        Suggestion("because", recipe="dump_ubc")


def test_every_suggested_setting_fits_a_recipe() -> None:
    settings = {suggestion.setting for run in many_runs() for finding in advise(run) for suggestion in finding.suggestions} - {""}
    settings |= {
        f"rollout.verifier.deadline_s={30}",
        "run.mode=on_policy",
        "learner.importance_cap=2.0",
        "learner.advantage=dr_grpo",
    }
    settings |= {"rollout.sampling.max_tokens=1024"}
    for setting in settings:
        load_recipe(ROOT / "configs" / "quickstart_cpu.yaml", [setting])


def test_advice_agrees_with_what_our_own_evidence_says() -> None:
    """docs/choosing.md: the band loses everywhere, and dump_ucb alone ends above combined."""
    names = {suggestion.recipe for run in many_runs() for finding in advise(run) for suggestion in finding.suggestions}
    assert not names & {"difficulty_band", "combined"}
    text = (ROOT / "docs" / "choosing.md").read_text()
    assert all(f"`{name}`" in text for name in names - {""})


def test_doctests() -> None:
    for module in (replay.advise.finding, replay.advise.beta_model):
        assert doctest.testmod(module).failed == 0


# ---------------------------------------------------------------------------------------------------------------- real logs


def test_a_run_of_this_project(tmp_path: Path) -> None:
    """One rollout in fifty times out there, the filter keeps live groups, and levels set the pass rate."""
    run = load(made_run(tmp_path / "made", n_steps=40))
    findings = {finding.name: finding for finding in advise(run)}
    assert value(findings["verifier_failures"], "timeout") == pytest.approx(np.mean(run.status_R == Status.TIMEOUT))
    assert value(findings["filter_waste"], "rejected groups that had signal") == 0.0
    assert value(findings["filter_waste"], "groups kept") == run.kept_G.sum()
    assert recipes(findings["levels"]) == {"dump_ucb", "sec"}
    assert not {"staleness", "logging_gaps", "reward_scale"} & set(findings)


@needs_data
def test_a_log_of_verifiers(capsys: pytest.CaptureFixture[str]) -> None:
    path = DATA / "verifiers_evals" / "math_python_578769a7.results.jsonl"
    findings = {finding.name: finding for finding in advise(read(path))}
    assert value(findings["no_signal"], "groups without signal") == pytest.approx(0.8)
    assert findings["staleness"].lacks == ("policy version", "step")
    with pytest.raises(SystemExit) as end:
        main(["advise", str(path)])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "80.0 %" in shown
    assert "what this log cannot tell" in shown
    assert "docs/choosing.md" in shown


@needs_data
def test_a_log_of_nemo_gym_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    path = DATA / "nemo_gym" / "gpqa_diamond.example_rollouts.jsonl"
    with pytest.raises(SystemExit) as end:
        main(["advise", str(path), "--json", "--format", "{name: nemo_gym}"])
    assert end.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["groups"], told["rollouts"], told["clusters"]) == (5, 5, "prompts")
    assert set(told) == {
        *("source", "groups", "rollouts", "prompts", "distributions", "clusters", "confidence", "lacks", "claim", "findings")
    }
    assert {finding["name"] for finding in told["findings"]} >= {"reward_scale", "logging_gaps", "no_signal"}


@needs_data
def test_a_real_history_of_pass_rates() -> None:
    """605 prompts, about 50 visits of 8 rollouts. A visit stands for a step, which it was not; the log says so nowhere else."""
    history = json.loads((DATA / "one_shot_rlvr" / "accuracy_history.json").read_text())
    rows = [(visit, i, round(rate * N)) for i, rates in enumerate(history.values()) for visit, rate in enumerate(rates)]
    visit, prompt, k = np.array(sorted(rows)).T
    run = made(k, step_G=visit, prompt_G=prompt)
    findings = {finding.name: finding for finding in advise(run)}
    live = (k > 0) & (k < N)
    assert value(findings["no_signal"], "groups without signal") == pytest.approx(1 - live.mean())
    earlier, later = next_visits(run)
    told = findings["visits"]
    assert value(told, "live after a dead visit") == pytest.approx(live[later][~live[earlier]].mean())
    assert 1 - value(told, "live after a dead visit") == pytest.approx(0.767, abs=0.02)  # known of the whole file
    assert 1 - value(told, "live after a live visit") == pytest.approx(0.221, abs=0.02)
    assert recipes(told) == {"mopps", "greso"}
    assert value(findings["signal_over_time"], "change of the share all right") > 0.05
    assert "levels" not in findings
    assert findings["budgets"].severity in ("low", "medium")

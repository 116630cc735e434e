"""The scales that react to training: published vectors, torch and transformers as oracles, and what holds for every one of them."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.optimization import GreedyLR

from curricula.types import CurriculaError
from rollout.log import read_log
from tests.trainer.recipes import simulated
from trainer import checkpoint
from trainer.consumption import controller_metrics
from trainer.loop import run
from trainer.schedules import build_schedule
from trainer.schedules.build import known_controllers
from trainer.schedules.clock import Clock, Consumed
from trainer.schedules.controller import CONTROLLERS, Controller
from trainer.schedules.controllers.guard import Guard
from trainer.schedules.controllers.hypergradient import Hypergradient, additive, multiplicative
from trainer.schedules.controllers.plateau import Plateau
from trainer.schedules.controllers.volatility import Volatility, volatility_multiplier
from trainer.schedules.rate import RISE, LearningRate
from trainer.types import LearnerReport

HIGHEST = {  # of every metric that some controller reads, a value well beyond what is normal
    "clip_fraction": 0.5,
    "entropy": 4.0,
    "grad_norm": 50.0,
    "groups": 64.0,
    "held_out": 1.0,
    "informative_rollouts": 500.0,
    "informative_share": 1.0,
    "kl": 0.2,
    "mean_length": 4000.0,
    "mean_score": 1.0,
    "mismatch_mean": 0.2,
    "norm_sq": 9.0,
    "part_groups": 32.0,
    "part_norm_sq": 30.0,
    "update_cosine": 1.0,
}
QUICK: dict[str, dict[str, Any]] = {  # settings under which a history of a few dozen updates moves each of them
    "guard": {"hold": 3},
    "length_surge": {"first": 2, "ratio": 1.5, "stretch": 0.2},
    "plateau": {"patience": 1, "window": 2, "rises": True},
    "signal_to_noise": {"settle": 2},
    "volatility": {"window": 2, "least_share": 0.1},
}


def quick(name: str) -> Controller:
    return CONTROLLERS[name](**QUICK.get(name, {}))


def histories(seed: int, n: int) -> list[dict[str, float]]:
    """Metrics of n updates: some missing, some not numbers, some negative."""
    rng = np.random.default_rng(seed)
    return [
        {
            name: math.nan if rng.random() < 0.05 else float(most * rng.random() ** 2 * (-1 if rng.random() < 0.05 else 1))
            for name, most in HIGHEST.items()
            if rng.random() < 0.9
        }
        for _ in range(n)
    ]


def scales_of(controller: Controller, metrics_T: list[dict[str, float]]) -> list[float]:
    state, seen = controller.begin(), []
    for metrics in metrics_T:
        state = controller.observe(state, metrics)
        seen.append(controller.scale(state))
    return seen


# --- every controller


def test_histories_know_every_metric_and_move_every_scale() -> None:
    """What follows is not about scales that stay at 1."""
    moved = set()
    for name in known_controllers():
        for seed in range(5):
            moved |= {name} if min(scales_of(quick(name), histories(seed, 60))) < 1 else set()
    assert moved == set(known_controllers())


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", known_controllers())
@given(seed=st.integers(0, 2**32), n=st.integers(1, 60))
def test_scales_are_bounded_and_what_is_missing_holds_them(name: str, seed: int, n: int) -> None:
    controller = quick(name)
    state = controller.begin()
    assert controller.scale(state) == 1.0
    for metrics in histories(seed, n):
        before = state
        state = controller.observe(state, metrics)
        assert 0 < controller.scale(state) <= 1
        for nothing in ({}, {"unknown": 3.0}, dict.fromkeys(HIGHEST, math.nan)):
            assert controller.observe(state, nothing) == state
        assert controller.observe(before, metrics) == state  # nothing is remembered beside the state


@pytest.mark.parametrize("name", known_controllers())
def test_histories_in_a_state_are_bounded(name: str) -> None:
    controller, sizes = quick(name), []
    state = controller.begin()
    for metrics in histories(1, 300):
        state = controller.observe(state, metrics)
        sizes.append(sum(len(value) for value in state if isinstance(value, tuple)))
    assert max(sizes[150:]) == max(sizes[:150])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 60), st.data())
def test_all_scales_together_resume_to_the_last_bit_and_rise_slowly(seed: int, n: int, data: Any) -> None:
    """Cut anywhere, kept as JSON and by torch; evaluations come between updates."""
    cut, metrics_T = data.draw(st.integers(0, n)), histories(seed, n)

    def fresh() -> LearningRate:
        schedule = build_schedule({"name": "cosine", "peak": 1e-6, "warmup": 0.1}, 50)
        return LearningRate(schedule, Clock("updates", 50), {name: quick(name) for name in known_controllers()})

    def go(rate: LearningRate, start: int, stop: int) -> list[Any]:
        seen = []
        for step in range(start, stop):
            found = rate.explain()
            assert found.scale <= rate.state.scale * RISE or not rate.state.updates
            assert found.scale <= min(found.scales.values())
            assert (found.cause == "schedule") == (found.scale >= 1)
            seen.append(found)
            rate.advance(Consumed(), metrics=metrics_T[step])
            rate.observe({"held_out": float(step % 3)})
        return seen

    whole, first, second, third = fresh(), fresh(), fresh(), fresh()
    all_of_it, before = go(whole, 0, n), go(first, 0, cut)
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    third.load_state_dict(torch.load(file, weights_only=True))
    assert before + go(second, cut, n) == all_of_it == before + go(third, cut, n)
    assert second.state_dict() == third.state_dict() == whole.state_dict()


def test_a_state_of_another_version_of_a_controller_is_refused() -> None:
    rate = LearningRate(build_schedule({"name": "constant", "peak": 1.0}, 10), Clock("updates", 10), {"guard": Guard()})
    state = rate.state_dict() | {"controllers": {"guard": [1.0, 0, 0.0]}}
    with pytest.raises(CurriculaError, match=r"controller 'guard' has 3 numbers, expected 6 \(scale, clean, cause"):
        rate.load_state_dict(state)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("volatility", {"window": 1}),
        ("volatility", {"most": 1.0}),
        ("hypergradient", {"beta": 1.0}),
        ("plateau", {"factor": 1.0}),
        ("plateau", {"metric": "reward"}),
        ("guard", {"jump": 1.0}),
    ],
)
def test_settings_out_of_range_are_refused(name: str, bad: dict[str, Any]) -> None:
    known_controllers()
    with pytest.raises(CurriculaError, match=name):
        CONTROLLERS[name](**bad)


# --- volatility


def test_volatility_vectors() -> None:
    calmer = [0.10, 0.20, 0.28, 0.33, 0.40, 0.42, 0.45, 0.46, 0.47, 0.475]
    wilder = [0.40, 0.41, 0.40, 0.41, 0.40, 0.45, 0.38, 0.47, 0.36, 0.48]
    assert volatility_multiplier(calmer, 4, 0.5) == pytest.approx(2.563464, abs=5e-7)
    assert volatility_multiplier(wilder, 4, 0.5) == pytest.approx(0.830494, abs=5e-7)
    assert volatility_multiplier([0.3] * 9, 4) == 1.0
    assert volatility_multiplier([0.3, 0.4] + [0.5] * 7, 4) == math.inf


def test_restless_scores_lower_the_rate_and_calm_without_signal_does_not_raise_it() -> None:
    rng = np.random.default_rng(0)
    scores = [0.5 + 0.001 * rng.random() for _ in range(20)] + [0.5 + 0.3 * rng.random() for _ in range(20)] + [1.0] * 20
    saturated = [{"mean_score": score, "informative_share": 0.0 if i >= 40 else 0.6} for i, score in enumerate(scores)]
    calm = [{"mean_score": score, "informative_share": 0.6} for score in scores]
    guarded, unguarded = scales_of(Volatility(window=10), saturated), scales_of(Volatility(window=10), calm)
    assert guarded[19] > 0.9
    assert guarded[39] < 0.8 * guarded[19]
    assert guarded[-1] == guarded[49]
    assert unguarded[-1] > unguarded[49]


def test_mere_noise_costs_a_seventh_of_the_rate() -> None:
    rng = np.random.default_rng(0)
    noise = [{"mean_score": 0.5 + 0.05 * rng.standard_normal(), "informative_share": 0.6} for _ in range(20_000)]
    assert np.mean(scales_of(Volatility(), noise)) == pytest.approx(6 / 7, abs=0.03)


# --- hypergradient


def test_hypergradient_vectors() -> None:
    """x^2 / 2 from 1 on: gradients are x, cosines 1."""
    for following, expected in (
        (lambda rate, x, before: additive(rate, 0.01, x * before), [0.1, 0.109, 0.116217, 0.1219, 0.126311]),
        (lambda rate, x, before: multiplicative(rate, 0.02, 1.0), [0.1, 0.102, 0.10404, 0.106121, 0.108243]),
    ):
        x, rates = 1.0, [0.1]
        for _ in range(4):
            before, x = x, x - rates[-1] * x
            rates.append(following(rates[-1], x, before))
        assert rates == pytest.approx(expected, abs=6e-7)


def test_turning_back_lowers_the_rate_and_going_on_raises_it_again() -> None:
    back = scales_of(Hypergradient(beta=0.1), [{"update_cosine": -1.0}] * 20)
    assert back[:2] == pytest.approx([0.9, 0.81])
    assert back[-1] == 0.5
    there = scales_of(Hypergradient(beta=0.1), [{"update_cosine": -0.5}] + [{"update_cosine": 0.5}] * 3)
    assert there == pytest.approx([0.95, 0.9975, 1.0, 1.0])


def test_real_gradients_that_bounce_lower_the_rate_and_steady_ones_do_not() -> None:
    """Gradient descent on a valley with curvature 1: beyond 2 / 1 it bounces, below it glides."""
    for step, expected in ((1.9, 0.5), (0.1, 1.0)):
        x, before, cosines = 1.0, None, []
        for _ in range(60):
            update = -step * x
            if before is not None:
                cosines.append({"update_cosine": math.copysign(1.0, update * before)})
            x, before = x + update, update
        assert scales_of(Hypergradient(), cosines)[-1] == expected


# --- plateau


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-64, 64), min_size=1, max_size=80),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.integers(0, 5),
    st.sampled_from([0.0, 1 / 64, 0.25]),
)
def test_torch_has_the_same_plateaus(values: list[int], factor: float, patience: int, threshold: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor, patience, threshold, "abs", min_lr=0.05, eps=0.0)
    ours = Plateau(factor=factor, patience=patience, window=1, threshold=threshold, least=0.05)
    state = ours.begin()
    for value in values:
        state = ours.observe(state, {"mean_score": value / 64})
        oracle.step(value / 64)
        assert ours.scale(state) == optimizer.param_groups[0]["lr"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-64, 64), min_size=1, max_size=80), st.integers(0, 4), st.integers(1, 4))
def test_transformers_greedy_has_the_same_rises(values: list[int], patience: int, window: int) -> None:
    """With bounds that suit, which its own do not: test_other_libraries.py."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = GreedyLR(
        optimizer, "max", 0.5, patience, 0.0, min_lr=0.125, max_lr=1.0, eps=0.0, smooth=True, window_size=window, reset_start=10**9
    )
    ours = Plateau(factor=0.5, patience=patience, window=window, threshold=0.0, least=0.125, rises=True)
    state = ours.begin()
    for value in values:
        state = ours.observe(state, {"mean_score": value / 64})
        oracle.step(value / 64)
        assert ours.scale(state) == optimizer.param_groups[0]["lr"]


# --- guard

NORMAL = {"kl": 0.001, "clip_fraction": 0.01, "mismatch_mean": 0.01, "grad_norm": 1.0, "entropy": 1.0, "mean_length": 300.0}


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("kl", 0.2),
        ("clip_fraction", 0.5),
        ("mismatch_mean", 0.2),
        ("grad_norm", 1.5),
        ("grad_norm", math.inf),
        ("entropy", 0.4),
        ("entropy", 2.5),
        ("mean_length", 700.0),
    ],
)
def test_each_input_of_the_guard_trips_it_by_name(metric: str, value: float) -> None:
    rate = LearningRate(build_schedule({"name": "constant", "peak": 1.0}, 99), Clock("updates", 99), {"guard": Guard(hold=5)})
    for _ in range(10):
        rate.advance(Consumed(), metrics=NORMAL)
    assert rate.explain().cause == "schedule"
    rate.advance(Consumed(), metrics=NORMAL | {metric: value})
    assert (rate.explain().scale, rate.explain().cause) == (0.5, f"guard: {metric}")
    assert rate.metrics()[f"lr/held_by/guard/{metric}"] == 1.0
    for _ in range(4):
        rate.advance(Consumed(), metrics=NORMAL)
    assert rate.explain().scale == 0.5
    rate.advance(Consumed(), metrics=NORMAL)
    assert rate.explain().scale == pytest.approx(0.525)  # 0.55, were the rise of the scales as a whole not slow
    for _ in range(60):
        rate.advance(Consumed(), metrics=NORMAL)
    assert rate.explain().cause == "schedule"


def test_a_slow_change_is_no_trip_and_a_lasting_one_is_got_used_to() -> None:
    guard = Guard(hold=5, memory=0.8, least=0.1)
    slow = [{"entropy": 2.0 * 0.99**t, "mean_length": 100.0 * 1.01**t} for t in range(300)]
    assert min(scales_of(guard, slow)) == 1.0
    scales = scales_of(guard, [{"grad_norm": 1.0}] * 20 + [{"grad_norm": 3.0}] * 200)
    assert min(scales) < 1.0
    assert scales[-1] == 1.0


# --- in a run


def test_a_run_tells_the_scales_what_the_learner_reports_and_not_the_distance_to_the_reference() -> None:
    reported = {"kl": 9.0, "update_kl": 0.01, "entropy": 1.5, "mismatch_mean": 0.02, "clip_fraction": 0.1, "ratio_max": 3.0}
    report = LearnerReport(0.0, 0.7, 0.1, 10, 20, 0.0, reported)
    told = controller_metrics([], Consumed(rollouts=0.0), report)
    expected = {"informative_rollouts": 0.0, "updates": 1.0, "grad_norm": 0.7, "kl": 0.01, "entropy": 1.5, "mismatch_mean": 0.02}
    assert told == expected | {"clip_fraction": 0.1}


def test_evaluations_reach_the_rate_and_survive_a_resume(tmp_path: Any) -> None:
    schedule = {
        "name": "constant",
        "peak": 0.3,
        "controllers": {"plateau": {"metric": "held_out", "patience": 0, "threshold": 0.9}},
    }
    recipe = simulated(
        tmp_path / "run", schedule=schedule, run__n_steps=4, run__checkpoint_every=2, run__keep_checkpoints=9, evaluation__every=1
    )
    run(recipe)
    rates = [record["lr"] for record in read_log(recipe.folder / "log") if record["kind"] == "step"]
    assert rates == pytest.approx([0.3, 0.15, 0.075, 0.0375])
    state = checkpoint.valid_folders(recipe.folder / "checkpoints")[-1] / "manifest.json"
    assert json.loads(state.read_text())["facts"]["rate"]["controllers"]["plateau"][0] == 0.25
    (recipe.folder / "checkpoints" / "step-00000004").rename(tmp_path / "gone")
    run(recipe, resume=True)
    assert [record["lr"] for record in read_log(recipe.folder / "log") if record["kind"] == "step"] == rates


def test_a_plateau_of_evaluations_needs_some(tmp_path: Any) -> None:
    schedule = {"name": "constant", "peak": 0.3, "controllers": {"plateau": {"metric": "held_out"}}}
    with pytest.raises(CurriculaError, match=r"held_out needs evaluations while training, and evaluation\.every is 0"):
        simulated(tmp_path / "run", schedule=schedule, evaluation__every=0)

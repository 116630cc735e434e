"""The learning rate of a run: clocks, resume, extensions, decays, scales, and torch's interface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import get_scheduler

from curricula.types import CurriculaError
from trainer.schedules import build_schedule
from trainer.schedules.build import build_rate
from trainer.schedules.clock import UNITS, Clock, Consumed, Length, clock_of
from trainer.schedules.controller import STATISTIC_OF
from trainer.schedules.controllers.batch_coupling import BatchCoupling, Seen
from trainer.schedules.controllers.guard import Guard
from trainer.schedules.controllers.kl_adaptive import KlAdaptive
from trainer.schedules.controllers.length_surge import LengthSurge
from trainer.schedules.controllers.signal_to_noise import SignalToNoise
from trainer.schedules.engine_lr import EngineLR
from trainer.schedules.noise import norms_of
from trainer.schedules.rate import RISE, LearningRate
from trainer.settings import Statistic


def rate_of(
    name: str = "linear", horizon: float = 100, clock: Clock | None = None, controllers: Any = None, **more: Any
) -> LearningRate:
    clock = clock or Clock("updates", horizon)
    return LearningRate(build_schedule({"name": name, "peak": 1.0, **more}, horizon), clock, controllers)


def informative(n: float) -> Consumed:
    return Consumed(informative_rollouts=n)


# --- clocks


def test_the_information_clock_follows_information_and_not_steps() -> None:
    """A budget of 6,000 informative rollouts, 64, 48, 32, 16 per step: the step clock would end at next to nothing."""
    per_step = [64] * 20 + [48] * 20 + [32] * 40 + [16] * 80
    rate = rate_of(horizon=6000, clock=Clock("informative_rollouts", 6000))
    rates = []
    for n in per_step:
        rates.append(rate.lr(informative(n)))
        rate.advance(informative(n))
    assert [rates[t] for t in (0, 20, 40, 80, 159)] == pytest.approx([1, 0.787, 0.627, 0.413, 0.203], abs=5e-4)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=60))
def test_a_forecast_ends_where_the_run_ends_and_never_goes_back(came: list[int]) -> None:
    clock, rates = Clock("informative_rollouts", steps=len(came)), []
    state = clock.begin()
    for step, n in enumerate(came):
        rates.append(state.done)
        state = clock.advance(state, informative(n), len(came) - step - 1)
        assert 0 <= state.done <= 1
    assert (np.diff(rates) >= 0).all()
    assert state.done == pytest.approx(1.0) or came[-1] == 0


def test_equal_steps_make_the_forecast_a_clock_of_steps() -> None:
    clock = Clock("tokens", steps=40)
    state = clock.begin()
    for step in range(40):
        assert state.done == pytest.approx(step / 40)
        state = clock.advance(state, Consumed(tokens=512), 39 - step)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(0, 19), st.sampled_from(UNITS))
def test_half_advances_are_one_advance(came: list[int], at: int, unit: str) -> None:
    """Exactly, in every unit with a stated horizon. A forecast is told once per step, see below."""
    whole, halves = (rate_of("cosine", horizon=2000, clock=Clock(unit, 2000)) for _ in range(2))
    for i, n in enumerate(came):
        whole.advance(Consumed()._replace(**{unit: 2.0 * n}))
        for _ in range(2 if i == at else 1):
            halves.advance(Consumed()._replace(**{unit: float(n if i == at else 2 * n)}))
    assert whole.lr() == halves.lr()


def test_a_forecast_takes_two_halves_for_two_steps() -> None:
    """It forecasts from what a step brings, so that halves told apart, each as a step, move it less; it still ends with the run."""
    clock = Clock("informative_rollouts", steps=4)
    whole = clock.advance(clock.begin(), informative(100), steps_left=3)
    half = clock.advance(clock.begin(), informative(50), steps_left=3)
    halves = clock.advance(half, informative(50), steps_left=3)
    assert whole.done == 1 / 4
    assert halves.done == pytest.approx(1 - (3 / 4) ** 2)
    for state in (whole, halves):
        for left in (2, 1, 0):
            state = clock.advance(state, informative(100), left)
        assert state.done == pytest.approx(1.0)


def test_recipes_name_clocks() -> None:
    clock, rest = clock_of({"name": "linear", "peak": 1.0}, Length(50, 120))
    assert (clock, rest) == (Clock("updates", 120.0), {"name": "linear", "peak": 1.0})
    assert clock_of({"clock": "tokens", "horizon": 5e6}, Length(50, 50))[0] == Clock("tokens", 5e6)
    assert clock_of({"clock": "informative_rollouts"}, Length(50, 50))[0] == Clock("informative_rollouts", steps=50)
    for bad, message in (
        ({"clock": "token"}, "did you mean 'tokens'"),
        ({"horizon": 0}, "expected a number of updates above 0"),
        ({"horizon": "9"}, "got '9'"),
    ):
        with pytest.raises(CurriculaError, match=message):
            clock_of(bad, Length(50, 50))


# --- resume, extension, decay


@st.composite
def histories(draw: Any) -> Any:
    n = draw(st.integers(2, 60))
    return draw(st.lists(st.integers(0, 300), min_size=n, max_size=n)), draw(st.integers(1, n - 1)), draw(st.integers(0, n - 1))


@settings(max_examples=60, deadline=None)
@given(histories(), st.sampled_from(["linear", "cosine", "wsd", "rex", "infinite", "cyclical"]), st.booleans(), st.booleans())
def test_resume_is_the_run_that_never_stopped(history: Any, name: str, forecast: bool, decays: bool) -> None:
    """To the last bit, at any cut, with controllers, and with an extension or decay before or after the cut."""
    came, cut, change = history

    def fresh() -> LearningRate:
        clock = Clock("informative_rollouts", steps=len(came)) if forecast else Clock("informative_rollouts", 5000)
        scales = {"batch_coupling": BatchCoupling(), "signal_to_noise": SignalToNoise(settle=2), "guard": Guard(hold=3)}
        return LearningRate(build_schedule({"name": name, "peak": 3e-6, "warmup": 0.1}, 1.0 if forecast else 5000), clock, scales)

    def go(rate: LearningRate, start: int, stop: int) -> list[float]:
        rates = []
        for step in range(start, stop):
            if step == change and decays and rate.explain().multiplier > 0:
                rate.start_decay(100 if not forecast else 0.2)
            rates.append(rate.lr(informative(came[step])))
            norm = 1.0 + np.sin(step) ** 2
            metrics = {"informative_rollouts": came[step], "norm_sq": norm, "part_norm_sq": 3 * norm, "part_groups": 2, "groups": 8}
            rate.advance(informative(came[step]), len(came) - step - 1, {**metrics, "grad_norm": norm, "kl": 0.2 * (step % 7 == 3)})
        return rates

    whole = go(fresh(), 0, len(came))
    first = fresh()
    before = go(first, 0, cut)
    second = fresh()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + go(second, cut, len(came)) == whole


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["constant", "linear", "cosine", "polynomial", "rex", "uba", "wsd", "power"]),
    st.integers(5, 99),
    st.floats(1.1, 20.0),
)
def test_an_extension_never_changes_the_rate_of_the_moment(name: str, at: int, factor: float) -> None:
    rate = rate_of(name, warmup=5)
    for _ in range(at):
        rate.advance(Consumed())
    before = rate.lr()
    rate.extend(100 * factor)
    assert rate.lr() == pytest.approx(before, rel=1e-12)
    later = []
    for _ in range(int(100 * factor) - at):
        later.append(rate.lr())
        rate.advance(Consumed())
    assert (np.diff(later) <= 1e-12).all()


@settings(max_examples=60, deadline=None)
@given(
    histories(), st.sampled_from(["linear", "cosine", "wsd", "rex", "power", "cyclical"]), st.sampled_from(UNITS[1:]), st.booleans()
)
def test_nor_in_any_state_of_a_run(history: Any, name: str, unit: str, decays: bool) -> None:
    """In a warm-up, in a decay, with scales that hold it down, on every clock."""
    came, at, change = history
    rate = rate_of(name, 20_000, Clock(unit, 20_000), {"guard": Guard(hold=3)}, warmup=0.1)
    for step in range(at):
        if decays and step == change and rate.explain().multiplier > 0:
            rate.start_decay(50_000)
        rate.advance(Consumed()._replace(**{unit: float(came[step])}), metrics={"kl": 0.2 * (step % 5 == 3)})
    now = Consumed()._replace(**{unit: 0.0})
    before = rate.lr(now)
    if before > 0:
        rate.extend(20_000.0 + 1000 * (change + 1))
        assert rate.lr(now) == pytest.approx(before, rel=1e-12)


def test_an_extended_line_is_the_line_from_here_to_the_new_end() -> None:
    rate = rate_of()
    for _ in range(50):
        rate.advance(Consumed())
    rate.extend(250)
    for t in range(50, 250):
        assert rate.lr() == pytest.approx(0.5 * (250 - t) / 200)
        rate.advance(Consumed())


def test_transformers_jumps_where_we_do_not() -> None:
    """A state of 50 of 100 steps loaded into a schedule of 200: the rate of the next update leaps up; here it is refused."""

    def scheduler(steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return optimizer, get_scheduler("linear", optimizer, 10, steps)

    optimizer, theirs = scheduler(100)
    for _ in range(50):
        optimizer.step()
        theirs.step()
    optimizer, other = scheduler(200)
    other.load_state_dict(theirs.state_dict())
    held = other.get_last_lr()[0]
    optimizer.step()
    other.step()
    assert (held, other.get_last_lr()[0]) == pytest.approx((0.5556, 0.7842), abs=1e-4)
    ours = rate_of(warmup=10)
    with pytest.raises(CurriculaError, match="to change the horizon use extend"):
        rate_of(horizon=200, warmup=10).load_state_dict(ours.state_dict())


def test_a_decay_starts_from_the_rate_of_the_moment() -> None:
    rate = rate_of("constant", warmup=4)
    for _ in range(30):
        rate.advance(Consumed())
    rate.start_decay(10, "linear", floor=0.1)
    rates = []
    for _ in range(14):
        rates.append(rate.lr())
        rate.advance(Consumed())
    assert rates[:11] == pytest.approx([1 - 0.09 * i for i in range(11)])
    assert rates[10:] == pytest.approx([0.1] * 4)
    with pytest.raises(CurriculaError, match="up to the multiplier of the moment"):
        rate.start_decay(10, floor=0.5)


def test_what_is_no_extension_is_refused() -> None:
    rate = rate_of()
    with pytest.raises(CurriculaError, match="beyond 100 updates, got 100"):
        rate.extend(100)
    for _ in range(100):
        rate.advance(Consumed())
    assert rate.lr() == 0
    with pytest.raises(CurriculaError, match="nothing to stretch"):
        rate.extend(200)
    assert rate.lr() == 0


# --- scales


def test_scales_combine_by_the_smallest_rise_slowly_and_say_who_it_was() -> None:
    rate = rate_of("constant", controllers={"batch_coupling": BatchCoupling(reference=64), "kl_adaptive": KlAdaptive(target=0.01)})
    assert rate.explain().cause == "schedule"
    rate.advance(Consumed(), metrics={"informative_rollouts": 16, "kl": 0.01})
    held = rate.explain()
    assert (held.scale, held.cause, held.scales) == (0.5, "batch_coupling", {"batch_coupling": 0.5, "kl_adaptive": 1.0})
    rate.advance(Consumed(), metrics={"informative_rollouts": 64, "kl": 0.05})
    held = rate.explain()
    assert held.scale == pytest.approx(0.5 * RISE)
    assert held.cause == "kl_adaptive"
    for _ in range(40):
        before = rate.explain().scale
        rate.advance(Consumed(), metrics={"informative_rollouts": 64, "kl": 0.001})
        assert rate.explain().scale <= before * RISE + 1e-12
    assert rate.explain().cause == "schedule"


def test_coupling_vectors_and_its_oracle() -> None:
    coupling = BatchCoupling(reference=64, least=0.01)
    scales = [coupling.scale(coupling.observe(coupling.begin(), {"informative_rollouts": n})) for n in (8, 16, 32, 64, 128)]
    assert scales == pytest.approx([0.353553, 0.5, 0.707107, 1, 1], abs=1e-6)
    assert coupling.observe(coupling.begin(), {}) == coupling.begin()


def test_the_saturating_coupling_knows_when_more_rollouts_would_not_help() -> None:
    """Signal 1 and noise 8 per group of 8 rollouts: 64 rollouts' worth of noise."""
    coupling = BatchCoupling(reference=64, least=0.01, form="saturating")
    metrics = {**norms_of(1.0, 8.0, 32.0), "group_rollouts": 8.0}
    seen = [coupling.observe(coupling.begin(), {**metrics, "informative_rollouts": n}) for n in (8, 16, 32, 64, 128)]
    assert [coupling.scale(state) for state in seen] == pytest.approx([0.222222, 0.4, 0.666667, 1, 1], abs=1e-6)
    unmeasured = coupling.observe(coupling.begin(), {"informative_rollouts": 16})
    assert coupling.scale(unmeasured) == 1.0
    blind = coupling.observe(unmeasured, {**metrics, **norms_of(-0.1, 8.0, 32.0)})
    assert coupling.scale(blind) == pytest.approx(16 / 64)
    clear = coupling.observe(unmeasured, {**metrics, **norms_of(1e6, 8.0, 32.0)})
    assert coupling.scale(clear) == pytest.approx(1, abs=1e-4)
    halves = coupling.observe(unmeasured, {**metrics, "updates": 2.0, "group_rollouts": 4.0})
    assert coupling.scale(halves) == pytest.approx(coupling.scale(seen[1]))
    slow = coupling.observe(seen[1], {**metrics, **norms_of(2.0, 8.0, 32.0)})
    assert (slow.signal, slow.noise) == pytest.approx((1.1, 64.0))


@given(st.floats(-5, 5), st.floats(0.001, 1e4))
def test_the_saturating_coupling_is_inert_at_its_reference(signal: float, noise: float) -> None:
    coupling = BatchCoupling(reference=256, form="saturating")
    assert coupling.scale(Seen(256.0, signal, noise)) == pytest.approx(1)


def test_controllers_name_what_the_learner_has_to_make_for_them() -> None:
    def asked(**controllers: Any) -> frozenset[str]:
        named = {"name": "constant", "peak": 1.0, "controllers": controllers}
        return build_rate(named, Length(10, 10)).statistics

    assert asked() == asked(batch_coupling={}, length_surge={}, guard={}) == frozenset()
    assert asked(signal_to_noise={}) == asked(batch_coupling={"form": "saturating"}) == {"gradient_noise"}
    assert asked(signal_to_noise={}, kl_adaptive={}) == {"gradient_noise", "update_kl"}
    assert set(STATISTIC_OF.values()) == set(get_args(Statistic))


def test_signal_and_noise_are_found_in_one_pass_of_samples() -> None:
    """4,000 gradients of dimension 50, noise 2, mean 0.3: S = 50 x 0.09 = 4.5, N = 50 x 4 = 200."""
    controller, rng = SignalToNoise(memory=0.0, settle=1), np.random.default_rng(0)
    gradients = 0.3 + 2.0 * rng.standard_normal((4000, 50))
    parts = gradients.reshape(40, 100, 50).mean(axis=1)
    metrics = {
        "part_norm_sq": float((parts**2).sum(axis=1).mean()),
        "norm_sq": float((parts.mean(axis=0) ** 2).sum()),
        "part_groups": 100.0,
        "groups": 4000.0,
    }
    state = controller.observe(controller.begin(), metrics)
    assert state.signal == pytest.approx(4.5, rel=0.15)
    assert state.noise == pytest.approx(200, rel=0.15)
    assert [SignalToNoise.share(snr, 1.0, 1.0) for snr in (0.05, 0.25, 1, 4)] == pytest.approx([0.047619, 0.2, 0.5, 0.8], abs=1e-6)
    noisier = controller.observe(state, {**metrics, "part_norm_sq": 8 * metrics["part_norm_sq"]})
    assert controller.scale(state) == 1.0
    assert 0.25 <= controller.scale(noisier) < 1.0


def test_a_surge_of_lengths_halves_the_rate_step_by_step() -> None:
    controller = LengthSurge()
    state, scales = controller.begin(), {}
    for t in range(1, 1000):
        state = controller.observe(state, {"mean_length": 100.0 if t < 110 else 301.0})
        scales[t] = controller.scale(state)
    assert [scales[t] for t in (50, 307, 308, 506, 704, 902, 999)] == [1, 1, 0.5, 0.25, 0.125, 0.1, 0.1]


def test_kl_moves_the_scale_and_the_guard_brakes() -> None:
    controller = KlAdaptive(target=0.01, factor=2.0, least=0.25)
    state, seen = controller.begin(), []
    for kl in (0.03, 0.03, 0.03, 0.01, 0.004, float("nan"), 0.004):
        state = controller.observe(state, {"kl": kl})
        seen.append(state.scale)
    assert seen == [0.5, 0.25, 0.25, 0.25, 0.5, 0.5, 1.0]
    guard = Guard(hold=5)
    held = guard.begin()
    for _ in range(20):
        held = guard.observe(held, {"grad_norm": 1.0 + 0.01 * np.random.default_rng(0).random()})
    assert guard.scale(held) == 1.0
    held = guard.observe(held, {"grad_norm": 50.0})
    assert guard.scale(held) == 0.5
    for _ in range(5):
        held = guard.observe(held, {"grad_norm": 1.0})
    assert guard.scale(held) == pytest.approx(0.55)


# --- torch


def torch_rate(rate: LearningRate) -> tuple[torch.optim.Optimizer, EngineLR]:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = torch.optim.AdamW(groups)
    return optimizer, EngineLR(optimizer, rate)


def test_any_torch_loop_may_use_it_and_a_saved_state_is_plain(tmp_path: Path) -> None:
    """Saved at update 37 of 80 and read with weights_only: the rates are those of the run that never stopped."""

    def go(optimizer: torch.optim.Optimizer, scheduler: EngineLR, start: int, stop: int) -> list[list[float]]:
        seen = []
        for t in range(start, stop):
            seen.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.advance(informative(20 + t % 11), metrics={"kl": 0.001 * (t % 40)})
            scheduler.step()
        return seen

    def fresh() -> tuple[torch.optim.Optimizer, EngineLR]:
        clock = Clock("informative_rollouts", 2000)
        return torch_rate(rate_of("wsd", 2000, clock, {"kl_adaptive": KlAdaptive()}, warmup=100, decay=0.3))

    whole = go(*fresh(), 0, 80)
    optimizer, scheduler = fresh()
    before = go(optimizer, scheduler, 0, 37)
    torch.save({"scheduler": scheduler.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    optimizer, scheduler = fresh()
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    assert before + go(optimizer, scheduler, 37, 80) == whole
    assert all(small == pytest.approx(0.1 * large) for large, small in whole)


def test_a_host_that_only_steps_counts_updates() -> None:
    optimizer, scheduler = torch_rate(rate_of())
    rates = []
    for _ in range(4):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([1.0, 0.99, 0.98, 0.97])
    scheduler.extend(400)
    assert scheduler.explain().lr == pytest.approx(0.96)


def test_states_of_others_are_refused() -> None:
    rate = rate_of()
    for change, message in (
        ({"version": 9}, "expected a state of version 1, got 9"),
        ({"controllers": {"guard": []}}, r"has controllers \['guard'\]"),
    ):
        with pytest.raises(CurriculaError, match=message):
            rate.load_state_dict({**rate.state_dict(), **change})
    assert set(UNITS) == {"updates", "rollouts", "informative_rollouts", "tokens", "seconds"}

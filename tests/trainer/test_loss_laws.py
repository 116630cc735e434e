"""Laws of loss over schedules: published numbers, fits with their stated error, and schedules planned under them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from curricula.types import CurriculaError, Floats
from trainer.schedules import build_schedule
from trainer.schedules.laws.fit import LossCurve, fit_law, loss_curve
from trainer.schedules.laws.law import PUBLISHED, PUBLISHED_ERROR, AnnealingLaw, Law
from trainer.schedules.laws.path import path_of
from trainer.schedules.laws.plan import KNOTS, Stretch, plan

PEAK, N, WARMUP, DECAY_FROM = 3e-4, 24_000, 2_160, 20_000


def published_rates(name: str) -> Floats:
    """The schedules of the multi-power law's vectors: their warm-up begins at 0 and ends at the peak."""
    z = np.arange(N - WARMUP) / (N - WARMUP)
    late = np.clip((np.arange(WARMUP, N) - DECAY_FROM) / (N - DECAY_FROM), 0, 1)
    after = {
        "constant": np.ones_like(z),
        "cosine": 0.1 + 0.45 * (1 + np.cos(np.pi * z)),
        "linear": 1 - 0.9 * z,
        "to zero": 1 - z,
        "wsd, 1 - sqrt": 1 - 0.9 * np.sqrt(late),
        "wsd, geometric": 0.1**late,
        "wsd, linear": 1 - 0.9 * late,
    }
    return PEAK * np.concatenate([np.linspace(0, 1, WARMUP), after[name]])


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("constant", 3.345845),
        ("cosine", 3.315187),
        ("linear", 3.315857),
        ("to zero", 3.318755),
        ("wsd, 1 - sqrt", 3.266506),
        ("wsd, geometric", 3.266260),
        ("wsd, linear", 3.265385),
    ],
)
def test_the_multi_power_law_gives_the_published_losses(name: str, loss: float) -> None:
    assert PUBLISHED["25M"].losses(published_rates(name))[0] == pytest.approx(loss, abs=1.5e-6)


def test_increases_of_the_warmup_count() -> None:
    rates = published_rates("constant")
    without = PUBLISHED["25M"].along(path_of(rates, np.array([N - 1]))._replace(by_C=np.zeros(WARMUP - 1)))
    assert without[0] - PUBLISHED["25M"].losses(rates)[0] == pytest.approx(-0.108, abs=2e-3)  # B x peak, at full gain


def test_a_reduction_to_zero_brings_its_full_gain() -> None:
    law = PUBLISHED["25M"]
    stopped = np.append(np.full(100, PEAK), 0.0)
    assert law.losses(np.full(100, PEAK))[0] - law.losses(stopped)[0] == pytest.approx(law.drop * PEAK)
    assert np.isfinite(law.losses(np.append(stopped, np.zeros(50)), np.arange(150))).all()


@pytest.mark.parametrize(
    ("multipliers", "s2"),
    [
        (np.ones(1000), 0.0),
        (1 - np.arange(1000) / 1000, 90.0004),
        (0.5 + 0.5 * np.cos(np.pi * np.arange(1000) / 1000), 95.5267),
        (np.minimum(1, (1 - np.arange(1000) / 1000) / 0.2), 56.6990),
    ],
)
def test_areas_of_the_annealing_law(multipliers: Floats, s2: float) -> None:
    assert -AnnealingLaw(0.0, 0.0, 1.0, 1.0, 0.99).losses(multipliers)[0] == pytest.approx(s2, abs=6e-5)
    assert 1 / AnnealingLaw(0.0, 1.0, 1.0, 0.0, 0.99).losses(multipliers)[0] == pytest.approx(multipliers.sum())
    m = 0.0
    by_recursion = 0.0
    for before, now in pairwise(multipliers):
        m = 0.99 * m + before - now
        by_recursion += m
    assert by_recursion == pytest.approx(s2, abs=6e-5)


def test_portions_are_near_the_whole() -> None:
    for name in ("cosine", "to zero", "wsd, linear"):
        rates, at = published_rates(name), np.array([5_000, 21_000, N - 1])
        law = PUBLISHED["25M"]
        assert law.along(path_of(rates, at, 128)) == pytest.approx(law.losses(rates, at), abs=4e-4)


TRUTH: dict[str, Law] = {"multi-power": PUBLISHED["25M"], "annealing": AnnealingLaw(3.04, 0.52, 0.5, 4.0, 0.99)}
SEEN = {"constant": {}, "cosine": {}, "multistep": {"milestones": [0.5], "factor": 0.3}}


def rates_of(name: str, n: int = 4000, **more: object) -> Floats:
    schedule = build_schedule({"name": name, "peak": PEAK, "warmup": 200, **more}, n)
    return np.array([schedule.lr(t) for t in range(n)])


def noisy(law: Law, name: str, seed: int, noise: float = 1e-3) -> LossCurve:
    rates, at = rates_of(name, **SEEN[name]), np.arange(200, 4000, 80)
    rng = np.random.default_rng((seed, len(name)))
    return loss_curve(name, rates, at, law.losses(rates, at) * np.exp(noise * rng.standard_normal(len(at))))


@pytest.mark.parametrize("name", list(TRUTH))
def test_a_fit_foresees_a_new_schedule_within_its_stated_error(name: str) -> None:
    truth, new = TRUTH[name], rates_of("wsd", decay=0.2)
    fit = fit_law(type(truth), [noisy(truth, seen, 0) for seen in SEEN])
    assert 0.002 < fit.residual < 0.0045  # the noise is 1e-3 of a loss of 3.2 to 3.8
    assert abs(fit.law.losses(new)[0] - truth.losses(new)[0]) < fit.error < 0.02
    assert f"error on runs left out {fit.error:.4f}: constant" in str(fit)


def test_the_wrong_law_states_a_larger_error() -> None:
    errors = [fit_law(AnnealingLaw, [noisy(truth, seen, 0, noise=1e-5) for seen in SEEN]).error for truth in TRUTH.values()]
    assert errors[0] > 20 * errors[1]


def test_what_a_fit_refuses() -> None:
    curve = noisy(TRUTH["annealing"], "cosine", 0)
    with pytest.raises(CurriculaError, match="without a run to leave out no error can be stated"):
        fit_law(AnnealingLaw, [curve])
    with pytest.raises(CurriculaError, match="finite loss above 0"):
        loss_curve("a", curve.eta_T, [300, 400], [3.0, np.nan])
    with pytest.raises(CurriculaError, match="12 points or more after the warm-up, got 1"):
        loss_curve("a", curve.eta_T, [1, 2, 300], [3.0, 3.0, 3.0])
    with pytest.raises(CurriculaError, match="updates from 0 to 3999"):
        PUBLISHED["25M"].losses(curve.eta_T, [4000])
    with pytest.raises(CurriculaError, match="no rate above 0 up to update 0"):
        PUBLISHED["25M"].losses(published_rates("constant"), [0])


def test_slopes_of_the_planned_stretch() -> None:
    stretch = Stretch(PUBLISHED["25M"], PEAK, WARMUP, N)
    m_P = np.linspace(1, 0.2, KNOTS) ** 1.3
    slope_P = stretch.loss(m_P)[1]
    for j in (0, 1, 50, KNOTS - 1):
        e_P = 1e-6 * (np.arange(KNOTS) == j)
        assert slope_P[j] == pytest.approx((stretch.loss(m_P + e_P)[0] - stretch.loss(m_P - e_P)[0]) / 2e-6, rel=1e-5)


def test_a_plan_names_no_winner_within_the_error() -> None:
    found = plan(PUBLISHED["25M"], PUBLISHED_ERROR, PEAK, N, WARMUP)
    table = found.optimised.schedule["multipliers"]
    assert found.candidates[0] is found.optimised
    assert (np.diff(table) <= 0).all()
    assert table[0] == 1
    assert found.winner is None
    assert {one.schedule["name"] for one in found.untold} == {"table", "wsd"}
    assert "no winner: the law's error is 0.0122" in str(found)
    assert "worse by more than the error: cosine" in str(found)
    schedule = build_schedule(found.optimised.schedule, N)  # a recipe takes it
    losses = PUBLISHED["25M"].losses([schedule.lr(t) for t in range(N)])
    assert losses[0] == found.optimised.loss
    sure = replace(found, error=1e-4)  # were the law right to 1e-4, there would be one
    assert sure.winner is sure.optimised
    assert "ahead by more than the law's error" in str(sure)


def test_a_plan_keeps_above_the_floor() -> None:
    found = plan(PUBLISHED["400M"], 0.01, PEAK, 2000, 100, floor=0.3, usual=[{"name": "cosine"}, {"name": "constant"}])
    assert min(found.optimised.schedule["multipliers"]) >= 0.3
    assert found.optimised.loss < min(one.loss for one in found.candidates if one is not found.optimised)
    with pytest.raises(CurriculaError, match="error on runs left out"):
        plan(PUBLISHED["25M"], 0.0, PEAK, 100)

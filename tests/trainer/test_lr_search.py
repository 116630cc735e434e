"""The search for a rate on scores that are known, its Gaussian process, and the forecast of a loss."""

from __future__ import annotations

import numpy as np
import pytest

from curricula.types import CurriculaError
from trainer.lr.trials.forecast import forecast, without_outliers
from trainer.lr.trials.gaussian_process import Process
from trainer.lr.trials.held_out import Tried, effective_share, forecast_gains
from trainer.lr.trials.search import Terms, best_of, not_told_apart, search, table, verdict

TERMS = Terms(low=1e-6, high=1e-2, tries=12)


def world(noise: float, best: float = 3e-4, n_groups: int = 64):
    """A gain that is highest at ``best``, a KL that grows with the square of the rate; each group errs by itself, at every rate."""
    error_B = np.random.default_rng(0).normal(0, 1, n_groups)
    error_B -= error_B.mean()

    def attempt(lr: float) -> Tried:
        x = np.log10(lr / best)
        own_B = np.random.default_rng(int(1e9 * lr)).normal(0, noise, n_groups)
        return Tried(lr, 0.1 * np.exp(-2 * x**2) + 0.05 * error_B + own_B, kl=min(lr / 3e-2, 1.0) ** 2, ess=1.0)

    return attempt


def test_the_best_rate_is_found_below_what_the_guard_lets_through() -> None:
    tried = search(world(noise=0.002), TERMS)
    best = best_of(tried, TERMS)
    assert best is not None
    assert 1e-4 < best.lr < 9e-4
    assert len(tried) == 12
    assert sum(not TERMS.believes(each) for each in tried) <= 3, "what lies above a refused rate is not tried again"
    same = [each.lr for each in not_told_apart(tried, best, TERMS)]
    assert 1e-6 not in same
    said = verdict(tried, TERMS)
    assert "cannot tell" not in said
    assert "lower bound" not in said
    assert table(tried, TERMS).row_count == 12


def test_noise_is_called_noise() -> None:
    said = verdict(search(world(noise=2.0), TERMS), TERMS)
    assert "cannot tell" in said


def test_the_guard_is_named_where_it_chose() -> None:
    said = verdict(search(world(noise=0.001, best=5e-3), TERMS), TERMS)
    assert "the limit chose it" in said
    low = verdict([Tried(1e-6, np.ones(4), kl=0.5, ess=0.2)], TERMS)
    assert "go down with --low" in low


def test_settings_that_cannot_work_are_refused() -> None:
    for given, message in (
        ({"low": 1e-3, "high": 1e-4}, "0 < low < high"),
        ({"batches": 1}, "one judges the other"),
        ({"until": 50}, "a forecast needs --updates 5 or more"),
    ):
        with pytest.raises(CurriculaError, match=message):
            Terms(**given)


def test_the_process_equals_the_textbook_and_knows_its_errors() -> None:
    x, y, error = np.array([0.0, 0.3, 0.9]), np.array([1.0, 2.0, 0.5]), np.array([0.1, 0.3, 0.1])
    process = Process.of(x, y, error)
    at = np.linspace(0, 1, 7)

    def kernel(a, b):
        return process.height**2 * np.exp(-((a[:, None] - b[None]) ** 2) / (2 * process.length**2))

    inverse = np.linalg.inv(kernel(x, x) + np.diag(error**2 + 1e-9 * process.height**2))
    mean, spread = process.at(at)
    np.testing.assert_allclose(mean, y.mean() + kernel(at, x) @ inverse @ (y - y.mean()), rtol=1e-8)
    variance = process.height**2 - np.einsum("ij,jk,ik->i", kernel(at, x), inverse, kernel(at, x))
    np.testing.assert_allclose(spread, np.sqrt(variance), rtol=1e-5)
    flat = Process.of([0.0, 1.0], [2.0, 2.0], [0.1, 0.1])
    assert flat.at([0.5])[0] == pytest.approx(2.0)
    with pytest.raises(CurriculaError, match="one finite score"):
        Process.of([0.0], [np.nan], [0.1])


def test_its_intervals_hold_what_they_promise() -> None:
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1, 8)
    hits = []
    for _ in range(25):
        truth = Process.of([0.0, 1.0], [1.0, 0.0], [0.1, 0.1]).at(x)[0] + np.sin(3 * x + rng.uniform(0, 6))
        mean, error = Process.of(x, truth + rng.normal(0, 0.2, 8), np.full(8, 0.2)).at(x)
        hits.append(np.abs(mean - truth) < 2 * error)
    assert 0.85 < np.mean(hits) <= 1.0


def test_a_forecast_of_a_noisy_loss_with_outliers() -> None:
    t = np.arange(120)
    truth = 1.5 * np.exp(-0.03 * t) + 0.7
    loss = truth + np.random.default_rng(2).normal(0, 0.02, 120)
    loss[[20, 60, 100]] += np.array([3.0, -2.0, 4.0])
    kept = without_outliers(loss)
    assert not kept[[20, 60, 100]].any()
    assert kept.sum() >= 60
    fitted = forecast(loss)
    assert fitted.b < 0
    assert float(fitted.at(1200)) == pytest.approx(0.7, abs=0.05)
    spoiled = forecast(loss, rounds=0)
    assert abs(float(spoiled.at(0)) - 2.2) > abs(float(fitted.at(0)) - 2.2)
    with pytest.raises(CurriculaError, match="5 finite losses"):
        forecast([1.0, 0.5, np.nan, 0.2, 0.1])


def test_a_forecast_gain_is_the_curves_end_with_an_error_by_groups() -> None:
    steps = np.arange(1, 11)[:, None]
    height_B = np.random.default_rng(3).uniform(0.5, 1.5, 12)
    gain_UB = height_B * (1 - np.exp(-0.2 * steps))
    value_B = forecast_gains(gain_UB, until=100)
    assert value_B.mean() == pytest.approx(height_B.mean(), rel=1e-3)
    assert np.corrcoef(value_B, height_B)[0, 1] > 0.99
    assert effective_share(np.array([2.0, 2.0, 2.0])) == pytest.approx(1.0)

"""Refined schedules and the convex bound, against published numbers."""

from __future__ import annotations

import numpy as np
import pytest

from curricula.types import CurriculaError
from trainer.schedules import build_schedule
from trainer.schedules.convex_bound import convex_bound, transferred_peak
from trainer.schedules.refine import refined, smoothed


def multipliers(name: str, n: int, **more: object) -> np.ndarray:
    schedule = build_schedule({"name": name, "peak": 1.0, **more}, n)
    return np.array([schedule.multiplier(t) for t in range(n)])


@pytest.mark.parametrize(
    ("name", "more", "at_400", "at_1600"),
    [
        ("linear", {}, (0.049563, 0.100630), (0.024934, 0.050101)),
        ("rex", {}, (0.039979, 0.101687), (0.020132, 0.050561)),
        ("cosine", {"floor": 0.0}, (0.048242, 0.103386), (0.024233, 0.051551)),
        ("wsd", {"decay": 0.2}, (0.026846, 0.107288), (0.013525, 0.053301)),
        ("wsd", {"decay": 0.2, "shape": "linear"}, (0.025374, 0.109323), (0.012805, 0.054213)),
        ("constant", {}, (0.018176, 0.137545), (0.008354, 0.074811)),
    ],
)
def test_bound_and_best_peak(name: str, more: dict[str, object], at_400: tuple[float, float], at_1600: tuple[float, float]) -> None:
    for n, expected in ((400, at_400), (1600, at_1600)):
        assert tuple(convex_bound(multipliers(name, n, **more))) == pytest.approx(expected, rel=2e-4)


def test_a_peak_moves_with_schedule_and_horizon() -> None:
    assert transferred_peak(1.0, multipliers("linear", 400), multipliers("linear", 1600)) == pytest.approx(0.503, abs=1e-3)
    for share, ratio in ((0.05, 0.4179), (0.1, 0.4566), (0.4, 0.6067)):
        decayed = multipliers("wsd", 400, decay=share, shape="linear")
        assert transferred_peak(1.0, multipliers("linear", 400), decayed) == pytest.approx(ratio, rel=2e-3)


def test_norms_change_the_bound() -> None:
    line = multipliers("linear", 400)
    assert convex_bound(line, np.full(400, 2.0)).peak == pytest.approx(convex_bound(line).peak / 2)
    with pytest.raises(CurriculaError, match="as many gradient norms"):
        convex_bound(line, np.ones(3))
    with pytest.raises(CurriculaError, match="not all 0"):
        convex_bound(np.zeros(9))


def test_refined_vectors() -> None:
    assert refined([4, 2, 1, 1, 1], "sgd") == pytest.approx([0.101562, 0.375, 1, 0.5, 0], abs=6e-7)
    assert refined([4, 2, 1, 1, 1], "adam") == pytest.approx([0.4375, 0.75, 1, 0.5, 0])
    assert refined(np.full(5, 3.0)) == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    with pytest.raises(CurriculaError, match="finite and above 0"):
        refined([1.0, np.nan, 1.0])


def test_a_refined_schedule_is_kept_as_a_table_and_stretches() -> None:
    norms = smoothed(np.linspace(2.0, 1.0, 200) + 0.05 * np.random.default_rng(0).standard_normal(200))
    table = build_schedule({"name": "table", "peak": 1.0, "multipliers": refined(norms).tolist()}, 1000)
    line = build_schedule({"name": "linear", "peak": 1.0}, 1000)
    assert table.lr(1000) == 0
    assert 0.02 < np.mean([table.lr(t) - line.lr(t) for t in range(0, 1000, 50)]) < 0.3  # falling norms: more later


def test_medians_take_out_what_is_single() -> None:
    norms = np.ones(100)
    norms[[10, 50, 51]] = 100.0, np.inf, np.nan
    norms[[0, 99]] = 1e6
    assert smoothed(norms).tolist() == [1.0] * 100
    with pytest.raises(CurriculaError, match="six norms or more"):
        smoothed([1.0, 2.0])

"""Filters against section 4.8 of the specification, and at their edges."""

from math import comb

import numpy as np
import pytest

from curricula import CurriculaError, Reason, Refill, build
from curricula.filter.difficulty_band import DifficultyBand
from curricula.filter.keep_all import KeepAll
from curricula.filter.nonzero_variance import NonZeroVariance


def accepted(band, n):
    return [k for k in range(n + 1) if band.inside(np.array([k / n]), np.array([n]))[0]]


def acceptance(band, n, p):
    return sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in accepted(band, n))


@pytest.mark.parametrize(
    ("p", "dapo", "closed", "open_"),
    [
        (0.1, 0.814698, 0.068406, 0.017004),
        (0.25, 0.989977, 0.595009, 0.369776),
        (0.75, 0.989977, 0.595009, 0.369776),
        (0.5, 0.999969, 0.978729, 0.923187),
        (0.05, 0.559873, 0.007004, 0.000857),
    ],
)
def test_acceptance_of_16_rollouts(p, dapo, closed, open_):
    assert acceptance(DifficultyBand(0, 1, closed=False), 16, p) == pytest.approx(dapo, abs=1e-6)
    assert acceptance(DifficultyBand(0.25, 0.75), 16, p) == pytest.approx(closed, abs=1e-6)
    assert acceptance(DifficultyBand(0.3, 0.7, closed=False), 16, p) == pytest.approx(open_, abs=1e-6)


@pytest.mark.parametrize(
    ("band", "n", "ks"),
    [
        (DifficultyBand(0.2, 0.8, closed=False), 16, range(4, 13)),
        (DifficultyBand(0.25, 0.75), 16, range(4, 13)),
        (DifficultyBand(0.3, 0.7, closed=False), 4, [2]),
        (DifficultyBand(0.3, 0.7, closed=False), 8, [3, 4, 5]),
        (DifficultyBand(0.25, 0.75), 8, range(2, 7)),
        (DifficultyBand(0.3, 0.7), 10, range(3, 8)),
        (DifficultyBand(0.3, 0.7, closed=False), 10, range(4, 7)),
        (DifficultyBand(0.125, 0.75), 8, range(1, 7)),  # skewed to the hard side
        (DifficultyBand(0.4, 0.6), 3, [1, 2]),  # no pass rate of three rollouts lies inside: the neighbours count
        (DifficultyBand(0.3, 0.7), 2, [1]),
    ],
)
def test_accepted_counts(band, n, ks):
    assert accepted(band, n) == list(ks)


def test_listed_groups_of_the_spec(groups):
    outcome = groups([[1] * k + [0] * (16 - k) for k in (0, 2, 4, 8, 12, 14, 16)])
    verdict = DifficultyBand(0.25, 0.75).judge(None, None, outcome)
    assert verdict.kept_B.tolist() == [False, False, True, True, True, False, False]
    assert [Reason(r).name for r in verdict.reason_B[[0, 1, 5, 6]]] == ["TOO_HARD", "TOO_HARD", "TOO_EASY", "TOO_EASY"]
    assert verdict.refill is Refill.RESAMPLE
    assert (verdict.carries_gradient_R == np.repeat(verdict.kept_B, 16)).all()


@pytest.mark.parametrize("policy", [KeepAll(), NonZeroVariance(), DifficultyBand()])
def test_groups_without_two_scored_rollouts_are_too_few(policy, groups):
    verdict = policy.judge(None, None, groups([[1, None], [None, None], [1, 0, None]]))
    assert [Reason(r) for r in verdict.reason_B] == [Reason.TOO_FEW, Reason.TOO_FEW, Reason.KEPT]
    assert verdict.carries_gradient_R.tolist() == [False] * 4 + [True, True, False]


def test_equal_rewards_and_near_ties(groups):
    outcome = groups([[1, 1], [0.5, 0.5], [0.5, 0.5 + 1e-9], [0.5, 0.6]])
    verdict = NonZeroVariance().judge(None, None, outcome)
    assert [Reason(r) for r in verdict.reason_B] == [Reason.ALL_EQUAL] * 3 + [Reason.KEPT]
    assert KeepAll().judge(None, None, outcome).kept_B.all()
    inside = DifficultyBand().judge(None, None, outcome)
    assert [Reason(r) for r in inside.reason_B] == [Reason.TOO_EASY, Reason.ALL_EQUAL, Reason.KEPT, Reason.KEPT]


def test_raw_rewards_are_judged_on_their_declared_range(groups):
    verdict = DifficultyBand().judge(None, None, groups([[-3, 3], [-3, -2.9]], reward_range=(-3.0, 3.0)))
    assert [Reason(r) for r in verdict.reason_B] == [Reason.KEPT, Reason.TOO_HARD]


def test_refill_can_be_switched_off(groups):
    policy = build("filter", {"name": "nonzero_variance", "refill": "none"})
    assert policy.judge(None, None, groups([[1, 1]])).refill is Refill.NONE


@pytest.mark.parametrize("bad", [{"low": 0.7, "high": 0.3}, {"low": -0.1}, {"high": 1.5}, {"refill": "sometimes"}])
def test_bad_bands_are_refused(bad):
    with pytest.raises(CurriculaError, match="expected"):
        build("filter", {"name": "difficulty_band", **bad})

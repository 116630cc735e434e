"""How many groups a refill asks for: GRESO's top-up, the rule without a margin, and the filter that carries one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from curricula.recipes import read
from curricula.refill import refill_size, wanted_groups
from curricula.registry import build
from curricula.types import CurriculaError, Reason, Refill, Verdict


def verdict(n_kept: int, n_groups: int, refill: Refill = Refill.RESAMPLE, margin: float = 1.0) -> Verdict:
    kept_B = np.arange(n_groups) < n_kept
    return Verdict(kept_B, np.where(kept_B, Reason.KEPT, Reason.ALL_EQUAL), np.zeros(0), refill, refill_margin=margin)


def test_fixture_greso_top_up():
    assert refill_size(100, 1 - 0.6, margin=1.25) == 312
    assert wanted_groups([verdict(40, 100, margin=1.25)], 140) == 312


@pytest.mark.parametrize("n_missing", [1, 2, 7, 64, 311])
@pytest.mark.parametrize("acceptance", [0.0, 0.1, 0.3, 0.55, 1.0])
def test_without_a_margin_what_the_acceptance_asks_for(n_missing, acceptance):
    plain = math.ceil(n_missing / max(acceptance, 0.25))
    assert refill_size(n_missing, acceptance) == plain
    assert plain <= refill_size(n_missing, acceptance, margin=1.25) <= 1.25 * plain


def test_attempts_of_a_step_count_together():
    assert wanted_groups([verdict(4, 12)], 12) == 24
    assert wanted_groups([verdict(4, 12), verdict(6, 18)], 12) == 6
    assert wanted_groups([verdict(4, 12), verdict(6, 18, margin=2.0)], 12) == 12
    assert wanted_groups([verdict(0, 12)], 12) == 48
    assert wanted_groups([verdict(12, 12)], 12) == wanted_groups([verdict(14, 20)], 12) == 0
    assert wanted_groups([verdict(4, 12, Refill.NONE, margin=2.0)], 12) == 0


def test_the_filter_carries_the_margin_and_changes_nothing_else(groups):
    outcome = groups([[0, 1], [1, 1], [0, 0, 1]])
    plain, topped = (build("filter", name).judge(None, None, outcome) for name in ("nonzero_variance", "top_up"))
    assert (plain.refill_margin, topped.refill_margin) == (1.0, 1.25)
    assert (topped.refill, topped.kept_B.tolist()) == (Refill.RESAMPLE, [True, False, True])
    assert topped.reason_B.tolist() == plain.reason_B.tolist()
    stages, _ = read("greso")
    assert stages.filter.judge(None, None, outcome).refill_margin == 1.25


def test_the_inner_filter_learns():
    from curricula.testing import small_pool

    band = build("filter", {"name": "top_up", "inner": "auto_band", "margin": 2})
    assert type(band.init(small_pool())) is type(build("filter", "auto_band").init(small_pool()))


@pytest.mark.parametrize("margin", [0.5, float("nan"), float("inf")])
def test_bad_margins_are_refused(margin):
    with pytest.raises(CurriculaError, match=r"top_up.margin: expected a factor in 1..100"):
        build("filter", {"name": "top_up", "margin": margin})
    with pytest.raises(CurriculaError, match="refill_margin must be finite and >= 1"):
        verdict(1, 2, margin=margin)

"""From reasons per group to a verdict: what every filter has in common."""

from __future__ import annotations

import numpy as np

from curricula.groups import n_scored, pass_rates, score_spreads
from curricula.types import Bools, Codes, Outcome, Reason, Refill, Verdict

REFILL = {"resample": Refill.RESAMPLE, "none": Refill.NONE}  # as written in recipes


def verdict(outcome: Outcome, reason_B: Codes, refill: Refill) -> Verdict:
    """The verdict with these reasons, after groups with fewer than two scored rollouts are turned to TOO_FEW."""
    reason_B = np.where(n_scored(outcome) < 2, np.uint8(Reason.TOO_FEW), reason_B)
    kept_B = reason_B == Reason.KEPT
    return Verdict(kept_B, reason_B, kept_B[outcome.group_R] & outcome.ok_R, refill)


def by_side(outcome: Outcome, good_B: Bools) -> Codes:
    """(B,) KEPT where good; else all equal, or too easy or too hard by the side of 1/2 on which the pass rate lies."""
    side_B = np.where(pass_rates(outcome) > 0.5, Reason.TOO_EASY, Reason.TOO_HARD)
    reason_B = np.where(score_spreads(outcome) > 0, side_B, Reason.ALL_EQUAL)
    return np.where(good_B, Reason.KEPT, reason_B).astype(np.uint8)

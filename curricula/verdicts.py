"""From reasons per group to a verdict: what every filter has in common."""

from __future__ import annotations

import numpy as np

from curricula.groups import n_scored
from curricula.types import Codes, Outcome, Reason, Refill, Verdict

REFILL = {"resample": Refill.RESAMPLE, "none": Refill.NONE}  # as written in recipes


def verdict(outcome: Outcome, reason_B: Codes, refill: Refill) -> Verdict:
    """The verdict with these reasons, after groups with fewer than two scored rollouts are turned to TOO_FEW."""
    reason_B = np.where(n_scored(outcome) < 2, np.uint8(Reason.TOO_FEW), reason_B)
    kept_B = reason_B == Reason.KEPT
    return Verdict(kept_B, reason_B, kept_B[outcome.group_R] & outcome.ok_R, refill)

"""How many groups replace those that a filter turned down."""

from __future__ import annotations

import math
from collections.abc import Sequence

from curricula.types import Refill, Verdict

LEAST_ACCEPTANCE = 0.25  # a refill counts on at least this share being kept: four groups per missing one, times the margin


def refill_size(n_missing: int, acceptance: float, margin: float = 1.0) -> int:
    """Groups to ask for when ``n_missing`` are missing and this share of groups is kept.

    The whole part of margin x missing / acceptance, as GRESO tops up (arXiv 2506.02177; its margin is 1.25), and never less than
    missing / acceptance rounded up, which a margin of 1 asks for. GRESO clips to [64, its sampling size]; here the share counts as
    0.25 at least, and the host's cap on rollouts bounds the rest.

    >>> refill_size(100, 0.4, margin=1.25), refill_size(100, 0.4), refill_size(1, 0.0)
    (312, 250, 4)
    """
    expected = n_missing / max(acceptance, LEAST_ACCEPTANCE)
    return max(int(margin * expected), math.ceil(expected))


def wanted_groups(verdicts: Sequence[Verdict], n_groups: int) -> int:
    """Groups that the next attempt of a step of ``n_groups`` asks for, after these verdicts; 0 where nothing is to be replaced."""
    n_kept = sum(int(verdict.kept_B.sum()) for verdict in verdicts)
    n_judged = sum(len(verdict.kept_B) for verdict in verdicts)
    last = verdicts[-1]
    if last.refill is Refill.NONE or n_kept >= n_groups:
        return 0
    return refill_size(n_groups - n_kept, n_kept / max(n_judged, 1), last.refill_margin)

"""What a static order of prompts goes by: one column of their features, or their stated pass rate."""

from __future__ import annotations

import numpy as np

from curricula.types import CurriculaError, Floats, Ints, PromptPool

PRIOR = -1  # as a column: the stated pass rate


def refuse_missing_column(pool: PromptPool, column: int, policy: str) -> None:
    """CurriculaError where the pool has no such feature column, or not a number in it."""
    if column == PRIOR:
        return
    shape = None if pool.features_NF is None else pool.features_NF.shape
    if shape is None or len(shape) != 2 or not 0 <= column < shape[1]:
        have = "no features" if shape is None else f"features of shape {shape}"
        raise CurriculaError(
            f"{policy}.column: expected a feature column of the pool, got {column}, and the pool has {have}; "
            "give the pool features, or set column to -1 for the prior pass rate"
        )
    if not np.isfinite(column_of(pool, column)).all():
        raise CurriculaError(f"{policy}.column: feature column {column} holds numbers that are not finite; repair the features")


def column_of(pool: PromptPool, column: int, prompt_B: Ints | slice = slice(None)) -> Floats:
    """(B,) the feature of these prompts, or their stated pass rate (NaN = unknown)."""
    if column == PRIOR or pool.features_NF is None:  # refuse_missing_column was asked first
        return pool.prior_pass_rate_N[prompt_B]
    return np.asarray(pool.features_NF[prompt_B, column], dtype=np.float64)


def rank_shares(value_N: Floats) -> Floats:
    """(N,) the share of the known prompts that come before each, largest value first; equals share a place, NaN is in the middle.

    >>> rank_shares(np.array([9.0, 5.0, 5.0, 1.0, np.nan]))
    array([0.   , 0.375, 0.375, 0.75 , 0.5  ])
    """
    known_N = ~np.isnan(value_N)
    share_N = np.full(len(value_N), 0.5)
    if known_N.any():
        _, place, count = np.unique(-value_N[known_N], return_inverse=True, return_counts=True)
        first = np.cumsum(count) - count
        share_N[known_N] = (first + (count - 1) / 2)[place] / known_N.sum()
    return share_N

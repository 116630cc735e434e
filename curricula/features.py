"""Static features of prompts, and how near prompts are to each other.

A pool without features has one per distribution: 1 for the prompt's own, 0 for the others. Beliefs that learn from features then
learn one pass rate per distribution.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from curricula.growth import distribution_in
from curricula.types import CurriculaError, Floats, Ints, PromptPool

CHUNK = 16_384  # prompts at a time, so that asking for a whole pool needs little memory
SAMPLE = 512  # prompts behind the median distance


def width(pool: PromptPool, policy: str) -> int:
    """Number of features. Errors: CurriculaError, naming the policy, where they are no finite (N, F) numbers."""
    if pool.features_NF is None:
        return pool.n_distributions
    if pool.features_NF.ndim != 2 or pool.features_NF.shape[1] == 0 or not np.isfinite(pool.features_NF).all():
        raise CurriculaError(
            f"{policy}: expected the pool's features to be finite numbers of shape (N, F), got shape {pool.features_NF.shape}"
            "; repair them, or leave them out and the distribution stands in"
        )
    return int(pool.features_NF.shape[1])


def rows(pool: PromptPool, prompt_B: Ints) -> Floats:
    """(B, F) features of these prompts."""
    if pool.features_NF is None:
        return np.eye(pool.n_distributions)[pool.distribution_N[prompt_B]]
    return np.asarray(pool.features_NF[prompt_B], dtype=np.float64)


def each(pool: PromptPool, prompt_B: Ints, answer: Callable[[Floats], Floats]) -> Floats:
    """(B, ...) what ``answer`` says to the features of every prompt; asked once per distribution where that is all there is."""
    if pool.features_NF is None:
        return answer(np.eye(pool.n_distributions))[pool.distribution_N[prompt_B]]
    return np.concatenate([answer(rows(pool, prompt_B[start : start + CHUNK])) for start in range(0, max(1, len(prompt_B)), CHUNK)])


def columns_in(old: PromptPool, new: PromptPool) -> Ints:
    """(F_old,) the column of every old feature in a grown pool. Errors: CurriculaError when the features are others."""
    if old.features_NF is None and new.features_NF is None:
        return distribution_in(old, new)
    shapes = [None if pool.features_NF is None else pool.features_NF.shape[1:] for pool in (old, new)]
    if shapes[0] != shapes[1]:
        raise CurriculaError(
            f"growing pool: features of a prompt had shape {shapes[0]} and now have {shapes[1]}; keep their number"
        )
    return np.arange(width(new, "growing pool"))


def squared_distances(x_BF: Floats, y_WF: Floats) -> Floats:
    """(B, W)"""
    product_BW = x_BF @ y_WF.T
    distance_BW: Floats = (x_BF**2).sum(1)[:, None] + (y_WF**2).sum(1) - 2.0 * product_BW
    return np.maximum(distance_BW, 0.0)


def likeness(x_BF: Floats, y_WF: Floats, scale: float) -> Floats:
    """(B, W) exp(-distance^2 / (2 scale^2)): 1 for equal features, near 0 beyond a few scales."""
    alike_BW: Floats = np.exp(squared_distances(x_BF, y_WF) / (-2.0 * scale * scale))
    return alike_BW


def median_distance(pool: PromptPool) -> float:
    """Between two prompts with other features, over up to 512 prompts evenly spread along the ids; 1 where all are alike.

    >>> median_distance(PromptPool.from_columns("abc", "xxx", features=[[0.0], [1.0], [4.0]]))
    3.0
    """
    if pool.features_NF is None:
        return float(np.sqrt(2.0)) if pool.n_distributions > 1 else 1.0
    by_name = np.concatenate([pool.members(k) for k in pool.name_order_K])
    x_BF = rows(pool, by_name[np.unique(np.linspace(0, len(pool) - 1, SAMPLE).astype(np.int64))])
    squared_BB = squared_distances(x_BF, x_BF)
    apart = squared_BB[squared_BB > 1e-12 * max(1.0, float(squared_BB.max()))]
    return float(np.sqrt(np.median(apart))) if len(apart) else 1.0

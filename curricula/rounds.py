"""Budgets that look before they spend: first a few rollouts for every group, then more where these showed something.

The first round leaves the rest of the plan's budget unspent, and `extend` deals it out. The outcome that `extend` sees holds all
rounds so far. A group that the first round could not serve stays without rollouts: its prompt is for another plan.
"""

from __future__ import annotations

import numpy as np

from curricula.groups import n_scored, scored
from curricula.types import Bools, Floats, Ints, Outcome, PromptPool, Selection


def pilots(pool: PromptPool, selection: Selection, n_each: int, n_rollouts: int) -> Ints:
    """(B,) ``n_each`` rollouts for every group; fewer, but two at least, where the budget does not reach; then the lowest ids.

    >>> pool = PromptPool.from_columns("abc", "xxx")
    >>> selection = Selection([2, 0, 1], [0, 0, 0], [1, 1, 1])
    >>> [pilots(pool, selection, 4, n).tolist() for n in (30, 10, 5)]
    [[4, 4, 4], [3, 4, 3], [0, 3, 2]]
    """
    n_B = np.zeros(len(selection), dtype=np.int64)
    served = by_id(pool, selection)[: n_rollouts // 2]
    n_B[served] = 2
    n_B += dealt(pool, selection, np.where(n_B > 0, n_each - 2, 0), n_rollouts - 2 * len(served))
    return n_B


def dealt(pool: PromptPool, selection: Selection, wanted_B: Ints, n_rollouts: int) -> Ints:
    """(B,) the rollouts that are wanted; where the budget does not reach, the same for all that want so many, then the lowest ids.

    >>> pool = PromptPool.from_columns("abc", "xxx")
    >>> dealt(pool, Selection([0, 1, 2], [0, 0, 0], [1, 1, 1]), np.array([8, 1, 8]), 10)
    array([5, 1, 4])
    """
    if wanted_B.sum() <= n_rollouts:
        return wanted_B
    width = int(wanted_B.max())
    at_level = np.cumsum(
        np.cumsum(np.bincount(wanted_B, minlength=width + 1)[::-1])[::-1][1:]
    )  # spent when all get up to 1, 2, ...
    level = int(np.searchsorted(at_level, n_rollouts, side="right"))
    n_B: Ints = np.minimum(wanted_B, level)
    order = by_id(pool, selection)
    hungry = order[wanted_B[order] > level]
    n_B[hungry[: n_rollouts - int(n_B.sum())]] += 1
    return n_B


def ranked(pool: PromptPool, selection: Selection, score_B: Floats) -> Ints:
    """(B,) places of the groups by falling score; of equals, the lower prompt id first."""
    order = by_id(pool, selection)
    best_first: Ints = order[np.argsort(-score_B[order], kind="stable")]
    return best_first


def by_id(pool: PromptPool, selection: Selection) -> Ints:
    """(B,) places of the groups by ascending prompt id."""
    return np.argsort(pool.ids[selection.prompt_B]).astype(np.int64)


def piloted(outcome: Outcome) -> Bools:
    """(B,) groups that an earlier round served: only these may get more."""
    served_B: Bools = outcome.plan.n_rollouts_B > 0
    return served_B


def tally(outcome: Outcome, threshold: float | None = None) -> tuple[Floats, Floats]:
    """(B,) successes and (B,) failures so far: summed scores, or scores above the threshold; unscored rollouts are neither."""
    score, group = scored(outcome)
    value = score if threshold is None else (score > threshold).astype(np.float64)
    success_B = np.bincount(group, weights=value, minlength=len(outcome.plan)).astype(np.float64)
    return success_B, n_scored(outcome) - success_B

"""What each distribution gave in the newest steps in which it was seen: the memory of policies that look at trends."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from curricula.types import Floats, Ints

EMPTY = -1  # the step of a place that holds nothing


class History(NamedTuple):
    """Sums and counts by step. A distribution keeps its newest W steps, in no particular order."""

    step_KW: Ints  # (K, W) the step of each place; -1 = empty
    sum_KW: Floats  # (K, W) sum of the values of that step
    n_KW: Floats  # (K, W) how many values
    newest: Ints  # () the newest step learned from; -1 before the first


def no_history(n_distributions: int, window: int) -> History:
    """Nothing seen yet."""
    shape = (n_distributions, window)
    return History(np.full(shape, EMPTY, np.int64), np.zeros(shape), np.zeros(shape), np.array(EMPTY, np.int64))


def noted(history: History, step: int, value: Floats, arm: Ints) -> History:
    """The history with the finite values of one step; steps may come late or in parts. Arrays are reused.

    What a full history keeps is its newest steps, whatever the order in which they came.

    >>> seen = noted(no_history(2, 3), 0, np.array([1.0, 0.0, np.nan]), np.array([0, 0, 1]))
    >>> means_by_step(seen)[0].round(2), seen.n_KW.sum(axis=1)
    (array([0.5, nan, nan]), array([2., 0.]))
    """
    has = np.isfinite(value)
    n_K = np.bincount(arm[has], minlength=len(history.n_KW)).astype(np.float64)
    sum_K = np.bincount(arm[has], weights=value[has], minlength=len(n_K))
    seen = np.flatnonzero(n_K)
    same = history.step_KW[seen] == step
    place = np.where(same.any(axis=1), same.argmax(axis=1), history.step_KW[seen].argmin(axis=1))
    held = history.step_KW[seen, place]
    goes_in = held <= step
    seen, place, is_new = seen[goes_in], place[goes_in], (held < step)[goes_in]
    at = seen, place
    history.step_KW[at] = step
    history.sum_KW[at] = np.where(is_new, 0.0, history.sum_KW[at]) + sum_K[seen]
    history.n_KW[at] = np.where(is_new, 0.0, history.n_KW[at]) + n_K[seen]
    return history._replace(newest=np.maximum(history.newest, step))


def means_by_step(history: History) -> Floats:
    """(K, W) mean value of each step; NaN where a place is empty."""
    with np.errstate(invalid="ignore"):
        return history.sum_KW / history.n_KW


def slopes(x_KW: Floats, y_KW: Floats) -> Floats:
    """(K,) least-squares slope of y over x, row by row, over the finite pairs; 0 where fewer than two different x are known.

    >>> slopes(np.array([[0.0, 1.0, 2.0], [5.0, np.nan, np.nan]]), np.array([[1.0, 3.0, 5.0], [1.0, np.nan, np.nan]]))
    array([2., 0.])
    """
    known_KW = np.isfinite(x_KW) & np.isfinite(y_KW)
    n_K1 = np.maximum(known_KW.sum(axis=1, keepdims=True), 1)
    x_KW, y_KW = (np.where(known_KW, value, 0.0) for value in (x_KW, y_KW))
    dx_KW = np.where(known_KW, x_KW - x_KW.sum(axis=1, keepdims=True) / n_K1, 0.0)
    dy_KW = np.where(known_KW, y_KW - y_KW.sum(axis=1, keepdims=True) / n_K1, 0.0)
    square_K = (dx_KW * dx_KW).sum(axis=1)
    slope_K: Floats = np.where(square_K > 0, (dx_KW * dy_KW).sum(axis=1) / np.where(square_K > 0, square_K, 1.0), 0.0)
    return slope_K


def window_of(history: History, window: int) -> History:
    """Only the last ``window`` steps by the calendar of the run; other places count as empty."""
    inside_KW = (history.step_KW > int(history.newest) - window) & (history.n_KW > 0)
    return History(
        np.where(inside_KW, history.step_KW, EMPTY),
        np.where(inside_KW, history.sum_KW, 0.0),
        np.where(inside_KW, history.n_KW, 0.0),
        history.newest,
    )


def pooled_means(history: History) -> Floats:
    """(K,) mean over all values held; NaN where a distribution has none."""
    with np.errstate(invalid="ignore"):
        mean_K: Floats = history.sum_KW.sum(axis=1) / history.n_KW.sum(axis=1)
    return mean_K

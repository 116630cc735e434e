"""A run's rates as the laws read them: their sums, and where they changed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from curricula.types import CurriculaError, Floats, Ints


class Path(NamedTuple):
    """Updates at which the loss is asked (``_M``) against changes of the rate (``_C``)."""

    total_M: Floats  # S1: sum of the rates up to and with the update
    by_C: Floats  # rate before - rate after; below 0 in a warm-up
    eta_C: Floats  # rate after the change
    since_MC: Floats  # sum of the rates from the change to the update; 0 for changes to come
    n_MC: Ints  # their number


def path_of(eta_T: Floats, at_M: Ints, most: int = 0) -> Path:
    """The rates of a run. With ``most`` neighbouring changes are put together, in portions of equal reduction, until about so many
    are left: the Multi-Power Law of 24,000 updates in 128 portions is less than 4e-4 off.
    """
    sum_T = eta_T.cumsum()
    by_T = -np.diff(eta_T)
    change_C = np.flatnonzero(by_T)
    by_C = by_T[change_C]
    if 0 < most < len(change_C):
        change_C, by_C = _portions(change_C, by_C, most)
    open_MC = change_C < at_M[:, None]
    since_MC = np.where(open_MC, sum_T[at_M][:, None] - sum_T[change_C], 0.0)
    return Path(sum_T[at_M], by_C, eta_T[change_C + 1], since_MC, np.where(open_MC, at_M[:, None] - change_C, 0))


def checked_rates(eta_T: ArrayLike) -> Floats:
    """Errors: CurriculaError unless they are finite, not below 0 and not all 0."""
    found = np.asarray(eta_T, dtype=np.float64)
    if found.ndim != 1 or not (len(found) and np.isfinite(found).all() and (found >= 0).all() and found.sum() > 0):
        raise CurriculaError("loss law: expected the learning rate of every update: finite numbers >= 0, not all 0")
    return found


def checked_updates(at_M: ArrayLike | None, eta_T: Floats) -> Ints:
    """Positions in the run; the last one where nothing is asked. Errors: CurriculaError for updates that the run has not."""
    found = np.array([len(eta_T) - 1] if at_M is None else at_M, dtype=np.int64)
    if found.ndim != 1 or not len(found) or found.min() < 0 or found.max() >= len(eta_T):
        raise CurriculaError(
            f"loss law: expected updates from 0 to {len(eta_T) - 1}, the last with a rate; got {found[:8].tolist()}"
        )
    if not eta_T[: found.min() + 1].any():
        raise CurriculaError(f"loss law: no rate above 0 up to update {found.min()}; ask for later ones")
    return found


def _portions(change_C: Ints, by_C: Floats, most: int) -> tuple[Ints, Floats]:
    """Each stands where half of its reduction is done; increases and decreases are kept apart."""
    size_C = np.abs(by_C)
    done_C = size_C.cumsum()
    turn_C = np.concatenate([[0], np.cumsum(np.diff(np.sign(by_C)) != 0)])
    part_C = np.minimum(((done_C - size_C / 2) / done_C[-1] * most).astype(np.int64), most - 1) + turn_C * most
    first_P = np.flatnonzero(np.diff(part_C, prepend=-1))
    by_P = np.add.reduceat(by_C, first_P)
    middle_P = done_C[first_P] - size_C[first_P] + np.abs(by_P) / 2
    return change_C[np.minimum(np.searchsorted(done_C, middle_P), len(change_C) - 1)], by_P

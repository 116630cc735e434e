"""Dose: at which learning rate the rollouts of each distribution were learned from.

The rate is the implicit weight of a datum. AdamW's weights are theta <- (1 - lr wd) theta - lr u, so an update u of step t
stands in the final weights with lr_t times what later decays left of it (arXiv 2502.15938). A curriculum that sends a distribution
late, while the schedule decays, trains on it less than its share of the rollouts says (arXiv 2511.18903).
"""

from __future__ import annotations

import numpy as np

from curricula.types import CurriculaError, Floats, Ints


def doses(lr_T: Floats, n_TK: Floats | Ints, weight_decay: float = 0.0, updates_T: Ints | None = None) -> Floats:
    """(K,) dose_k = sum_t lr_t n_tk prod_{j > t} (1 - lr_j wd), in rate x rollouts.

    ``n_TK``: rollouts of step t and distribution k that carried gradient. ``updates_T``: optimiser updates of each step, 1 by
    default; the rollouts of a step are dealt to its updates alike. A step of 0 updates gives no dose.

    >>> doses(np.array([1.0, 0.5]), np.array([[8, 0], [0, 8]])).tolist()
    [8.0, 4.0]

    Errors: CurriculaError for shapes that do not fit, and rates or counts that are negative or not finite.
    """
    lr_T, n_TK = np.asarray(lr_T, dtype=np.float64), np.asarray(n_TK, dtype=np.float64)
    updates_T = np.ones(len(lr_T), np.int64) if updates_T is None else updates_T
    if n_TK.ndim != 2 or not len(lr_T) == len(n_TK) == len(updates_T):
        raise CurriculaError(
            f"doses: expected a rate, a row of counts and a number of updates per step; got shapes {lr_T.shape}, {n_TK.shape} and "
            f"{np.shape(updates_T)}"
        )
    for name, values in (("rates", lr_T), ("counts", n_TK), ("weight decay", np.array(weight_decay))):
        if not (np.isfinite(values) & (values >= 0)).all():
            raise CurriculaError(f"doses: expected finite {name} >= 0, got {values[~(values >= 0)] if values.ndim else values}")
    dose_K = np.zeros(n_TK.shape[1])
    for lr, n_K, updates in zip(lr_T, n_TK, updates_T, strict=True):
        dose_K = after_step(dose_K, float(lr), n_K, weight_decay, int(updates))
    return dose_K


def after_step(dose_K: Floats, lr: float, n_K: Floats, weight_decay: float = 0.0, updates: int = 1) -> Floats:
    """(K,) the doses after one more step: what came before decays with the weights, the new rollouts come on top."""
    left = (1.0 - lr * weight_decay) ** np.arange(updates + 1)  # after 0, 1, ... further updates
    came = float(left[:-1].mean()) if updates else 0.0  # of the step's own rollouts, those of its first update decay longest
    return np.asarray(dose_K * left[-1] + lr * np.asarray(n_K) * came)

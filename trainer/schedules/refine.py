"""The schedule that a run's own gradient norms ask for, for the next run. arXiv 2310.07831."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from curricula.types import CurriculaError, Floats

Form = Literal["sgd", "adam"]


def refined(norm_T: ArrayLike, form: Form = "adam") -> Floats:
    """(T,) multipliers w_t x (sum of w after t), over their maximum; w is 1 / g^2 for SGD (l2 norms) and 1 / g for Adam (l1 norms).

    Norms before clipping, above 0, as of `smoothed`. Constant norms give the straight line to 0. The peak has to be tuned anew, or
    transferred by `convex_bound`. Keep it as the schedule ``table``.

    >>> refined([4.0, 2.0, 1.0, 1.0, 1.0], "sgd").round(6)
    array([0.101562, 0.375   , 1.      , 0.5     , 0.      ])
    """
    norm_T = np.asarray(norm_T, dtype=np.float64)
    if norm_T.ndim != 1 or len(norm_T) < 2 or not (np.isfinite(norm_T).all() and (norm_T > 0).all()):
        raise CurriculaError("refined: expected two or more gradient norms, finite and above 0; smooth them first")
    weight_T = norm_T ** (-2.0 if form == "sgd" else -1.0)
    weight_T = weight_T / weight_T.max()
    after_T = weight_T[::-1].cumsum()[::-1] - weight_T
    found_T: Floats = weight_T * np.maximum(after_T, 0.0)
    found_T[-1] = 0.0
    return np.asarray(found_T / found_T.max())


def smoothed(norm_T: ArrayLike, share: float = 0.1) -> Floats:
    """(T,) running medians over a ``share`` of the run, of what is left without the first and last two norms and those not finite.

    The window is odd; beyond the beginning stands the first norm, beyond the end the norms come back in reverse.

    >>> smoothed([9.0, 9.0, 2.0, 1.0, 1.0, 1.0, 1.0, 9.0, 9.0], share=0.34)
    array([2. , 1.5, 1. , 1. , 1. , 1. , 1. , 1. , 1. ])
    """
    norm_T = np.asarray(norm_T, dtype=np.float64)
    if not 0 < share < 1 or len(norm_T) < 6:
        raise CurriculaError(f"smoothed: expected six norms or more and a share between 0 and 1, got {len(norm_T)} and {share}")
    at = np.arange(len(norm_T))
    good = np.isfinite(norm_T) & (at >= 2) & (at < len(norm_T) - 2)
    if good.sum() < 2:
        raise CurriculaError("smoothed: expected two finite norms or more between the first and the last two")
    whole = np.interp(np.linspace(at[good][0], at[good][-1], len(norm_T)), at[good], norm_T[good])
    half = int(share * len(norm_T)) // 2
    padded = np.concatenate([np.full(half, whole[0]), np.pad(whole, (0, half), "reflect")])
    medians: Floats = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    return medians

"""Weights over the last checkpoints of a stable phase, oldest first: an average instead of a decay.

All are >= 0 and add up to 1 within 1e-15.
"""

from __future__ import annotations

import math

import numpy as np

from curricula.types import CurriculaError, Floats, known_or_raise
from trainer.schedules.cool_downs import COOL_DOWNS, NEED_A_FLOOR


def uniform(n: int) -> Floats:
    """(n,) 1 / n each: the simple moving average.

    >>> uniform(4)
    array([0.25, 0.25, 0.25, 0.25])
    """
    _require_checkpoints(n)
    return np.full(n, 1.0 / n)


def ema(n: int, alpha: float = 0.2) -> Floats:
    """(n,) of the average that begins at the oldest checkpoint and moves by ``alpha`` towards each later one.

    M <- alpha M_i + (1 - alpha) M, so the oldest keeps (1 - alpha)^(n - 1), which for a small alpha is the most of all. The setting
    of arXiv 2511.18903 is six checkpoints and 0.2; that its recursion begins at the oldest one is our reading.

    >>> ema(6).round(5)
    array([0.32768, 0.08192, 0.1024 , 0.128  , 0.16   , 0.2    ])
    """
    _require_checkpoints(n)
    if not 0 < alpha <= 1:
        raise CurriculaError(f"ema: expected an alpha above 0 and at most 1, got {alpha}")
    return np.array([(alpha if i else 1.0) * (1 - alpha) ** (n - 1 - i) for i in range(n)])


def as_decay(n: int, shape: str = "linear", floor: float = 0.0) -> Floats:
    """(n,) weights with which the updates between the checkpoints count as in a decay of the learning rate. arXiv 2507.17634.

    The average is M_0 + sum over i of w_i (M_i - M_{i-1}) with w_i the sum of the weights from i on; here w_i = d(i / n), d the
    cool-down. So what was learned between checkpoints i - 1 and i enters as if its rate had been d(i / n) of the constant one: a
    decay in n - 1 stairs that begins at the oldest checkpoint.

    It *is* the end of that decayed run, exactly, when the directions of the updates are the same in both runs and only the rate
    scales them: a fixed sequence of gradients, no weight decay, and an optimiser whose direction does not depend on the rate (SGD,
    with momentum too, and Adam). In training the gradients of a decayed run differ as its weights do, so there it is an
    approximation.

    >>> as_decay(5).round(6), as_decay(5, "one_minus_sqrt").round(6)
    (array([0.2, 0.2, 0.2, 0.2, 0.2]), array([0.447214, 0.185242, 0.142141, 0.119831, 0.105573]))
    """
    _require_checkpoints(n)
    known_or_raise("shape of decay", shape, list(COOL_DOWNS))
    if not 0 <= floor <= 1 or (shape in NEED_A_FLOOR and floor == 0):
        raise CurriculaError(
            f"as_decay: expected a floor in [0, 1] (shapes {', '.join(NEED_A_FLOOR)}: above 0), got {floor} with shape {shape!r}"
        )
    from_here_on = np.array([1.0, *(COOL_DOWNS[shape](i / n, floor) for i in range(1, n)), 0.0])
    never_up = np.minimum.accumulate(from_here_on)  # rounding may lift the shape by an ulp
    return np.asarray(never_up[:-1] - never_up[1:])


def require_weights(weights: Floats, n: int) -> None:
    """CurriculaError unless these are weights for an average of ``n`` checkpoints."""
    if weights.shape != (n,) or not (np.isfinite(weights).all() and (weights >= 0).all()) or abs(math.fsum(weights) - 1) > 1e-12:
        raise CurriculaError(f"average: expected {n} weights >= 0 that add up to 1, got {weights.tolist()}")


def _require_checkpoints(n: int) -> None:
    if n < 1:
        raise CurriculaError(f"average: expected one checkpoint at least, got {n}")

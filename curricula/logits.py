"""Pass rates on the scale where difficulties add: logit(p) = log(p / (1 - p)), and back.

>>> sigmoid(logit(np.array([0.2, 0.5])))
array([0.2, 0.5])
"""

from __future__ import annotations

import numpy as np

from curricula.types import Floats


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def logit(rate: Floats) -> Floats:
    """log(p / (1 - p)) of pass rates strictly between 0 and 1."""
    return np.log(rate / (1.0 - rate))

"""The ways from full rate to the floor: functions of x, 0 at the start of the decay and 1 at its end."""

from __future__ import annotations

import math
from collections.abc import Callable

from trainer.schedules.shape import above


def _half_cosine(x: float) -> float:
    return (1 + math.cos(math.pi * x)) / 2


COOL_DOWNS: dict[str, Callable[[float, float], float]] = {  # (x, floor) -> multiplier, 1 at x = 0 and the floor at x = 1
    "linear": lambda x, floor: above(floor, 1 - x),
    "one_minus_sqrt": lambda x, floor: above(floor, 1 - math.sqrt(x)),  # arXiv 2405.18392
    "one_minus_square": lambda x, floor: above(floor, 1 - x * x),
    "cosine": lambda x, floor: above(floor, _half_cosine(x)),
    "geometric": lambda x, floor: floor**x,  # arXiv 2503.12811; needs a floor
    "inverse": lambda x, floor: 1.0 / (x / floor + 1 - x),  # linear in 1 / rate, arXiv 2410.05192; needs a floor
}
NEED_A_FLOOR = ("geometric", "inverse")

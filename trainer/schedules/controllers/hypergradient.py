"""The rate follows whether updates agree with each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from curricula.types import CurriculaError
from trainer.schedules.controller import register


class Agreed(NamedTuple):
    """The scale."""

    scale: float


def additive(rate: float, beta: float, product: float) -> float:
    """rate + beta <g_t, g_(t-1)>: hypergradient descent of SGD, arXiv 1703.04782.

    It needs a beta of the gradients' own size, which at rates of 1e-6 nobody knows; kept for comparison.
    """
    return rate + beta * product


def multiplicative(rate: float, beta: float, cosine: float) -> float:
    """rate (1 + beta cos(g_t, direction_(t-1))): the form without a scale of its own.

    >>> round(multiplicative(0.1, 0.02, 1.0), 6)
    0.102
    """
    return rate * (1.0 + beta * cosine)


@register("hypergradient")
@dataclass(frozen=True)
class Hypergradient:
    """Lower while an update turns back on the one before it, higher again while they point the same way; in [least, 1].

    Metric ``update_cosine``, from -1 to 1: of a step's gradient with the direction of the step before, each a whole batch of
    rollouts, whose own updates belong together. The multiplicative form of hypergradient descent (arXiv 1703.04782), with rounds
    as in FedHyper (arXiv 2310.03156). Both may raise the rate too; here the schedule is the highest.
    """

    needs: ClassVar[tuple[str, ...]] = ("update_cosine",)
    beta: float = 0.02
    least: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.beta < 1 and 0 < self.least <= 1):
            raise CurriculaError(f"hypergradient: expected beta in (0, 1) and least in (0, 1], got {self}")

    def begin(self) -> Agreed:
        return Agreed(1.0)

    def observe(self, state: Agreed, metrics: Mapping[str, float]) -> Agreed:
        cosine = metrics.get("update_cosine", math.nan)
        if not math.isfinite(cosine):
            return state
        return Agreed(min(max(multiplicative(state.scale, self.beta, min(max(cosine, -1.0), 1.0)), self.least), 1.0))

    def scale(self, state: Agreed) -> float:
        return state.scale

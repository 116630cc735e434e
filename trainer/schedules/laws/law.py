"""The two laws of loss over a schedule: L = L0 + A S1^-alpha - what reducing the rate brought."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from curricula.types import Floats
from trainer.schedules.laws.path import Path, checked_rates, checked_updates, path_of

ROWS = 64  # updates at a time: 24,000 changes x 64 are 12 MB


@dataclass(frozen=True)
class Law(ABC):
    """What both have. Loss in nats; the constants are of one model, data set, batch size and peak."""

    floor: float  # L0
    scale: float  # A
    alpha: float
    drop: float  # what a reduction of the rate brings

    def losses(self, eta_T: ArrayLike, at_M: ArrayLike | None = None) -> Floats:
        """(M,) the loss after the updates ``at_M`` (0 = the first; default: the last), with rates ``eta_T`` from the first on."""
        rates_T = checked_rates(eta_T)
        asked_M = checked_updates(at_M, rates_T)
        rows = (asked_M[i : i + ROWS] for i in range(0, len(asked_M), ROWS))
        return np.concatenate([self.along(path_of(rates_T, some_M)) for some_M in rows])

    def along(self, path: Path) -> Floats:
        """The same for rates that were taken apart."""
        return np.asarray(self.floor + self.scale * path.total_M**-self.alpha - self.drop * (self.gain_MC(path) @ path.by_C))

    @abstractmethod
    def gain_MC(self, path: Path) -> Floats:
        """What each change brings per unit of reduction, 0 for those to come."""

    @abstractmethod
    def numbers(self) -> Floats:
        """The constants as real numbers without bounds, in the order of the fields."""

    @classmethod
    @abstractmethod
    def of_numbers(cls, x: Floats) -> Law:
        """Back from there."""

    @classmethod
    @abstractmethod
    def starts(cls, total: float, peak: float) -> Iterator[Law]:
        """Where a fit may begin, for runs with this sum of rates and this peak; floor, scale and drop are 1."""


@dataclass(frozen=True)
class AnnealingLaw(Law):
    """L = L0 + A S1^-alpha - C S2, S2 the sum of m_i = lam m_{i-1} + (eta_{i-1} - eta_i). Source: arXiv 2408.11029.

    >>> float(AnnealingLaw(0.0, 0.0, 0.5, 1.0, 0.99).losses(1 - np.arange(1000) / 1000)[0].round(4))
    -90.0004
    """

    lam: float  # 0.99 to 0.999 in the paper's reach: how fast the gain of a reduction comes

    def gain_MC(self, path: Path) -> Floats:
        return np.asarray(-np.expm1(path.n_MC * np.log(self.lam)) / (1 - self.lam))

    def numbers(self) -> Floats:
        return np.log([self.floor, self.scale, self.alpha, self.drop, 1 / self.lam - 1])

    @classmethod
    def of_numbers(cls, x: Floats) -> AnnealingLaw:
        floor, scale, alpha, drop, odds = np.exp(x).tolist()
        return cls(floor, scale, alpha, drop, 1 / (1 + odds))

    @classmethod
    def starts(cls, total: float, peak: float) -> Iterator[AnnealingLaw]:
        return (cls(1.0, 1.0, alpha, 1.0, lam) for alpha in (0.2, 0.4, 0.6, 0.9) for lam in (0.98, 0.99, 0.995, 0.998, 0.9995))


@dataclass(frozen=True)
class MultiPowerLaw(Law):
    """L = L0 + A S1^-alpha - B sum_k (eta_{k-1} - eta_k) (1 - (1 + C eta_k^-gamma S_k)^-beta). Source: arXiv 2503.12811.

    S_k is the sum of the rates from k on. Increases in the warm-up are part of the sum, as they were when the published constants
    were fitted; a reduction to 0 brings its full gain.
    """

    c: float
    beta: float
    gamma: float

    def gain_MC(self, path: Path) -> Floats:
        moves_C = path.eta_C > 0
        speed_C = self.c * np.where(moves_C, path.eta_C, 1.0) ** -self.gamma
        gain_MC = -np.expm1(-self.beta * np.log1p(speed_C * path.since_MC))
        return np.asarray(np.where(moves_C, gain_MC, np.sign(path.n_MC)))

    def numbers(self) -> Floats:
        return np.log([self.floor, self.scale, self.alpha, self.drop, self.c, self.beta, self.gamma])

    @classmethod
    def of_numbers(cls, x: Floats) -> MultiPowerLaw:
        return cls(*np.exp(x).tolist())

    @classmethod
    def starts(cls, total: float, peak: float) -> Iterator[MultiPowerLaw]:
        for alpha in (0.25, 0.5, 0.8):
            for beta in (0.4, 0.8):
                for gamma in (0.3, 0.6):
                    for speed in (1.0, 10.0):  # C eta^-gamma S a tenth of the run after a reduction by half
                        yield cls(1.0, 1.0, alpha, 1.0, speed / (0.1 * total) * (peak / 2) ** gamma, beta, gamma)


PUBLISHED = {  # arXiv 2503.12811, fitted to pre-training runs with peak 3e-4, by parameters of the model
    "25M": MultiPowerLaw(3.040454, 0.524686, 0.507869, 363.7875, 2.065608, 0.582790, 0.641423),
    "100M": MultiPowerLaw(2.651, 0.601, 0.453, 437.946, 2.132, 0.598, 0.655),
    "400M": MultiPowerLaw(2.375, 0.654, 0.429, 523.425, 2.025, 0.594, 0.635),
}
PUBLISHED_ERROR = 0.0122  # nats: the 25M law's largest miss among the final losses of the four logged runs that we compared

"""The schedule that a fitted Multi-Power Law likes best, beside the usual ones, and whether the law can tell them apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from curricula.types import CurriculaError, Floats, known_or_raise
from trainer.schedules.laws.law import MultiPowerLaw
from trainer.schedules.progress import units
from trainer.schedules.schedule import Schedule, build_schedule, known_shapes
from trainer.schedules.shape import SHAPES

KNOTS = 101  # of the table
N_STEPS, RATE = 1500, 0.05  # of Adam
OPTIMISED = "optimised"
USUAL: tuple[Mapping[str, Any], ...] = (
    {"name": "constant"},
    {"name": "linear"},
    {"name": "cosine"},
    {"name": "wsd", "decay": 0.2, "shape": "linear"},
    {"name": "wsd", "decay": 0.2, "shape": "one_minus_sqrt"},
)


class Candidate(NamedTuple):
    """A schedule and the loss that the law foresees at its end."""

    name: str
    loss: float
    schedule: dict[str, Any]  # as a recipe takes it


@dataclass(frozen=True)
class Plan:
    """Candidates, the least predicted loss first, and the error of the law that predicted it."""

    candidates: tuple[Candidate, ...]
    error: float  # nats

    @property
    def untold(self) -> tuple[Candidate, ...]:
        """Those that the law does not tell from the first: their loss is less than its error above."""
        return tuple(one for one in self.candidates if one.loss - self.candidates[0].loss < self.error)

    @property
    def winner(self) -> Candidate | None:
        """The first one, if the law tells it from every other; None otherwise."""
        return self.candidates[0] if len(self.untold) == 1 else None

    @property
    def optimised(self) -> Candidate:
        """The table, whatever its place."""
        return next(one for one in self.candidates if one.name == OPTIMISED)

    def __str__(self) -> str:
        first = self.candidates[0]
        told = "worse by more than the error: "
        rows = [
            f"{one.loss:.4f}  {one.loss - first.loss:+.4f}  {'' if one in self.untold else told}{one.name}"
            for one in self.candidates
        ]
        if self.winner is not None:
            verdict = f"{first.name} is ahead by more than the law's error of {self.error:.4f}"
        else:
            alike = ", ".join(one.name for one in self.untold)
            verdict = f"no winner: the law's error is {self.error:.4f}, and it cannot tell apart {alike}"
        return "\n".join(["loss    gap", *rows, f"{verdict}. A law of stationary losses at one peak, not of RL rewards."])


def plan(
    law: MultiPowerLaw,
    error: float,
    peak: float,
    n_updates: int,
    warmup: float = 0.0,
    floor: float = 0.0,
    usual: Sequence[Mapping[str, Any]] = USUAL,
) -> Plan:
    """The non-increasing schedule of least predicted loss after ``n_updates``, and the ``usual`` ones with its peak and warm-up.

    ``error`` is the law's on runs left out (`LawFit.error`). The peak is not tuned anew for any schedule: the law is of one peak.
    Method: Adam on the reductions between 101 knots, from several schedules (arXiv 2503.12811 does it for every update).
    Errors: CurriculaError for an error that is not above 0, a floor that is not in [0, 1), and whatever a schedule refuses.
    """
    if not (np.isfinite(error) and error > 0):
        raise CurriculaError(f"plan: expected the law's error on runs left out, above 0 nats; got {error}")
    if not 0 <= floor < 1:
        raise CurriculaError(f"plan: expected a floor in [0, 1), as a share of the peak; got {floor}")
    given = [{**mapping, **_floored(mapping, floor), "peak": peak, "warmup": warmup} for mapping in usual]
    built = [build_schedule(mapping, n_updates) for mapping in given]
    stretch = Stretch(law, peak, units(warmup, n_updates), n_updates)
    begun = [stretch.knots_of(schedule) for schedule in built] or [np.linspace(1.0, floor, KNOTS)]
    best_P = min((_descend(stretch, start_P, floor) for start_P in begun), key=lambda m_P: stretch.loss(m_P)[0])
    table = {"name": "table", "peak": peak, "warmup": warmup, "multipliers": best_P.round(6).tolist()}
    named = [(OPTIMISED, table), *((_name(mapping), mapping) for mapping in given)]
    found = [Candidate(name, _at_end(law, build_schedule(mapping, n_updates), n_updates), mapping) for name, mapping in named]
    return Plan(tuple(sorted(found, key=lambda one: one.loss)), error)


@dataclass(frozen=True)
class Stretch:
    """The run after the warm-up in portions between knots (``_P``; ``_Q`` = the portions, one fewer).

    Each portion has its mean rate, and its reduction lies in its middle.
    """

    law: MultiPowerLaw
    peak: float
    warmup: float  # updates
    n_updates: int

    @property
    def n(self) -> float:
        """Updates of a portion."""
        return (self.n_updates - self.warmup) / (KNOTS - 1)

    def knots_of(self, schedule: Schedule) -> Floats:
        """Multipliers of a schedule at the knots."""
        return np.array([schedule.multiplier(self.warmup + self.n * j) for j in range(KNOTS)])

    def loss(self, m_P: Floats) -> tuple[float, Floats]:
        """What the law says of multipliers, but for its constant and the warm-up's increases; and the slopes (P,)."""
        law, unit = self.law, self.peak * self.n
        mean_Q, by_Q = (m_P[:-1] + m_P[1:]) / 2, m_P[:-1] - m_P[1:]
        total = self.peak * self.warmup / 2 + unit * mean_Q.sum()
        since_Q = unit * (mean_Q[::-1].cumsum()[::-1] - mean_Q / 2)
        speed_Q = law.c * (self.peak * mean_Q) ** -law.gamma
        gain_Q = 1 - (1 + speed_Q * since_Q) ** -law.beta
        value = law.scale * total**-law.alpha - law.drop * self.peak * float(by_Q @ gain_Q)
        change_Q = -law.drop * self.peak * by_Q * law.beta * (1 + speed_Q * since_Q) ** (-law.beta - 1)
        later_Q = change_Q * speed_Q * unit
        slope_Q = -law.alpha * law.scale * total ** (-law.alpha - 1) * unit + later_Q.cumsum() - later_Q / 2
        slope_Q = slope_Q - change_Q * law.gamma * speed_Q * since_Q / mean_Q
        slope_P = np.zeros(KNOTS)
        slope_P[:-1] += slope_Q / 2 - law.drop * self.peak * gain_Q
        slope_P[1:] += slope_Q / 2 + law.drop * self.peak * gain_Q
        return value, slope_P


def _descend(stretch: Stretch, start_P: Floats, floor: float) -> Floats:
    """Adam on the logits of shares: of what the rate may fall by, so much in each portion, the rest never."""
    falls_Q = np.maximum(-np.diff(start_P), 0.0) / (1 - floor)
    share_P = np.append(falls_Q, max(1 - falls_Q.sum(), 0.0)) + 1e-4
    x_P = np.log(share_P / share_P.sum())
    mean_P, square_P = np.zeros(KNOTS), np.zeros(KNOTS)
    best, best_P = math.inf, start_P
    for step in range(1, N_STEPS + 1):
        share_P = np.exp(x_P - x_P.max())
        share_P /= share_P.sum()
        m_P = 1 - (1 - floor) * np.append(0.0, share_P[:-1].cumsum())
        value, slope_P = stretch.loss(m_P)
        if value < best:
            best, best_P = value, m_P
        after_P = np.append(-(1 - floor) * slope_P[:0:-1].cumsum()[::-1], 0.0)
        slope_x_P = share_P * (after_P - share_P @ after_P)
        mean_P, square_P = 0.9 * mean_P + 0.1 * slope_x_P, 0.99 * square_P + 0.01 * slope_x_P**2
        x_P = x_P - RATE * (mean_P / (1 - 0.9**step)) / (np.sqrt(square_P / (1 - 0.99**step)) + 1e-12)
    return np.clip(best_P, floor, 1.0)


def _at_end(law: MultiPowerLaw, schedule: Schedule, n_updates: int) -> float:
    return float(law.losses([schedule.lr(t) for t in range(n_updates)])[0])


def _floored(mapping: Mapping[str, Any], floor: float) -> dict[str, float]:
    known_or_raise("schedule", str(mapping.get("name", "")), known_shapes())
    has = "floor" in {field.name for field in fields(SHAPES[mapping["name"]])}
    return {"floor": floor} if has else {}


def _name(mapping: Mapping[str, Any]) -> str:
    told = ", ".join(f"{key} {value}" for key, value in mapping.items() if key not in ("name", "peak", "warmup"))
    return f"{mapping['name']}{f' ({told})' if told else ''}"

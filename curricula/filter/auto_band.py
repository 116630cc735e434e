"""Groups of middling difficulty, as middling as the generation budget allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from curricula.groups import n_scored, pass_rates, score_spreads
from curricula.registry import register
from curricula.types import Bools, CurriculaError, Feedback, Floats, Outcome, PromptPool, Verdict
from curricula.verdicts import REFILL, by_side, verdict

N_BINS = 128  # of the distance to the centre
SLACK = 1e-9  # a distance that lies on the edge of a bin belongs to it


class Distances(NamedTuple):
    """A fading histogram of how far groups with differing rewards lay from the centre, and the weight of all groups."""

    weight_bins: Floats  # (N_BINS,)
    weight: Floats  # () of groups with equal rewards too


@register("filter", "auto_band")
@dataclass(frozen=True)
class AutoBand:
    """Keep the groups nearest to ``centre`` in pass rate, in the tightest band that costs ``overhead`` groups per kept one. Ours.

    The band is centre +- w, with w the smallest width that held at least 1 / overhead of the last groups, read off a histogram that
    fades by 1 / memory per group. Equal rewards are never kept; where even all mixed groups are too few, all of them are. Without
    data the band is open, as DAPO's rule. Predicted, not promised: the pool may change faster than the memory. For the cost of a
    fixed band see ``difficulty_band``; a centre of 0.35 to 0.45 suits weak KL regularisation.

    >>> band = AutoBand(overhead=2.0)
    >>> state = band.init(None)._replace(weight=np.array(10.0))
    >>> state.weight_bins[[16, 48]] = 4.0  # of ten groups four lay near, four far, and two had equal rewards
    >>> band.width(state)
    0.3828125
    """

    overhead: float = 2.0
    centre: float = 0.5
    memory: float = 1024.0  # groups
    refill: Literal["resample", "none"] = "resample"

    def __post_init__(self) -> None:
        if not 1 <= self.overhead < np.inf:
            raise CurriculaError(
                f"auto_band.overhead: expected generated groups per kept group, >= 1 and finite, got {self.overhead}"
            )
        if not 0 < self.centre < 1:
            raise CurriculaError(f"auto_band.centre: expected a pass rate between 0 and 1, got {self.centre}")
        if not 1 <= self.memory < np.inf:
            raise CurriculaError(f"auto_band.memory: expected a number of groups >= 1, got {self.memory}")

    def init(self, pool: PromptPool) -> Distances:
        return Distances(np.zeros(N_BINS), np.array(0.0))

    def judge(self, state: Distances, pool: PromptPool, outcome: Outcome) -> Verdict:
        near_B = self._distances(outcome) <= self.width(state) + SLACK
        return verdict(outcome, by_side(outcome, near_B & _mixed(outcome)), REFILL[self.refill])

    def width(self, state: Distances) -> float:
        """Half the width of the band now; 1 where every mixed group is inside."""
        enough = np.cumsum(state.weight_bins) >= state.weight / self.overhead - SLACK
        return float(enough.argmax() + 1) / N_BINS if enough.any() and state.weight > 0 else 1.0

    def update(self, state: Distances, pool: PromptPool, feedback: Feedback) -> Distances:
        outcome = feedback.outcome
        measured_B = n_scored(outcome) >= 2
        distance_m = self._distances(outcome)[measured_B & _mixed(outcome)]
        bin_m = np.maximum(np.ceil(distance_m * N_BINS - SLACK), 1).astype(np.int64) - 1
        n_groups = int(np.count_nonzero(measured_B))
        kept = (1.0 - 1.0 / self.memory) ** n_groups
        weight_bins = kept * state.weight_bins + np.bincount(bin_m, minlength=N_BINS)
        return Distances(weight_bins, np.asarray(kept * state.weight + n_groups))

    def _distances(self, outcome: Outcome) -> Floats:
        distance_B: Floats = np.abs(pass_rates(outcome) - self.centre)
        return distance_B


def _mixed(outcome: Outcome) -> Bools:
    mixed_B: Bools = score_spreads(outcome) > 0
    return mixed_B

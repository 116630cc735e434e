"""What can be learned now: what it builds on is mastered, it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

import numpy as np

from curricula.groups import pass_rates
from curricula.histories import History, means_by_step, no_history, noted, slopes
from curricula.levels import natural_order
from curricula.registry import register
from curricula.types import Bools, CurriculaError, Feedback, Floats, PromptPool, known_or_raise


class MasteringState(NamedTuple):
    """Pass rates by step, and the pass rates between which mastery is measured."""

    scores: History
    low_K: Floats
    high_K: Floats


@register("distribution", "mastering_rate")
@dataclass(frozen=True)
class MasteringRate:
    """Most to what is learnable now: its prerequisites are mastered, it and what follows are not. Mastering rate, arXiv 2008.06456.

    From the last ``window`` steps in which a distribution was seen: mastery M = (mean pass rate - low) / (high - low), clipped to
    0..1, and progress a = |regression slope of the pass rate over steps| / the largest such. Attention =
    min M(all it builds on)^power x ((1 - potential) a + potential (1 - M)) x (1 - min M(what directly builds on it)). Last levels
    first, each then hands ``to_easier`` of its attention to its direct prerequisites and ``to_harder`` of the rest to what directly
    builds on it, in equal parts; P is proportional to attention, mixed with ``greedy`` equal shares.

    ``prerequisites`` names them by distribution, ``{"mul": ["add"]}``; without any, the natural order of the names is a chain. As
    in the released code, attention handed to nobody is lost, and low and high widen to any mean of a full window. Where all
    attention is 0 (everything is mastered), shares are equal.

    >>> rate = MasteringRate(greedy=0.0)
    >>> chain = np.eye(3, k=-1, dtype=bool)  # row k: what k builds on
    >>> attention = rate.attention(np.array([0.9, 0.4, 0.0]), np.array([0.1, 0.5, 0.0]), chain)
    >>> (attention / attention.sum()).round(4)
    array([0.2761, 0.6854, 0.0385])
    """

    prerequisites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    window: int = 10  # steps in which the distribution was seen
    power: float = 6.0
    potential: float = 0.5
    to_easier: float = 0.2
    to_harder: float = 0.05
    greedy: float = 0.1  # share that is spread equally
    low: float = 0.0
    high: float = 0.9

    def __post_init__(self) -> None:
        if self.window < 2:
            raise CurriculaError(f"mastering_rate.window: expected >= 2 (a slope needs two steps), got {self.window}")
        if not 0 <= self.power < np.inf:
            raise CurriculaError(f"mastering_rate.power: expected a finite number >= 0, got {self.power}")
        for key in ("potential", "to_easier", "to_harder", "greedy"):
            if not 0 <= getattr(self, key) <= 1:
                raise CurriculaError(f"mastering_rate.{key}: expected a number in 0..1, got {getattr(self, key)}")
        if not 0 <= self.low < self.high <= 1:
            raise CurriculaError(f"mastering_rate: expected 0 <= low < high <= 1, got low={self.low}, high={self.high}")
        try:
            TopologicalSorter(self.prerequisites).prepare()
        except CycleError as error:
            raise CurriculaError(f"mastering_rate.prerequisites: they run in a circle: {' -> '.join(error.args[1])}") from None

    def init(self, pool: PromptPool) -> MasteringState:
        for name in {*self.prerequisites, *(before for names in self.prerequisites.values() for before in names)}:
            known_or_raise("distribution in mastering_rate.prerequisites:", name, pool.distribution_names)
        k = pool.n_distributions
        return MasteringState(no_history(k, self.window), np.full(k, self.low), np.full(k, self.high))

    def probabilities(self, state: MasteringState, pool: PromptPool) -> Floats:
        rate_K, slope_K = _rates(state.scores)
        mastery_K = np.clip((rate_K - state.low_K) / (state.high_K - state.low_K), 0.0, 1.0)
        attention_K = self.attention(np.nan_to_num(mastery_K), np.abs(slope_K), self.builds_on(pool))
        equal, total = 1.0 / len(attention_K), attention_K.sum()
        share_K = attention_K / total if total > 0 else np.full(len(attention_K), equal)
        return (1.0 - self.greedy) * share_K + self.greedy * equal

    def update(self, state: MasteringState, pool: PromptPool, feedback: Feedback) -> MasteringState:
        arm_B = feedback.plan.selection.distribution_B
        scores = noted(state.scores, feedback.plan.step, pass_rates(feedback.outcome), arm_B)
        rate_K, _ = _rates(scores)
        full_K = (scores.n_KW > 0).all(axis=1)
        low_K = np.where(full_K, np.minimum(state.low_K, rate_K), state.low_K)
        return MasteringState(scores, low_K, np.where(full_K, np.maximum(state.high_K, rate_K), state.high_K))

    def builds_on(self, pool: PromptPool) -> Bools:
        """(K, K) row k: the direct prerequisites of k."""
        k = pool.n_distributions
        before_KK = np.zeros((k, k), dtype=np.bool_)
        if not self.prerequisites:
            order = natural_order(pool)
            before_KK[order[1:], order[:-1]] = True
        for name, before in self.prerequisites.items():
            before_KK[pool.distribution_names.index(name), [pool.distribution_names.index(one) for one in before]] = True
        return before_KK

    def attention(self, mastery_K: Floats, progress_K: Floats, before_KK: Bools) -> Floats:
        """(K,) what each distribution is given, not normalised."""
        ancestors_KK = _all_before(before_KK)
        largest = progress_K.max()
        wish_K = (1.0 - self.potential) * (progress_K / largest if largest > 0 else progress_K) + self.potential * (1.0 - mastery_K)
        base_K = np.where(ancestors_KK, mastery_K, 1.0).min(axis=1) ** self.power
        after_K = np.where(before_KK.any(axis=0), np.where(before_KK.T, mastery_K, 1.0).min(axis=1), 0.0)
        attention_K: Floats = base_K * wish_K * (1.0 - after_K)
        for k in np.argsort(-ancestors_KK.sum(axis=1), kind="stable"):  # whatever builds on k has more ancestors, so came before
            for part, receivers_K in ((self.to_easier, before_KK[k]), (self.to_harder, before_KK[:, k])):
                given = attention_K[k] * part
                attention_K[k] -= given
                attention_K[receivers_K] += given / max(int(receivers_K.sum()), 1)
        return attention_K


def _rates(scores: History) -> tuple[Floats, Floats]:
    """(K,) mean over steps of the pass rate, NaN if never seen; and (K,) its slope by step."""
    rate_KW = means_by_step(scores)
    n_K = np.isfinite(rate_KW).sum(axis=1)
    mean_K = np.where(n_K > 0, np.nan_to_num(rate_KW).sum(axis=1) / np.maximum(n_K, 1), np.nan)
    return mean_K, slopes(scores.step_KW.astype(np.float64), rate_KW)


def _all_before(before_KK: Bools) -> Bools:
    """(K, K) row k: everything that k builds on, at any distance."""
    reach_KK = before_KK.copy()
    for k in range(len(reach_KK)):  # by way of k
        reach_KK |= reach_KK[:, k : k + 1] & reach_KK[k]
    return reach_KK

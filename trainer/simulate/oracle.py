"""The upper mark: a selection that knows every true pass rate. No registered policy, for nobody has that knowledge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from curricula.belief.beta import BetaCounts
from curricula.budget.even import Even
from curricula.downsampling.none import KeepRollouts
from curricula.filter.keep_all import KeepAll
from curricula.shaping.raw import Raw
from curricula.stages import Believed, Quota, Stages, Stateless
from curricula.types import Floats, Ints, PromptPool, Selection

Truth = Callable[[], Floats]  # (N,) true pass rates now


@dataclass(frozen=True)
class OracleShares(Stateless):
    """As many groups of each distribution as it has among the best."""

    truth: Truth
    n_groups: int

    def probabilities(self, state: object, pool: PromptPool) -> Floats:
        best = nearest_half(self.truth(), np.arange(len(pool)), self.n_groups)
        return np.bincount(pool.distribution_N[best], minlength=pool.n_distributions) / max(len(best), 1)


@dataclass(frozen=True)
class OracleSelector(Stateless):
    """The prompts whose true pass rate is nearest to one half."""

    truth: Truth

    def select(self, state: object, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        rate_N = self.truth()
        taken = [nearest_half(rate_N, pool.members(k), int(n)) for k, n in enumerate(quota.drawn_K)]
        prompt_B = np.concatenate([np.empty(0, np.int64), *taken])
        return Selection(prompt_B, pool.distribution_N[prompt_B], np.ones(len(prompt_B)))


def nearest_half(rate_N: Floats, among: Ints, n: int) -> Ints:
    """The n prompts nearest to one half: the most expected gradient per group whatever its size."""
    order: Ints = among[np.argsort(np.abs(rate_N[among] - 0.5), kind="stable")]
    return order[:n]


def oracle_stages(truth: Truth, n_groups: int) -> Stages:
    """The oracle as the stages of a curriculum; it explores nothing."""
    return Stages(
        belief=BetaCounts(),
        distribution=OracleShares(truth, n_groups),
        selector=OracleSelector(truth),
        budget=Even(),
        shaping=Raw(),
        filter=KeepAll(),
        downsampling=KeepRollouts(),
    )

"""Selectors around a selector: they say which prompts the inner one may not take, and never too many of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np

from curricula.growth import carried_fields, carried_state
from curricula.stages import Quota, Selector
from curricula.types import Floats, PromptPool


class Around(ABC):
    """Base of combinators. Their state is a NamedTuple with a field ``inner``: the state of the selector inside."""

    inner: Selector

    @property
    def follows_rows(self) -> bool:
        return bool(getattr(self.inner, "follows_rows", False))

    @property
    def conditional_propensity(self) -> bool:
        return bool(getattr(self.inner, "conditional_propensity", False))

    @abstractmethod
    def init(self, pool: PromptPool) -> Any:
        """The combinator's fresh state, the inner selector's inside."""

    def carry(self, state: Any, old: PromptPool, new: PromptPool) -> Any:
        own = carried_fields(state._replace(inner=()), self.init(new)._replace(inner=()), old, new)
        return own._replace(inner=carried_state(self.inner, state.inner, old, new))


def narrowed(pool: PromptPool, quota: Quota, regret_N: Floats) -> Quota:
    """The quota without the prompts of positive regret.

    Where a distribution would keep fewer than its expected number (rounded up), the prompts of least regret are opened again until
    there are enough; equals are opened together, so the order of prompts has no say.
    """
    blocked_N = quota.blocked_N | (regret_N > 0)
    need_K = np.ceil(quota.expected_K).astype(np.int64)
    open_K = pool.size_K - np.bincount(pool.distribution_N[blocked_N], minlength=pool.n_distributions)
    for k in np.flatnonzero(quota.asked_K & (open_K < need_K)):
        member = pool.members(k)
        free = member[~quota.blocked_N[member]]
        need = min(int(need_K[k]), len(free))  # fewer are free where only chances are asked, of a distribution that gives none
        if need == 0:
            continue
        cut = np.partition(regret_N[free], need - 1)[need - 1]
        blocked_N[free[regret_N[free] <= cut]] = False
    return replace(quota, blocked_N=blocked_N)

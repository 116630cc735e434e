"""From easy to hard along a fixed schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from curricula.groups import pass_rates
from curricula.levels import easiest_first, level_order
from curricula.registry import register
from curricula.signals import softmax
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool

FADING = 0.9  # per step, of the running pass rates


class ScheduleState(NamedTuple):
    """Progress, and running pass rates for ``by="pass_rate"``."""

    n_steps: Ints  # () the newest step learned from, plus one
    sum_K: Floats  # (K,) faded sum of pass rates
    n_K: Floats  # (K,) faded number of groups


@register("distribution", "e2h")
@dataclass(frozen=True)
class EasyToHard:
    """A peak that moves from the easiest distribution to the hardest while steps go by. E2H Reasoner, arXiv 2506.06632.

    With K levels i = 0..K-1, easiest first, and x = min(1, learned steps / ``steps``). Cosine: a = (1 + cos(pi x)) / 2,
    P_i = [a (K - i) + (1 - a) (i + 1)] / S, S = K (K + 1) / 2. Gaussian: q_i proportional to exp(-(i - mu)^2 / (2 sigma^2)) with
    mu = x^beta (K - 1), P = least + (1 - K least) q with least = 1 / S as in the released code, or 0 without ``floor``.
    The cosine never falls below 1 / S by itself.

    Levels are ``order``, or by natural order of names, prior pass rate, or running pass rate (ours: the order then follows the
    model).

    >>> gaussian(4, 0.25, beta=0.5, sigma=0.5, least=0.0).round(3)
    array([0.009, 0.491, 0.491, 0.009])
    """

    schedule: Literal["cosine", "gaussian"] = "gaussian"
    steps: int = 200
    beta: float = 0.5
    sigma: float = 0.5
    floor: bool = True
    order: tuple[str, ...] = ()
    by: Literal["name", "prior_pass_rate", "pass_rate"] = "name"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise CurriculaError(f"e2h.steps: expected >= 1, got {self.steps}")
        for key in ("beta", "sigma"):
            if not 0 < getattr(self, key) < np.inf:
                raise CurriculaError(f"e2h.{key}: expected a finite number above 0, got {getattr(self, key)}")

    def init(self, pool: PromptPool) -> ScheduleState:
        state = ScheduleState(np.array(0, np.int64), np.zeros(pool.n_distributions), np.zeros(pool.n_distributions))
        self._order(state, pool)
        return state

    def probabilities(self, state: ScheduleState, pool: PromptPool) -> Floats:
        k, x = pool.n_distributions, min(1.0, float(state.n_steps) / self.steps)
        least = 2.0 / (k * (k + 1)) if self.floor else 0.0
        share_K = np.empty(k)
        share_K[self._order(state, pool)] = (
            cosine(k, x) if self.schedule == "cosine" else gaussian(k, x, self.beta, self.sigma, least)
        )
        return share_K

    def update(self, state: ScheduleState, pool: PromptPool, feedback: Feedback) -> ScheduleState:
        step, k = feedback.plan.step, pool.n_distributions
        n_steps = max(int(state.n_steps), step + 1)
        fade, weight = FADING ** (n_steps - int(state.n_steps)), FADING ** (n_steps - 1 - step)
        rate_B, arm_B = pass_rates(feedback.outcome), feedback.plan.selection.distribution_B
        has_B = np.isfinite(rate_B)
        sum_K = fade * state.sum_K + weight * np.bincount(arm_B[has_B], weights=rate_B[has_B], minlength=k)
        n_K = fade * state.n_K + weight * np.bincount(arm_B[has_B], minlength=k)
        return ScheduleState(np.array(n_steps, np.int64), sum_K, n_K)

    def _order(self, state: ScheduleState, pool: PromptPool) -> Ints:
        if self.by != "pass_rate" or self.order:
            return level_order(pool, self.order, "name" if self.by == "pass_rate" else self.by, "e2h.order")
        seen_K = state.n_K > 0
        return easiest_first(pool, np.where(seen_K, state.sum_K / np.where(seen_K, state.n_K, 1.0), np.nan))


def cosine(n_levels: int, x: float) -> Floats:
    """(K,) shares, easiest level first, at progress x in [0, 1].

    >>> cosine(4, 0.25).round(4)
    array([0.3561, 0.2854, 0.2146, 0.1439])
    """
    a, level = 0.5 * (1.0 + np.cos(np.pi * x)), np.arange(n_levels)
    share_K: Floats = (a * (n_levels - level) + (1.0 - a) * (level + 1)) * 2.0 / (n_levels * (n_levels + 1))
    return share_K


def gaussian(n_levels: int, x: float, beta: float, sigma: float, least: float) -> Floats:
    """(K,) shares, easiest level first, at progress x in [0, 1]; each at least ``least``."""
    mu = x**beta * (n_levels - 1)
    return least + (1.0 - n_levels * least) * softmax(-((np.arange(n_levels) - mu) ** 2), 2.0 * sigma**2)

"""Exponential weights on importance-weighted signals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.registry import register
from curricula.signals import Signal, group_signal, softmax
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool

SMALLEST = 1e-12  # a drawn distribution cannot have had probability 0


class WeightState(NamedTuple):
    """Exponential weights, as logarithms; the largest is 0."""

    log_weight_K: Floats
    n_steps: Ints  # () the newest step learned from, plus one


@register("distribution", "exp3")
@dataclass(frozen=True)
class Exp3:
    """Exponential weights that assume nothing about how signals move. EXP3.S (Auer, Cesa-Bianchi, Freund and Schapire 2002).

    x_k = (sum of the signals of k's groups) / (B p_k), B the groups that came back with a signal and p_k the logged probability at
    the decision; w_k <- w_k exp(eta x_k); then every weight gives up ``share`` of itself, spread equally; P = w / sum w.
    x_k is an unbiased estimate of k's mean signal and 0 for what was not drawn. Ours: many draws in one step instead of one (the
    estimate is their mean), and the curriculum's exploration floor in the place of gamma. A late group is learned from as any
    other; ``share`` acts once per step. What was planned before the pool got more distributions is not learned from.

    Slower than ``thompson`` on signals that move smoothly; use it where they may move arbitrarily.

    >>> importance_weighted(np.array([0.5, 0.3, 0.8]), np.array([0, 0, 1]), np.array([0.8, 0.2])).round(4)  # B = 3
    array([0.3333, 1.3333])
    """

    eta: float = 0.2
    share: float = 0.02
    signal: Signal = "learnability"

    def __post_init__(self) -> None:
        if not 0 < self.eta < np.inf:
            raise CurriculaError(f"exp3.eta: expected a finite number above 0, got {self.eta}")
        if not 0 <= self.share < 1:
            raise CurriculaError(f"exp3.share: expected a number in 0..1, 1 excluded, got {self.share}")

    def init(self, pool: PromptPool) -> WeightState:
        return WeightState(np.zeros(pool.n_distributions), np.array(0, np.int64))

    def probabilities(self, state: WeightState, pool: PromptPool) -> Floats:
        return softmax(state.log_weight_K, 1.0)

    def update(self, state: WeightState, pool: PromptPool, feedback: Feedback) -> WeightState:
        plan, n_steps = feedback.plan, max(int(state.n_steps), feedback.plan.step + 1)
        if len(plan.probability_K) != pool.n_distributions:
            return state._replace(n_steps=np.array(n_steps, np.int64))
        value_B, arm_B = group_signal(feedback, self.signal), plan.selection.distribution_B
        has_B = np.isfinite(value_B)
        raised_K = state.log_weight_K + self.eta * importance_weighted(value_B[has_B], arm_B[has_B], plan.probability_K)
        keep = (1.0 - self.share) ** (n_steps - int(state.n_steps))
        shared_K = keep * softmax(raised_K, 1.0) + (1.0 - keep) / pool.n_distributions
        log_weight_K = np.log(shared_K) if self.share else raised_K
        return WeightState(log_weight_K - log_weight_K.max(), np.array(n_steps, np.int64))


def importance_weighted(value_B: Floats, arm_B: Ints, probability_K: Floats) -> Floats:
    """(K,) sum of the values of each arm / (B x its probability)."""
    sum_K = np.bincount(arm_B, weights=value_B, minlength=len(probability_K))
    estimate_K: Floats = sum_K / (max(len(value_B), 1) * np.maximum(probability_K, SMALLEST))
    return estimate_K

"""Gaussian mixtures over where learning happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.gaussians import Gaussians, best_fitted, log_densities
from curricula.groups import pass_rates
from curricula.growth import carried_fields
from curricula.histories import History, means_by_step, no_history, noted, window_of
from curricula.levels import natural_order
from curricula.registry import register
from curricula.signals import distribution_means, softmax
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool


class AlpState(NamedTuple):
    """Absolute learning progress by step, and what the last fitted mixture made of it."""

    place_KD: Floats  # (K, D) where each distribution lies among the tasks
    last_K: Floats  # (K,) newest mean pass rate; NaN = never seen
    progress: History  # |change of the mean pass rate|
    share_K: Floats  # (K,) by the last fitted mixture
    n_steps: Ints  # () the newest step learned from, plus one
    n_fitted: Ints  # () n_steps when the mixture was fitted


@register("distribution", "alp_gmm")
@dataclass(frozen=True)
class AlpGmm:
    """Shares by a mixture fitted to where pass rates change: near tasks share their learning progress. ALP-GMM, arXiv 1910.07224.

    ALP of a distribution in a step = |its mean pass rate - its last one| (the first time: the last one of the nearest
    distribution). Every ``refit`` steps, mixtures of 2 to ``max_components`` normal distributions are fitted to the (place, ALP) of
    the last ``window`` steps, the best by Akaike's criterion is kept, a component is taken in proportion to its mean ALP and a
    distribution in proportion to the component's density at its place. ``random`` of the shares stay equal.

    The place is the distribution's mean feature vector, reduced to ``dimensions`` principal axes; in a pool without features it is
    the rank in the natural order of the names, from 0 to 1. Released code: single episodes in place of step means, 250 of them,
    refit every 250, up to 10 components, a draw from the component and the task nearest to it; equal shares until the first fit,
    as here.

    >>> two = Gaussians(np.array([0.5, 0.5]), np.array([[0.0, 0.3], [1.0, 0.1]]), np.array([np.eye(2) * 0.01] * 2))
    >>> shares(two, np.array([[0.0], [1.0]])).round(3)  # mean ALP 0.3 at place 0, 0.1 at place 1
    array([0.75, 0.25])
    """

    window: int = 20  # steps
    refit: int = 5  # steps
    random: float = 0.2
    max_components: int = 6
    dimensions: int = 3

    def __post_init__(self) -> None:
        for key in ("window", "refit", "max_components", "dimensions"):
            if getattr(self, key) < 1:
                raise CurriculaError(f"alp_gmm.{key}: expected >= 1, got {getattr(self, key)}")
        if not 0 <= self.random <= 1:
            raise CurriculaError(f"alp_gmm.random: expected a number in 0..1, got {self.random}")

    def init(self, pool: PromptPool) -> AlpState:
        k, zero = pool.n_distributions, np.array(0, np.int64)
        place_KD = _places(pool, self.dimensions)
        return AlpState(place_KD, np.full(k, np.nan), no_history(k, self.window), np.full(k, 1.0 / k), zero, zero)

    def carry(self, state: AlpState, old: PromptPool, new: PromptPool) -> AlpState:
        """The state for a grown pool; places are taken anew, because axes and ranks may have moved."""
        fresh = self.init(new)
        place_KD = fresh.place_KD.copy()  # carrying writes into the fresh arrays
        carried: AlpState = carried_fields(state, fresh, old, new)
        return carried._replace(place_KD=place_KD)

    def probabilities(self, state: AlpState, pool: PromptPool) -> Floats:
        share_K: Floats = (1.0 - self.random) * state.share_K / state.share_K.sum()
        share_K += self.random / len(share_K)
        return share_K

    def update(self, state: AlpState, pool: PromptPool, feedback: Feedback) -> AlpState:
        step, arm_B = feedback.plan.step, feedback.plan.selection.distribution_B
        rate_K = distribution_means(pass_rates(feedback.outcome), arm_B, pool.n_distributions)
        change_K = np.abs(rate_K - _references(state.last_K, state.place_KD))
        is_late = step + 1 < int(state.n_steps)
        state = state._replace(
            progress=noted(state.progress, step, change_K, np.arange(len(change_K))),
            last_K=np.where(np.isnan(rate_K) | (is_late & ~np.isnan(state.last_K)), state.last_K, rate_K),
            n_steps=np.maximum(state.n_steps, step + 1),
        )
        if state.n_steps - state.n_fitted < self.refit:
            return state
        return state._replace(share_K=self._shares(state, pool), n_fitted=state.n_steps)

    def _shares(self, state: AlpState, pool: PromptPool) -> Floats:
        """(K,) by a mixture fitted to the window; points in the order of names and steps, so that numbering changes nothing."""
        seen = window_of(state.progress, self.window)
        alp_KW, order = means_by_step(seen), pool.name_order_K
        points = [
            np.append(state.place_KD[k], alp_KW[k, w])
            for k in order
            for w in np.argsort(seen.step_KW[k], kind="stable")
            if np.isfinite(alp_KW[k, w])
        ]
        if len(points) < 2:
            return np.full(len(order), 1.0 / len(order))
        x_MD = np.array(points)
        used = np.append(np.ptp(state.place_KD, axis=0) > 0, True)
        share_K = np.empty(len(order))
        share_K[order] = shares(best_fitted(x_MD[:, used], self.max_components), state.place_KD[order][:, used[:-1]])
        return share_K


def shares(mixture: Gaussians, place_KD: Floats) -> Floats:
    """(K,) a component by its mean ALP (its last dimension), then a place by the component's density over the others."""
    alp_C = np.maximum(mixture.mean_CD[:, -1], 0.0)
    weight_C = alp_C / alp_C.sum() if alp_C.sum() > 0 else np.full(len(alp_C), 1.0 / len(alp_C))
    if not place_KD.shape[1]:  # one distribution, or all in one place
        return np.full(len(place_KD), 1.0 / len(place_KD))
    log_KC = log_densities(place_KD, mixture.mean_CD[:, :-1], mixture.covariance_CDD[:, :-1, :-1])
    share_K: Floats = np.array([softmax(log_K, 1.0) for log_K in log_KC.T]).T @ weight_C
    return share_K


def _references(last_K: Floats, place_KD: Floats) -> Floats:
    """(K,) the last pass rate of each distribution, or of the nearest one that has any; NaN where none has."""
    seen = np.flatnonzero(~np.isnan(last_K))
    if not len(seen):
        return last_K
    away_KS = ((place_KD[:, None] - place_KD[seen][None]) ** 2).sum(axis=2)
    nearest_KS = away_KS <= away_KS.min(axis=1, keepdims=True) + 1e-12  # equally near ones count alike
    nearest_K: Floats = (nearest_KS * last_K[seen]).sum(axis=1) / nearest_KS.sum(axis=1)
    return np.where(np.isnan(last_K), nearest_K, last_K)


def _places(pool: PromptPool, dimensions: int) -> Floats:
    """(K, D) coordinates of the distributions, the longest axis 1 long."""
    if pool.features_NF is None:
        place_KD = np.zeros((pool.n_distributions, 1))
        place_KD[natural_order(pool), 0] = np.linspace(0.0, 1.0, pool.n_distributions)
        return place_KD
    if not np.isfinite(pool.features_NF).all():
        raise CurriculaError(
            "alp_gmm: the pool's features hold NaN or infinite numbers; clean them, or build the pool without features"
        )
    mean_KF = (
        np.add.reduceat(pool.features_NF[pool.canonical_N].astype(np.float64), pool.start_K[:-1], axis=0) / pool.size_K[:, None]
    )
    order = pool.name_order_K
    centred_KF = mean_KF[order] - mean_KF[order].mean(axis=0)
    u, s, _ = np.linalg.svd(centred_KF, full_matrices=False)
    axes = (u * np.where(s > 1e-9 * s.max(initial=0.0), s, 0.0))[:, :dimensions]
    place_KD = np.zeros((pool.n_distributions, dimensions))
    place_KD[order, : axes.shape[1]] = axes / max(np.ptp(axes, axis=0).max(initial=0.0), 1e-300)
    return place_KD

"""Does the twin foresee the second half of its log, given the first and the prompts that the log went on to choose?

The twin is fitted to the first half of the steps, then runs on through the second: the log says which prompts come and how many
rollouts they get, the twin draws their outcomes itself and learns from those. Compared over cells (window of steps x distribution)
with two forecasts that know no learner: each distribution's pass rate of the last quarter of the first half, and its linear trend
there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curricula.types import CurriculaError, Floats, Ints
from trainer.twin.counts import Counts, update_signal
from trainer.twin.fit import N_DRAWS, Twin, fit_counts
from trainer.twin.learner import sigmoid

MOST_WINDOWS = 6
LEAST_RATE = 0.005  # forecasts of 0 and 1 are moved here, for all alike
BASELINES = ("constant", "trend")
FORECASTS = ("twin", *BASELINES)
CHECK_STREAM = 12  # of the seed


@dataclass(frozen=True, eq=False)
class HoldOut:
    """What was foreseen and what came. ``_W`` windows of the second half's steps; cells without rollouts are NaN."""

    names_K: tuple[str, ...]
    first_step: int  # of the second half
    edge_W1: Ints  # steps at which the windows begin, and the end
    n_WK: Ints  # scored rollouts
    seen_WK: Floats  # pass rate
    forecast_FWK: Floats  # in the order of FORECASTS
    low_WK: Floats  # 90 % range of the twin's, chance of the draws included
    high_WK: Floats
    live_W: Floats  # share of groups whose rewards differ
    live_twin_W: Floats
    live_low_W: Floats
    live_high_W: Floats
    loss_F: Floats  # nats per rollout
    floor: float  # of a forecast that knows every cell's pass rate
    rate: tuple[float, float]  # 95 % range of the rate fitted to the first half

    @property
    def inside(self) -> float:
        """Share of cells within the twin's 90 % range."""
        used_WK = self.n_WK > 0
        hit_WK = (self.seen_WK >= self.low_WK - 1e-12) & (self.seen_WK <= self.high_WK + 1e-12)
        return float(hit_WK[used_WK].mean())

    @property
    def complaints(self) -> tuple[str, ...]:
        """Why the twin must not be run on; empty where it may."""
        said = [
            f"no better than the baseline {name!r}: log-loss {self.loss_F[0]:.4f} against {self.loss_F[1 + i]:.4f} nats per rollout"
            for i, name in enumerate(BASELINES)
            if not self.loss_F[0] < self.loss_F[1 + i]
        ]
        if not self.rate[0] > 0:
            low, high = self.rate
            said.append(f"the first half shows no learning from its updates: the rate's 95 % range is {low:.3g} to {high:.3g}")
        return tuple(said)

    @property
    def passed(self) -> bool:
        """Better than both baselines, with a rate above 0."""
        return not self.complaints


def check(counts: Counts, n_draws: int = N_DRAWS, seed: int = 0) -> HoldOut:
    """Fit the first half of the steps, foresee the second. Errors: CurriculaError for fewer than four steps."""
    half = counts.n_steps // 2
    if half < 2:
        raise CurriculaError(
            f"{counts.source}: the hold-out check needs two steps in each half: expected at least 4 steps, got {counts.n_steps}"
        )
    first = counts.before(half)
    twin = fit_counts(first, n_draws, seed)
    n_windows = min(MOST_WINDOWS, counts.n_steps - half)
    edge_W1 = half + np.arange(n_windows + 1) * (counts.n_steps - half) // n_windows
    rate_DG, solved_DG = _run_on(twin, first, counts, half, np.random.default_rng((seed, CHECK_STREAM)))
    return _compared(counts, first, twin, edge_W1, rate_DG, solved_DG)


def _run_on(twin: Twin, first: Counts, counts: Counts, half: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """(D, G') pass rate of each group of the second half at its step, and its solved rollouts, draw by draw."""
    later_G = counts.step_G >= half
    prompt_G, n_G, step_G = counts.prompt_G[later_G], counts.n_G[later_G], counts.step_G[later_G]
    distribution_G, k = counts.distribution_G[later_G], counts.pool.n_distributions
    kept = first.kept_shares()
    step_DKK = twin.rate_D[:, None, None] * np.array([twin.transfer_KK(draw) for draw in range(len(twin))])
    ability_DK = twin.end_DK.copy()
    rate_DG, solved_DG = np.empty((len(twin), len(n_G))), np.empty((len(twin), len(n_G)), np.int64)
    for step in range(half, counts.n_steps):
        now = slice(*np.searchsorted(step_G, [step, step + 1]))
        rate_DG[:, now] = sigmoid(ability_DK[:, distribution_G[now]] - twin.difficulty_DN[:, prompt_G[now]])
        solved_DG[:, now] = rng.binomial(n_G[now], rate_DG[:, now])
        solved_DB = solved_DG[:, now]
        signal_DB = update_signal(solved_DB, n_G[now], kept)
        signal_DK = signal_DB @ (distribution_G[now][:, None] == np.arange(k))
        ability_DK = ability_DK + np.einsum("dk,dkl->dl", signal_DK, step_DKK)
    return rate_DG, solved_DG


def _compared(counts: Counts, first: Counts, twin: Twin, edge_W1: Ints, rate_DG: Floats, solved_DG: Ints) -> HoldOut:
    half, k, w = int(edge_W1[0]), counts.pool.n_distributions, len(edge_W1) - 1
    later_G = counts.step_G >= half
    n_G, k_G, step_G = counts.n_G[later_G], counts.k_G[later_G], counts.step_G[later_G]
    window_G = np.searchsorted(edge_W1, step_G, side="right") - 1
    cell_G = window_G * k + counts.distribution_G[later_G]
    n_C = np.bincount(cell_G, n_G, w * k).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        seen_C = np.bincount(cell_G, k_G, w * k) / n_C
        twin_C = np.bincount(cell_G, n_G * rate_DG.mean(axis=0), w * k) / n_C
        drawn_DC = np.array([np.bincount(cell_G, solved_G, w * k) for solved_G in solved_DG]) / n_C
        middle_C = np.bincount(cell_G, n_G * step_G, w * k) / n_C
    forecast_FC = np.stack([twin_C, *_baselines(first, middle_C.reshape(w, k))])
    forecast_FC = np.clip(forecast_FC, LEAST_RATE, 1 - LEAST_RATE)
    low_C, high_C = np.quantile(drawn_DC, [0.05, 0.95], axis=0)
    groups_W = np.bincount(window_G, minlength=w)
    live_DW = np.array([np.bincount(window_G, (solved_G > 0) & (solved_G < n_G), w) for solved_G in solved_DG]) / groups_W
    live_low_W, live_high_W = np.quantile(live_DW, [0.05, 0.95], axis=0)
    return HoldOut(
        names_K=tuple(map(str, counts.pool.distribution_names)),
        first_step=half,
        edge_W1=edge_W1,
        n_WK=n_C.astype(np.int64).reshape(w, k),
        seen_WK=seen_C.reshape(w, k),
        forecast_FWK=forecast_FC.reshape(-1, w, k),
        low_WK=low_C.reshape(w, k),
        high_WK=high_C.reshape(w, k),
        live_W=np.bincount(window_G, counts.live_G[later_G], w) / groups_W,
        live_twin_W=live_DW.mean(axis=0),
        live_low_W=live_low_W,
        live_high_W=live_high_W,
        loss_F=np.array([_loss(seen_C, n_C, forecast_C) for forecast_C in forecast_FC]),
        floor=_loss(seen_C, n_C, np.clip(seen_C, 1e-12, 1 - 1e-12)),
        rate=(float(np.quantile(twin.rate_D, 0.025)), float(np.quantile(twin.rate_D, 0.975))),
    )


def _baselines(first: Counts, middle_WK: Floats) -> list[Floats]:
    """Flat (W x K) forecasts: the last quarter's pass rate, and the trend at each cell's mean step.

    Where a distribution has no rollout to go by, both take the rate of all.
    """
    k = first.pool.n_distributions
    last_G = first.step_G >= first.n_steps - max(first.n_steps // 4, 1)
    everything = float(first.k_G.sum() / first.n_G.sum())
    constant_K, trend_WK = np.full(k, everything), np.empty_like(middle_WK)
    for i in range(k):
        mine_G = first.distribution_G == i
        for among_G in (mine_G, mine_G & last_G):  # the whole first half where its last quarter has none
            if among_G.any():
                constant_K[i] = first.k_G[among_G].sum() / first.n_G[among_G].sum()
        trend_WK[:, i] = _trend(first, np.flatnonzero(mine_G), middle_WK[:, i], constant_K[i])
    return [np.broadcast_to(constant_K, middle_WK.shape).ravel(), trend_WK.ravel()]


def _trend(first: Counts, mine_G: Ints, at_W: Floats, otherwise: float) -> Floats:
    """Least squares of pass rate on step, weighted by rollouts."""
    weight_G, step_G = first.n_G[mine_G], first.step_G[mine_G].astype(np.float64)
    if len(np.unique(step_G)) < 2:
        return np.full(len(at_W), otherwise)
    rate_G, centre = first.k_G[mine_G] / weight_G, float(np.average(step_G, weights=weight_G))
    off_G = step_G - centre
    slope = float((weight_G * off_G * rate_G).sum() / (weight_G * off_G**2).sum())
    return np.asarray(np.average(rate_G, weights=weight_G) + slope * (at_W - centre))


def _loss(seen_C: Floats, n_C: Floats, forecast_C: Floats) -> float:
    """Nats per rollout of all cells."""
    used_C = n_C > 0
    seen_C, n_C, forecast_C = seen_C[used_C], n_C[used_C], forecast_C[used_C]
    each_C = seen_C * np.log(forecast_C) + (1 - seen_C) * np.log1p(-forecast_C)
    return float(-(n_C * each_C).sum() / n_C.sum())

"""How a score grows with compute: the sigmoid R(C) = R0 + (A - R0) / (1 + (C_mid / C)^B). Source: ScaleRL, arXiv 2510.13786.

Fit: least squares with the binomial noise of every score as its weight (quasi-likelihood). Misfit beyond this noise widens the
intervals, misfit below it does not narrow them: evaluations with the same prompts and seeds err alike, which no residual shows. For
each C_mid and B the best R0 and A are known in closed form, so a grid over the two finds the optimum wherever it is, and the
intervals are profile likelihoods: all values that some curve with an acceptable misfit has. They are of this run and of the prompts
it was measured on: another seed, or other prompts, differ by more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from curricula.statistics import t_quantile
from curricula.types import CurriculaError, Floats

FEWEST = 7  # measurements: four constants, and three to spare
MIDS = (1 / 3, 30.0)  # C_mid lies between a third of the first compute above 0 and thirty times the last one
STEEPNESS = (0.3, 10.0)
GRID = (49, 37)  # of C_mid and B, on log scales
ROUNDS = 3  # of narrowing the grid
SLICES = 9  # of A, for the range of a prediction
MORE = 1.5  # room around what is acceptable, in squares of t


class Range(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """Measurements of one run, by compute."""

    at_E: Floats  # compute done before the measurement
    score_E: Floats  # 0 to 1
    n_E: Floats  # rollouts behind each, as many as its binomial noise speaks for

    def __post_init__(self) -> None:
        if not len(self.at_E) == len(self.score_E) == len(self.n_E):
            raise CurriculaError(f"lr fit: expected as many scores as computes, got {len(self.score_E)} and {len(self.at_E)}")
        if not (np.isfinite(self.at_E).all() and (np.diff(self.at_E) >= 0).all() and (self.at_E >= 0).all()):
            raise CurriculaError("lr fit: expected compute >= 0 in rising order")
        if not ((self.score_E >= 0) & (self.score_E <= 1)).all() or not (self.n_E > 0).all():
            raise CurriculaError("lr fit: expected scores in [0, 1], each with the number of its rollouts")

    def __len__(self) -> int:
        return len(self.at_E)

    def before(self, n: int) -> Scores:
        """The first n."""
        return Scores(self.at_E[:n], self.score_E[:n], self.n_E[:n])


@dataclass(frozen=True)
class Sigmoid:
    """A fitted curve and all that are as good, within 95 %."""

    scores: Scores
    start: Range  # R0
    asymptote: Range  # A; at most 1
    middle: Range  # C_mid, where half of the way is done
    steepness: Range  # B
    noise: float  # variance of the residuals / binomial variance; the intervals count it as 1 at least
    drag: float  # factor on it for neighbours that err alike; 1 = independent
    accepted: _Accepted

    @property
    def bent(self) -> bool:
        """Whether the run tells its asymptote: its interval ends below 1, or is shorter than half of the rise so far."""
        rise = float(self.predict(self.scores.at_E[-1:])[0][0]) - self.start.value
        return self.asymptote.high < 1 or self.asymptote.high - self.asymptote.low < rise / 2

    def predict(self, at_U: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """(U,) the curve and its pointwise 95 % range, of the expected score, at computes ``at_U``."""
        asked_U = np.asarray(at_U, dtype=np.float64)
        share_U = _share(asked_U, np.log([self.middle.value]), np.log([self.steepness.value]))[0]
        value_U = self.start.value + (self.asymptote.value - self.start.value) * share_U
        low_U, high_U = self.accepted.range(asked_U)
        return value_U, np.minimum(low_U, value_U), np.maximum(high_U, value_U)

    def noise_of(self, score_U: Floats, n: float) -> Floats:
        """Standard error of a measurement with n rollouts."""
        return np.sqrt(max(self.noise, 1.0) * _variance(score_U, np.full(len(score_U), n)))


class _Grid(NamedTuple):
    """Curves by C_mid and B (``_H``), with what least squares says of R0 and A given these."""

    log_mid_H: Floats
    log_b_H: Floats
    r_H: Floats  # R0
    a_H: Floats  # A, not above 1
    rss_H: Floats  # with A not above 1
    free_a_H: Floats  # A without the bound
    free_rss_H: Floats
    a_variance_H: Floats  # in units of the noise
    r_per_a_H: Floats  # R0 moves by so much per unit of A
    r_variance_H: Floats  # given A


class _Accepted(NamedTuple):
    """Curves whose misfit is acceptable: A in slices, R0 with what is left."""

    log_mid_H: Floats
    log_b_H: Floats
    a_HS: Floats
    r_HS: Floats
    r_reach_HS: Floats

    def range(self, at_U: Floats) -> tuple[Floats, Floats]:
        share_HU = _share(at_U, self.log_mid_H, self.log_b_H)
        low_U, high_U = np.ones(len(at_U)), np.zeros(len(at_U))
        for u in range(len(at_U)):
            s_H = share_HU[:, u, None]
            value_HS, reach_HS = self.r_HS * (1 - s_H) + self.a_HS * s_H, self.r_reach_HS * (1 - s_H)
            low_U[u], high_U[u] = (value_HS - reach_HS).min(), (value_HS + reach_HS).max()
        return np.clip(low_U, 0, 1), np.clip(high_U, 0, 1)


def fit_sigmoid(scores: Scores) -> Sigmoid:
    """The curve of a run's scores over compute, with intervals.

    Errors: CurriculaError for fewer than seven measurements at different computes, and for scores that do not rise: C_mid and B
    would be of nothing.
    """
    _refuse_what_has_no_curve(scores)
    low, high = scores.at_E[scores.at_E > 0][0] * MIDS[0], scores.at_E[-1] * MIDS[1]
    wide = ((math.log(low), math.log(high)), (math.log(STEEPNESS[0]), math.log(STEEPNESS[1])))
    variance_E = _variance(np.full(len(scores), np.average(scores.score_E, weights=scores.n_E)), scores.n_E)
    for _ in range(2):  # weights from the curve, not from the scores that they weigh
        grid = _grid(scores, variance_E, wide)
        variance_E = _variance(_curve(grid, scores.at_E), scores.n_E)
    drag = _drag(grid, scores, variance_E)
    degrees = len(scores) - 4
    square = t_quantile(0.975, degrees) ** 2 * drag
    box = wide
    for _ in range(ROUNDS):
        grid = _grid(scores, variance_E, box)
        least = float(grid.rss_H.min())
        box = _around(grid, least + MORE * square * max(least / degrees, 1.0), box)
    grid = _grid(scores, variance_E, box)
    least = float(grid.rss_H.min())
    most = least + square * max(least / degrees, 1.0)
    best, good_H = int(grid.rss_H.argmin()), grid.rss_H <= most
    accepted = _slices(grid, good_H, most)
    middle, steepness = (
        Range(float(np.exp(x_H[best])), *_ends(x_H[good_H], ends))
        for x_H, ends in zip((grid.log_mid_H, grid.log_b_H), wide, strict=True)
    )
    r, a = float(np.clip(grid.r_H[best], 0, 1)), float(np.clip(grid.a_H[best], 0, 1))
    reach_HS = accepted.r_reach_HS
    start = Range(r, *np.clip([(accepted.r_HS - reach_HS).min(), (accepted.r_HS + reach_HS).max()], 0, 1).tolist())
    asymptote = Range(a, *np.clip([accepted.a_HS.min(), accepted.a_HS.max()], 0, 1).tolist())
    return Sigmoid(scores, start, asymptote, middle, steepness, least / degrees, drag, accepted)


def _refuse_what_has_no_curve(scores: Scores) -> None:
    n = len(np.unique(scores.at_E))
    if n < FEWEST:
        raise CurriculaError(
            f"lr fit: expected {FEWEST} measurements at different computes or more (the curve has four constants), got {n}; "
            "set evaluation.every so that a run is measured more often"
        )
    rank = np.arange(len(scores)) - (len(scores) - 1) / 2
    slope = float(rank @ scores.score_E / (rank @ rank))
    off = scores.score_E - scores.score_E.mean() - slope * rank
    error = math.sqrt(float(off @ off) / (len(scores) - 2) / float(rank @ rank))
    if slope <= t_quantile(0.975, len(scores) - 2) * error:
        change = slope * (len(scores) - 1)
        raise CurriculaError(
            f"lr fit: the scores do not rise: over {len(scores)} measurements their line goes by {change:+.3f}, within noise; "
            "there is no curve to fit"
        )


def _share(at_U: Floats, log_mid_H: Floats, log_b_H: Floats) -> Floats:
    """(H, U) share of the way from R0 to A."""
    with np.errstate(divide="ignore"):
        log_U = np.log(at_U)
    z_HU = np.exp(log_b_H)[:, None] * (log_U - log_mid_H[:, None])
    return np.asarray(0.5 * (1 + np.tanh(z_HU / 2)))


def _variance(score_E: Floats, n_E: Floats) -> Floats:
    """Binomial, as if each score was half a rollout from its ends at least."""
    inside_E = np.clip(score_E, 0.5 / n_E, 1 - 0.5 / n_E)
    return np.asarray(inside_E * (1 - inside_E) / n_E)


def _grid(scores: Scores, variance_E: Floats, box: tuple[tuple[float, float], tuple[float, float]]) -> _Grid:
    """R0 and A by weighted least squares for every C_mid and B."""
    axes = [np.linspace(*ends, n) for ends, n in zip(box, GRID, strict=True)]
    log_mid_H, log_b_H = (x.ravel() for x in np.meshgrid(*axes, indexing="ij"))
    s_HE = _share(scores.at_E, log_mid_H, log_b_H)
    weight_E = 1 / variance_E
    y_E = scores.score_E
    uu_H, us_H, ss_H = ((1 - s_HE) ** 2 @ weight_E, (s_HE * (1 - s_HE)) @ weight_E, s_HE**2 @ weight_E)
    uy_H, sy_H = (1 - s_HE) @ (weight_E * y_E), s_HE @ (weight_E * y_E)
    left_H = np.maximum(ss_H - us_H**2 / uu_H, 1e-12 * ss_H.max())
    free_a_H = (sy_H - us_H * uy_H / uu_H) / left_H
    off_HE = y_E - (1 - s_HE) * ((uy_H - free_a_H * us_H) / uu_H)[:, None] - s_HE * free_a_H[:, None]
    free_rss_H = off_HE**2 @ weight_E
    a_H = np.minimum(free_a_H, 1.0)
    rss_H = free_rss_H + (free_a_H - a_H) ** 2 * left_H
    r_H = (uy_H - a_H * us_H) / uu_H
    return _Grid(log_mid_H, log_b_H, r_H, a_H, rss_H, free_a_H, free_rss_H, 1 / left_H, -us_H / uu_H, 1 / uu_H)


def _curve(grid: _Grid, at_E: Floats) -> Floats:
    """The best one's scores."""
    best = grid.rss_H.argmin()
    share_E = _share(at_E, grid.log_mid_H[best : best + 1], grid.log_b_H[best : best + 1])[0]
    return np.asarray(grid.r_H[best] + (grid.a_H[best] - grid.r_H[best]) * share_E)


def _drag(grid: _Grid, scores: Scores, variance_E: Floats) -> float:
    """(1 + r) / (1 - r) where the residuals' correlation r with their neighbours is beyond chance; 1 otherwise."""
    off_E = (scores.score_E - _curve(grid, scores.at_E)) / np.sqrt(variance_E)
    square = float(off_E @ off_E)
    r = float(off_E[1:] @ off_E[:-1]) / square if square > 0 else 0.0
    return (1 + r) / (1 - r) if r > 1 / math.sqrt(len(off_E)) else 1.0


def _around(
    grid: _Grid, most: float, box: tuple[tuple[float, float], tuple[float, float]]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The smallest box with everything acceptable and a row around it."""
    good_H = grid.rss_H <= most
    found = []
    for x_H, (low, high), n in zip((grid.log_mid_H, grid.log_b_H), box, GRID, strict=True):
        row = (high - low) / (n - 1)
        found.append((max(low, float(x_H[good_H].min()) - row), min(high, float(x_H[good_H].max()) + row)))
    return found[0], found[1]


def _slices(grid: _Grid, good_H: np.ndarray, most: float) -> _Accepted:
    """Each acceptable C_mid and B with A over what its misfit allows, and R0 with what is then left."""
    reach_H = np.sqrt(np.maximum(most - grid.free_rss_H[good_H], 0) * grid.a_variance_H[good_H])
    free_H = grid.free_a_H[good_H]
    low_H, high_H = np.minimum(free_H - reach_H, 1.0), np.minimum(free_H + reach_H, 1.0)
    a_HS = low_H[:, None] + (high_H - low_H)[:, None] * np.linspace(0, 1, SLICES)
    moved_HS = a_HS - grid.a_H[good_H][:, None]
    r_HS = grid.r_H[good_H][:, None] + grid.r_per_a_H[good_H][:, None] * moved_HS
    spent_HS = grid.free_rss_H[good_H][:, None] + (a_HS - free_H[:, None]) ** 2 / grid.a_variance_H[good_H][:, None]
    r_reach_HS = np.sqrt(np.maximum(most - spent_HS, 0) * grid.r_variance_H[good_H][:, None])
    return _Accepted(grid.log_mid_H[good_H], grid.log_b_H[good_H], a_HS, r_HS, r_reach_HS)


def _ends(x_H: Floats, ends: tuple[float, float]) -> tuple[float, float]:
    """On the scale of the values; 0 and infinity where the grid ended first."""
    room = 1e-9 * (ends[1] - ends[0])
    low, high = float(x_H.min()), float(x_H.max())
    return (0.0 if low <= ends[0] + room else math.exp(low)), (math.inf if high >= ends[1] - room else math.exp(high))

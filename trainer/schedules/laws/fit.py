"""A law's constants from the loss curves of two or three runs, and how far it misses a run that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from curricula.types import CurriculaError, Floats, Ints
from trainer.schedules.laws.law import Law
from trainer.schedules.laws.path import Path, checked_rates, checked_updates, path_of

HUBER = 1e-3  # on log loss, as both papers fit: about a thousandth of the loss counts in squares, what is beyond in proportion
MOST_POINTS = 100  # of a curve; more are averaged
FEWEST_POINTS = 12
COARSE, FINE = 48, 128  # portions of a schedule's reductions, for the first looks and for the fit
N_STARTS = 4
MOST_STEPS = 80


class LossCurve(NamedTuple):
    """One run: the rate of every update and the loss after some of them."""

    name: str
    eta_T: Floats
    at_M: Ints  # updates, 0 = the first
    loss_M: Floats


class HeldOut(NamedTuple):
    """A run that was predicted by a law fitted to the other runs."""

    name: str
    error: float  # nats: the largest of the mean misses over tenths of the curve
    at_end: float  # nats: predicted - measured, mean over the last tenth


@dataclass(frozen=True)
class LawFit:
    """A fitted law with its errors."""

    law: Law
    residual: float  # nats: root mean square over the points it was fitted to
    held_out: tuple[HeldOut, ...]  # each run left out in turn

    @property
    def error(self) -> float:
        """The law's stated error in nats: the worst held-out run's. Differences below it are not told apart.

        It is an estimate from two or three runs and no bound: a schedule unlike all of them may be missed by more.
        """
        return max(run.error for run in self.held_out)

    def __str__(self) -> str:
        missed = ", ".join(f"{run.name} {run.error:.4f} (at its end {run.at_end:+.4f})" for run in self.held_out)
        return f"{self.law}\nresidual {self.residual:.4f}; error on runs left out {self.error:.4f}: {missed}"


def loss_curve(name: str, eta_T: ArrayLike, at_M: ArrayLike, loss_M: ArrayLike) -> LossCurve:
    """A curve as the fit takes it: points before the rate's first maximum (the warm-up, of which the laws do not speak) are left
    out, and more than 100 are averaged between neighbours.

    Errors: CurriculaError for losses that are not finite and above 0, and fewer than twelve points.
    """
    rates_T = checked_rates(eta_T)
    asked_M, found_M = checked_updates(at_M, rates_T), np.asarray(loss_M, dtype=np.float64)
    if found_M.shape != asked_M.shape or not (np.isfinite(found_M).all() and (found_M > 0).all()):
        raise CurriculaError(f"loss curve {name}: expected a finite loss above 0 for each of {len(asked_M)} updates")
    order = np.argsort(asked_M, kind="stable")
    order = order[asked_M[order] >= rates_T.argmax()]
    if len(order) < FEWEST_POINTS:
        raise CurriculaError(f"loss curve {name}: expected {FEWEST_POINTS} points or more after the warm-up, got {len(order)}")
    parts = np.array_split(order, min(len(order), MOST_POINTS))
    middle_M = np.array([round(asked_M[part].mean()) for part in parts])
    return LossCurve(name, rates_T, middle_M, np.array([found_M[part].mean() for part in parts]))


def fit_law(kind: type[Law], curves: Sequence[LossCurve]) -> LawFit:
    """The law with the least Huber loss on log loss, from several starts; then again without each run, which it has to predict.

    Runs of one model, data set, batch size and peak, with different schedules (say constant, cosine and two stages). Two runs are
    the fewest; with two, each is predicted from one run, and the stated error is as large as that deserves.
    Errors: CurriculaError for fewer than two runs.
    """
    if len(curves) < 2:
        raise CurriculaError(
            f"loss law: expected the curves of two or more runs with different schedules, got {len(curves)}; without a run to "
            "leave out no error can be stated"
        )
    law = _best(kind, curves)
    off = np.concatenate([law.losses(curve.eta_T, curve.at_M) - curve.loss_M for curve in curves])
    held_out = (_missed(_best(kind, [*curves[:i], *curves[i + 1 :]]), curve) for i, curve in enumerate(curves))
    return LawFit(law, float(np.sqrt((off**2).mean())), tuple(held_out))


def _missed(law: Law, curve: LossCurve) -> HeldOut:
    """Means over tenths, so that the noise of single points is not counted as the law's."""
    off = law.losses(curve.eta_T, curve.at_M) - curve.loss_M
    means = [float(part.mean()) for part in np.array_split(off, min(10, len(off)))]
    return HeldOut(curve.name, max(abs(mean) for mean in means), means[-1])


def _best(kind: type[Law], curves: Sequence[LossCurve]) -> Law:
    log_M = np.log(np.concatenate([curve.loss_M for curve in curves]))
    coarse, fine = ([path_of(curve.eta_T, curve.at_M, most) for curve in curves] for most in (COARSE, FINE))
    total, peak = max(path.total_M[-1] for path in coarse), max(curve.eta_T.max() for curve in curves)
    begun = [_linear(law, coarse, np.exp(log_M)) for law in kind.starts(float(total), float(peak))]
    begun = sorted(begun, key=lambda law: _huber(_off(law, coarse, log_M)))[:N_STARTS]
    looked = [_descend(kind, law, coarse, log_M) for law in begun]
    best = min(looked, key=lambda law: _huber(_off(law, coarse, log_M)))
    return _descend(kind, best, fine, log_M)


def _linear(law: Law, paths: Sequence[Path], loss_M: Floats) -> Law:
    """Floor, scale and drop by least squares given the rest; what comes out below 0 is set just above."""
    term_M = np.concatenate([path.total_M**-law.alpha for path in paths])
    gain_M = np.concatenate([law.gain_MC(path) @ path.by_C for path in paths])
    columns = np.stack([np.ones_like(term_M), term_M, -gain_M], axis=1)
    size = np.maximum(np.abs(columns).max(axis=0), 1e-12)
    found = np.linalg.lstsq(columns / size, loss_M, rcond=None)[0]
    floor, scale, drop = (np.maximum(found, 1e-3 * loss_M.min()) / size).tolist()
    return replace(law, floor=floor, scale=scale, drop=drop)


def _off(law: Law, paths: Sequence[Path], log_M: Floats) -> Floats:
    """Log of what the law says less log of the loss; what it takes below a hundredth of the least loss is that far off."""
    said = np.concatenate([law.along(path) for path in paths])
    return np.asarray(np.log(np.maximum(said, 0.01 * np.exp(log_M.min()))) - log_M)


def _huber(off: Floats) -> float:
    size = np.abs(off)
    return float(np.where(size < HUBER, size**2 / 2, HUBER * (size - HUBER / 2)).sum())


def _descend(kind: type[Law], law: Law, paths: Sequence[Path], log_M: Floats) -> Law:
    """Levenberg and Marquardt's method on reweighted squares."""

    def off_at(x: Floats) -> Floats:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.nan_to_num(_off(kind.of_numbers(x), paths, log_M), nan=1e3, posinf=1e3)

    x, damping = law.numbers(), 1e-3
    off, slope = off_at(x), _slopes(off_at, x)
    for _ in range(MOST_STEPS):
        weight = np.minimum(1.0, HUBER / np.maximum(np.abs(off), 1e-300))
        squares = slope.T @ (weight[:, None] * slope)
        scale = np.diag(np.maximum(np.diag(squares), 1e-12))
        step = -np.linalg.lstsq(squares + damping * scale, slope.T @ (weight * off), rcond=None)[0]
        tried = x + np.clip(step, -1.0, 1.0)
        off_tried = off_at(tried)
        gain = _huber(off) - _huber(off_tried)
        if gain <= 0:
            damping *= 8
            if damping > 1e8:
                break
            continue
        x, off, damping = tried, off_tried, max(damping / 4, 1e-9)
        if gain < 1e-7 * _huber(off):
            break
        slope = _slopes(off_at, x)
    return kind.of_numbers(x)


def _slopes(off_at: Callable[[Floats], Floats], x: Floats, h: float = 1e-5) -> Floats:
    """(M, P) by central differences."""
    sides = [(off_at(x + h * row), off_at(x - h * row)) for row in np.eye(len(x))]
    return np.stack([(above - below) / (2 * h) for above, below in sides], axis=1)

"""`curricula lr refine`: the schedule that a run's own gradient norms ask for, as YAML for the next run. arXiv 2310.07831."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from curricula.types import CurriculaError, Floats
from trainer import strict_yaml
from trainer.lr.from_logs.updates import LoggedUpdates, read_updates, refuse_unlike
from trainer.schedules.convex_bound import transferred_peak
from trainer.schedules.refine import Form, refined, smoothed

N_POINTS = 101  # of the table
LEAST_WARMUP = 0.02  # multiplier, where the curve rises
FLOOR = 0.1
LEAST_CORRELATION = 0.5
MOST_CORRECTION = 4.0  # factor on a squared norm, either way
DIGITS = 4


@dataclass(frozen=True)
class Refining:
    """How."""

    form: Form = "adam"
    final: bool = False  # the run is the last: down to 0

    def __post_init__(self) -> None:
        if self.form not in ("sgd", "adam"):
            raise CurriculaError(f"lr refine: expected --form adam or sgd, got {self.form!r}")


class Refined(NamedTuple):
    """A schedule and how it came to be."""

    multiplier_P: Floats  # at even distances over the clock
    correlation: float  # of the two halves of the log
    notes: tuple[str, ...]


def refine_command(folders: Sequence[Path], terms: Refining, out: Path | None, console: Console) -> None:
    """Print the schedule, or write it to a file.

    Errors: CurriculaError for runs with too few updates, and whatever `refine` refuses.
    """
    runs = [read_updates(folder) for folder in folders]
    found = refine(runs, terms)
    text = snippet(runs, found)
    if out is None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    for note in found.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(str(out), highlight=False, soft_wrap=True)


def refine(runs: Sequence[LoggedUpdates], terms: Refining) -> Refined:
    """Of one run, or of several that agree in what makes norms comparable: the geometric mean of their smoothed norms.

    Errors: CurriculaError where the runs differ, or where the two halves of the log (odd and even updates) do not tell the same.
    """
    refuse_unlike(runs)
    notes: list[str] = []
    norms = [_norms(run, terms.form, notes) for run in runs]
    agreement = correlation_of_halves(runs, norms)
    if not agreement >= LEAST_CORRELATION:
        raise CurriculaError(
            f"lr refine: norms of odd and of even updates correlate by {agreement:.2f} once smoothed, expected "
            f"{LEAST_CORRELATION} or more: their course is noise. Constant norms ask for a straight line: schedule {{name: linear}}"
        )
    curve = refined(_curve(runs, norms), terms.form)
    return Refined(_guarded(curve, terms.final), agreement, tuple(dict.fromkeys(notes)))


def correlation_of_halves(runs: Sequence[LoggedUpdates], norms: Sequence[Floats]) -> float:
    """Of the smoothed logarithms of the norms of odd and of even updates."""
    odd, even = (_curve(runs, norms, slice(start, None, 2)) for start in (1, 0))
    if np.ptp(odd) <= 1e-12 * odd.mean() or np.ptp(even) <= 1e-12 * even.mean():
        return 0.0
    return float(np.corrcoef(np.log(odd), np.log(even))[0, 1])


def _curve(runs: Sequence[LoggedUpdates], norms: Sequence[Floats], part: slice = slice(None)) -> Floats:
    """(P,) smoothed on the clock's axis, not on that of updates."""
    logs = []
    for run, norm_T in zip(runs, norms, strict=True):
        share, norm = run.share_T[part], norm_T[part]
        n = max(len(norm), N_POINTS)
        even = np.interp(np.linspace(share[0], share[-1], n), share, norm)
        logs.append(np.interp(np.linspace(0, 1, N_POINTS), np.linspace(0, 1, n), np.log(smoothed(even))))
    return np.asarray(np.exp(np.mean(logs, axis=0)))


def _norms(run: LoggedUpdates, form: Form, notes: list[str]) -> Floats:
    """The norms that the form asks for."""
    if form == "adam" and run.l1_T is not None:
        return run.l1_T
    if form == "adam":
        notes.append(
            "# the log has no l1 norms, which Adam's form asks for (learner.statistics: [grad_norm_l1]); l2 norms stand in for them"
        )
    return np.sqrt(run.norm_T**2 * _noise_correction(run, notes))


def _noise_correction(run: LoggedUpdates, notes: list[str]) -> Floats:
    """(T,) (S + N / n_ref) / (S + N / n): what a batch of the usual number of groups would have had in place of |g|^2."""
    if run.signal_T is None or run.noise_T is None or run.groups_T is None:
        notes.append("# the log has no signal and noise of gradients (learner.statistics: [gradient_noise]); norms are as logged")
        return np.ones(len(run))
    signal, noise = np.maximum(smoothed(run.signal_T), 0.0), np.maximum(smoothed(run.noise_T), 0.0)
    as_was, usual = signal + noise / run.groups_T, signal + noise / np.median(run.groups_T)
    ratio_T = np.where(as_was > 0, usual / np.where(as_was > 0, as_was, 1.0), 1.0)
    return np.asarray(np.clip(ratio_T, 1 / MOST_CORRECTION, MOST_CORRECTION))


def _guarded(curve: Floats, final: bool) -> Floats:
    """Not below 0.02 where it rises to its top; behind, down to the floor unless the run is the last one."""
    top = int(np.argmax(curve))
    at = np.arange(len(curve))
    behind = curve if final else FLOOR + (1 - FLOOR) * curve
    return np.round(np.where(at < top, np.maximum(curve, LEAST_WARMUP), behind), DIGITS)


def peak_for(run: LoggedUpdates, multiplier_P: Floats) -> float:
    """The run's peak, carried over from the rates that it used to the table, by the convex bound with its norms."""
    table_T = np.interp(run.share_T, np.linspace(0, 1, len(multiplier_P)), multiplier_P)
    return transferred_peak(run.peak, run.multiplier_T, table_T, smoothed(run.norm_T))


def schedule_of(runs: Sequence[LoggedUpdates], found: Refined) -> dict[str, Any]:
    """What ``schedule:`` takes: the table on the first run's clock, with its horizon and its controllers."""
    old = runs[0].recipe.schedule
    peak = float(np.exp(np.mean([np.log(peak_for(run, found.multiplier_P)) for run in runs])))
    kept: dict[str, Any] = {key: old[key] for key in ("clock", "horizon", "controllers") if key in old}
    return {"name": "table", "peak": float(f"{peak:.3g}"), **kept, "multipliers": found.multiplier_P.tolist()}


def snippet(runs: Sequence[LoggedUpdates], found: Refined) -> str:
    """YAML with its origin as comments."""
    updates = sum(len(run) for run in runs)
    head = [
        f"# refined from {updates} updates of {', '.join(str(run.folder) for run in runs)} (arXiv 2310.07831)",
        f"# norms of odd and even updates correlate by {found.correlation:.2f}; the theory is of convex losses and SGD",
        f"# the peak is {runs[0].peak:g} of the old schedule, carried over by the convex bound; tune it anew where you can",
        *found.notes,
    ]
    return "\n".join(head) + "\n" + strict_yaml.dump({"schedule": schedule_of(runs, found)})

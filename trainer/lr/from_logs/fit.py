"""What `curricula lr fit` prints and draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from curricula.types import CurriculaError
from trainer.lr.from_logs.measurements import MEANING, Measured, measured
from trainer.lr.from_logs.sigmoid import FEWEST, Range, Sigmoid, fit_sigmoid
from trainer.lr.pictures import in_percent, picture, say_files
from trainer.report.style import ordered_colours
from trainer.run_log import read_run_log

FAR = 2.0  # times the last compute: what is foreseen beyond is marked
NOTE = (
    "A curve of four constants, arXiv 2510.13786; 95 % intervals by profile likelihood, of these runs on these prompts. Other "
    "prompts shift all points of a run by about its error over prompts; another seed is another run. An interval is no better than "
    "the form: see whether the run's first part foresaw its last."
)
MISSED = (
    "the curve of its first three quarters missed its last one: it is no such sigmoid; believe nothing beyond what was measured"
)
NOTE_TRAINING = (
    "Training scores are of the prompts that the curriculum chose: a curriculum that moves to harder ones bends the curve."
)


class Fitted(NamedTuple):
    """One run."""

    name: str
    measured: Measured
    curve: Sigmoid
    foreseen: Foreseen | None


class Foreseen(NamedTuple):
    """The mean of the last quarter of the measurements, by a curve of those before, with the range for what is measured."""

    said: Range
    came: float

    @property
    def inside(self) -> bool:
        """Whether what came lies in the range."""
        return self.said.low <= self.came <= self.said.high


def fit_command(runs: Sequence[Path], unit: str, of: str, predict: float | None, out: Path, console: Console) -> None:
    """A column of numbers per run, and one picture.

    Errors: CurriculaError for a folder without a run, and for runs that no curve can be fitted to.
    """
    if not runs:
        raise CurriculaError("lr fit: expected folders of runs, as `curricula train` writes them")
    if predict is not None and not (math.isfinite(predict) and predict > 0):
        raise CurriculaError(f"lr fit: --predict expects {unit} above 0, got {predict}")
    fitted = [_fit(run, name, unit, of) for run, name in zip(runs, _names(runs), strict=True)]
    console.print(_table(fitted, unit, predict))
    for one in fitted:
        if one.foreseen is not None and not one.foreseen.inside:
            console.print(f"{one.name}: {MISSED}", style="bold red", highlight=False, soft_wrap=True)
    console.print(NOTE, style="yellow", highlight=False)
    if of == "training":
        console.print(NOTE_TRAINING, style="yellow", highlight=False)
    draw(fitted, unit, predict, out)
    say_files(out, console)


def foreseen(curve: Sigmoid) -> Foreseen | None:
    """None where the first three quarters are too few, or do not rise."""
    scores = curve.scores
    n_last = max(len(scores) // 4, 1)
    if len(scores) - n_last < FEWEST:
        return None
    try:
        first = fit_sigmoid(scores.before(len(scores) - n_last))
    except CurriculaError:
        return None
    at_U, n = scores.at_E[-n_last:], float(scores.n_E[-n_last:].sum())
    value, low, high = (float(x_U.mean()) for x_U in first.predict(at_U))
    noise = 2 * float(first.noise_of(np.array([value]), n)[0])
    said = Range(value, max(value - math.hypot(value - low, noise), 0.0), min(value + math.hypot(high - value, noise), 1.0))
    return Foreseen(said, float(np.average(scores.score_E[-n_last:], weights=scores.n_E[-n_last:])))


def draw(fitted: Sequence[Fitted], unit: str, predict: float | None, stem: Path) -> None:
    """Points with a standard error, curves and bands; dashed where nothing was measured."""
    with picture(stem, 4.2) as figure:
        axis = figure.subplots()
        for one, colour in zip(fitted, ordered_colours(len(fitted)), strict=True):
            _draw_one(axis, one, colour, predict)
        axis.set_title(f"score over {MEANING[unit]}: points ± 1 standard error, fit and 95 % band", loc="left")
        axis.set_xlabel(MEANING[unit])
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        in_percent(axis.yaxis)
        axis.xaxis.set_major_formatter(lambda x, _: _count(x))
        axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _fit(run: Path, name: str, unit: str, of: str) -> Fitted:
    found = measured(read_run_log(run), unit, of)
    try:
        curve = fit_sigmoid(found.scores)
    except CurriculaError as error:
        raise CurriculaError(f"{run}: {error}") from error
    return Fitted(name, found, curve, foreseen(curve))


def _names(runs: Sequence[Path]) -> list[str]:
    """Last parts of the paths, as many as tell them apart."""
    parts = [run.resolve().parts for run in runs]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-n:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    raise CurriculaError("lr fit: the same run was given twice")


def _draw_one(axis: Axes, one: Fitted, colour: str, predict: float | None) -> None:
    scores, last = one.curve.scores, float(one.curve.scores.at_E[-1])
    at = np.linspace(0, max(last, predict or 0.0), 161)
    value, low, high = one.curve.predict(at)
    seen = at <= last
    error = one.curve.noise_of(one.curve.predict(scores.at_E)[0], float(scores.n_E.mean()))
    axis.errorbar(scores.at_E, scores.score_E, yerr=error, fmt="o", color=colour, markersize=3, elinewidth=0.8)
    axis.plot(at[seen], value[seen], color=colour, label=_label(one))
    axis.plot(at[~seen], value[~seen], color=colour, linestyle="--", linewidth=1.2)
    axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)


def _table(fitted: Sequence[Fitted], unit: str, predict: float | None) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column(f"compute in {MEANING[unit]}", overflow="fold")
    for one in fitted:
        table.add_column(one.name, justify="right", overflow="fold")
    curves = [one.curve for one in fitted]
    table.add_row("measurements, to", *(f"{len(c.scores)}, {_count(float(c.scores.at_E[-1]))}" for c in curves))
    table.add_row("score at the start, R0", *(_percent(c.start) for c in curves))
    table.add_row("score it levels off at, A", *(_asymptote(c) for c in curves))
    table.add_row("half of the way at, C_mid", *(_open(c.middle, _count) for c in curves))
    table.add_row("steepness, B", *(_open(c.steepness, "{:.2g}".format) for c in curves))
    table.add_row("misfit / binomial noise", *(_misfit(c) for c in curves))
    table.add_row("error over prompts", *(_or_dash(one.measured.prompt_error) for one in fitted))
    table.add_row("last quarter, foreseen by the rest", *(_foreseen(one.foreseen) for one in fitted))
    if predict is not None:
        table.add_row(f"score at {_count(predict)}", *(_predicted(c, predict) for c in curves))
    return table


def _label(one: Fitted) -> str:
    warned = "\nmissed its own last quarter" if one.foreseen is not None and not one.foreseen.inside else ""
    return f"{one.name}\n{_asymptote(one.curve)}{warned}"


def _percent(range_: Range) -> str:
    return f"{100 * range_.value:.1f} % [{100 * range_.low:.1f}, {100 * range_.high:.1f}]"


def _asymptote(curve: Sigmoid) -> str:
    if curve.bent:
        return f"A = {_percent(curve.asymptote)}"
    return f"A at least {100 * curve.asymptote.low:.1f} %: it has not bent yet"


def _open(range_: Range, words: Callable[[float], str]) -> str:
    """A range; an end of the search is none of it."""
    if range_.low > 0 and math.isinf(range_.high):
        return f"at least {words(range_.low)}"
    if range_.low == 0 and math.isfinite(range_.high):
        return f"at most {words(range_.high)}"
    if range_.low == 0:
        return "not told"
    return f"{words(range_.value)} [{words(range_.low)}, {words(range_.high)}]"


def _misfit(curve: Sigmoid) -> str:
    return f"{curve.noise:.2f}{f', neighbours alike x {curve.drag:.1f}' if curve.drag > 1 else ''}"


def _foreseen(found: Foreseen | None) -> str:
    if found is None:
        return "-"
    verdict = "inside" if found.inside else "MISSED"
    return f"{_percent(found.said)}, came {100 * found.came:.1f}: {verdict}"


def _predicted(curve: Sigmoid, at: float) -> str:
    value, low, high = (float(x_U[0]) for x_U in curve.predict([at]))
    far = ", far beyond what was measured" if at > FAR * curve.scores.at_E[-1] else ""
    return f"{_percent(Range(value, low, high))}{far}"


def _or_dash(error: float) -> str:
    return f"± {100 * error:.1f} %" if math.isfinite(error) else "-"


def _count(value: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{value:.4g}"

"""The pictures of a simulation: curves and differences of one setting, and the regime map of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure

from trainer.report.style import PAPER, ordered_colours
from trainer.simulate.compare import N_POINTS, REFERENCE, Comparison, Row
from trainer.simulate.run import ORACLE
from trainer.simulate.sweep import Regime
from trainer.simulate.tables import ordered

REFERENCE_COLOUR, ORACLE_COLOUR = "#1f2328", "#8a8f98"
DIVERGING = LinearSegmentedColormap.from_list("gain", ["#c4572a", "#f3d9cb", "#ffffff", "#cfe0f3", "#2f6fc0"])


def draw_comparison(comparison: Comparison, stem: Path) -> list[Path]:
    """Curves on the left, final differences to uniform with intervals on the right; PNG and SVG."""
    rows = ordered(comparison.rows)
    colours = _colours(rows)
    height = max(3.6, 0.27 * len(rows) + 1.5)
    with mpl.rc_context(PAPER):
        figure = Figure(figsize=(11.0, height), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
        _curves(left, comparison, rows, colours)
        _differences(right, rows[1:], colours)
        return _save(figure, stem)


def draw_map(regimes: Sequence[Regime], stem: Path) -> list[Path]:
    """Recipes down, regimes across; colour and number are points over uniform, ties are grey in brackets."""
    names = [row.name for row in regimes[0].comparison.rows[1:]]
    value = np.array([[100 * regime.comparison.row(name).difference.mean for regime in regimes] for name in names])
    word = [[regime.comparison.row(name).difference.word for regime in regimes] for name in names]
    with mpl.rc_context(PAPER):
        figure = Figure(figsize=(2.2 + 0.78 * len(regimes), 1.7 + 0.34 * len(names)), layout="constrained")
        axis = figure.subplots()
        bound = max(float(np.abs(value[:-1]).max(initial=0.0)), 1e-9)  # by the recipes; the oracle may be beyond the scale
        axis.set_facecolor("#f1f2f3")  # shows through where recipes tie
        told_apart = np.where([[cell == "ties" for cell in line] for line in word], np.nan, value)
        axis.imshow(told_apart, cmap=DIVERGING, norm=TwoSlopeNorm(0.0, -bound, bound), aspect="auto", interpolation="nearest")
        for i, j in np.ndindex(value.shape):
            tie = word[i][j] == "ties"
            shown = f"({value[i, j]:+.1f})" if tie else f"{value[i, j]:+.1f}"
            dark = not tie and abs(value[i, j]) > 0.72 * bound
            axis.text(
                j,
                i,
                shown,
                ha="center",
                va="center",
                color="#8a8f98" if tie else "white" if dark else REFERENCE_COLOUR,
                fontsize=8.5,
            )
        _map_axes(axis, names, regimes)
        return _save(figure, stem)


def _map_axes(axis: Axes, names: Sequence[str], regimes: Sequence[Regime]) -> None:
    axis.set_yticks(range(len(names)), names)
    labels = ["\n".join(f"{value:g}" for value in regime.values.values()) for regime in regimes]
    axis.set_xticks(range(len(regimes)), labels)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.set_xticks(np.arange(len(regimes) - 1) + 0.5, minor=True)
    axis.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
    axis.grid(visible=True, which="minor", color="white", alpha=1.0, linewidth=2)
    axis.tick_params(which="minor", length=0)
    keys = "\n".join(regimes[0].values)
    axis.annotate(
        keys, (0, 1), (-8, 4), xycoords="axes fraction", textcoords="offset points", ha="right", va="bottom", color="#57606a"
    )
    axis.set_xlabel(
        f"final pass rate minus uniform's, points; in brackets: the 95 % interval holds 0 ({regimes[0].comparison.seeds} seeds)"
    )


def _curves(axis: Axes, comparison: Comparison, rows: Sequence[Row], colours: Sequence[str]) -> None:
    share = np.linspace(0, comparison.setting.budget / 1000, N_POINTS)
    for row, colour in zip(rows, colours, strict=True):
        dashes = (0, (4, 2)) if row.name == ORACLE else "-"
        width = 2.2 if row.name == REFERENCE else 1.5
        over = 3 if row.name == REFERENCE else 2
        axis.plot(share, row.curve_ST.mean(axis=0), color=colour, linestyle=dashes, linewidth=width, zorder=over)
    axis.set_title("mean true pass rate of the pool", loc="left")
    axis.set_xlabel("thousand rollouts spent, rejected ones included")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.margins(x=0)


def _differences(axis: Axes, rows: Sequence[Row], colours: Sequence[str]) -> None:
    """One line per recipe, its name beside it: this is the picture's legend too."""
    axis.axvline(0, color=REFERENCE_COLOUR, linewidth=2.2)
    for place, (row, colour) in enumerate(zip(rows, colours[1:], strict=True)):
        mean, low, high = (100 * value for value in row.difference)
        axis.plot([low, high], [place, place], color=colour, linewidth=2.2)
        face = "white" if row.difference.word == "ties" else colour
        axis.plot(mean, place, "o", color=colour, markersize=5.5, markerfacecolor=face)
        axis.annotate(f"{mean:+.1f}", (high, place), (7, 0), textcoords="offset points", va="center", color=colour, fontsize=8.5)
    axis.set_yticks(range(len(rows)), [row.name for row in rows])
    for label, colour in zip(axis.get_yticklabels(), colours[1:], strict=True):
        label.set_color(colour)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.margins(x=0.12)
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=False, axis="y")
    axis.set_title("final level minus uniform (black), 95 % t interval", loc="left")
    axis.set_xlabel("percentage points; hollow = not told apart from uniform")


def _colours(rows: Sequence[Row]) -> list[str]:
    return [REFERENCE_COLOUR, *ordered_colours(len(rows) - 2), ORACLE_COLOUR]


def _save(figure: Figure, stem: Path) -> list[Path]:
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_suffix(f".{kind}") for kind in ("png", "svg")]
    figure.savefig(paths[0], dpi=160, facecolor="white")
    figure.savefig(paths[1], facecolor="white", metadata={"Date": None})
    return paths

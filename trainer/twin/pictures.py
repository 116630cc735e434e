"""The pictures of a twin: what it foresaw of the log's second half, and recipes rolled forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.report.style import PAPER, ordered_colours
from trainer.simulate.compare import N_POINTS, REFERENCE
from trainer.simulate.pictures import ORACLE_COLOUR, REFERENCE_COLOUR
from trainer.simulate.run import ORACLE
from trainer.twin.counts import Counts
from trainer.twin.forward import OWN, RollForward, Row, range_of
from trainer.twin.holdout import HoldOut
from trainer.twin.tables import ordered

OWN_COLOUR = "#b3261e"
FIRST_WINDOWS = 6  # of the half that was fitted
MOST_NAMES = 12
LINE = 0.05  # of the axis, between names


def draw_holdout(found: HoldOut, counts: Counts, label: str, path: Path) -> Path:
    """Pass rates by window of steps: dots came, bands were foreseen; dashed is the constant, dotted the trend."""
    with mpl.rc_context(PAPER):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        figure.suptitle(
            f"{label}: hold-out check {'passed' if found.passed else 'FAILED'}", x=0.01, ha="left", fontsize=10, weight="bold"
        )
        left, right = figure.subplots(1, 2, width_ratios=(2.2, 1.0))
        middle_W = (found.edge_W1[:-1] + found.edge_W1[1:] - 1) / 2
        for k, colour in enumerate(ordered_colours(len(found.names_K))):
            _foreseen(left, found, middle_W, k, colour)
            _dots(left, counts, found, k, colour)
        height = _apart({name: _last(found, k) for name, k in _names(found)})
        for name, k in _names(found):
            colour = ordered_colours(len(found.names_K))[k]
            left.text(counts.n_steps * 1.01, height[name], name, va="center", color=colour, fontsize=8, clip_on=False)
        _live(right, found, counts, middle_W)
        for axis in (left, right):
            axis.axvline(found.first_step - 0.5, color="#8a8f98", linewidth=0.8)
            axis.set_xlim(-0.5, counts.n_steps - 0.5)
            axis.set_ylim(0, 1)
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
            axis.set_xlabel("step of the log; fitted left of the line")
        left.set_title("pass rate: dots came, bands foreseen (90 %); dashed constant, dotted trend", loc="left")
        right.set_title("groups whose rewards differ", loc="left")
        return _save(figure, path)


def draw_forward(result: RollForward, label: str, path: Path) -> Path:
    """Curves on the left, differences to uniform with their 90 % ranges on the right."""
    rows = ordered(result.rows)
    colours = [OWN_COLOUR, REFERENCE_COLOUR, *ordered_colours(len(rows) - 3), ORACLE_COLOUR]
    with mpl.rc_context(PAPER):
        figure = Figure(figsize=(9.6, max(3.6, 0.3 * len(rows) + 1.8)), layout="constrained")
        figure.suptitle(label, x=0.01, ha="left", fontsize=10, weight="bold")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
        _curves(left, result, rows, colours)
        _differences(right, rows, colours)
        return _save(figure, path)


def _foreseen(axis: Axes, found: HoldOut, middle_W: np.ndarray, k: int, colour: str) -> None:
    if not found.n_WK[:, k].any():
        return
    used_W = found.n_WK[:, k] > 0
    axis.fill_between(middle_W[used_W], found.low_WK[used_W, k], found.high_WK[used_W, k], color=colour, alpha=0.22, linewidth=0)
    for forecast_WK, dashes in zip(found.forecast_FWK, ("-", (0, (4, 2)), (0, (1, 2))), strict=True):
        width = 1.4 if dashes == "-" else 0.9
        axis.plot(middle_W[used_W], forecast_WK[used_W, k], color=colour, linewidth=width, linestyle=dashes)


def _dots(axis: Axes, counts: Counts, found: HoldOut, k: int, colour: str) -> None:
    """Pass rates of both halves, by window."""
    mine_G = counts.distribution_G == k
    for begin, end in _windows(found):
        among_G = mine_G & (counts.step_G >= begin) & (counts.step_G < end)
        if among_G.any():
            fitted = end <= found.first_step
            rate = counts.k_G[among_G].sum() / counts.n_G[among_G].sum()
            axis.plot((begin + end - 1) / 2, rate, "o", color=colour, markersize=3.2, markerfacecolor="white" if fitted else colour)


def _live(axis: Axes, found: HoldOut, counts: Counts, middle_W: np.ndarray) -> None:
    axis.fill_between(middle_W, found.live_low_W, found.live_high_W, color=REFERENCE_COLOUR, alpha=0.2, linewidth=0)
    axis.plot(middle_W, found.live_twin_W, color=REFERENCE_COLOUR, linewidth=1.4)
    for begin, end in _windows(found):
        among_G = (counts.step_G >= begin) & (counts.step_G < end)
        if among_G.any():
            face = "white" if end <= found.first_step else REFERENCE_COLOUR
            axis.plot(
                (begin + end - 1) / 2,
                counts.live_G[among_G].mean(),
                "o",
                color=REFERENCE_COLOUR,
                markersize=3.2,
                markerfacecolor=face,
            )


def _windows(found: HoldOut) -> list[tuple[int, int]]:
    n_first = min(FIRST_WINDOWS, found.first_step)
    edges = [*(np.arange(n_first) * found.first_step // n_first).tolist(), *found.edge_W1.tolist()]
    return list(pairwise(edges))


def _names(found: HoldOut) -> list[tuple[str, int]]:
    names = [(name, k) for k, name in enumerate(found.names_K) if found.n_WK[:, k].any()]
    return names if len(names) <= MOST_NAMES else []


def _apart(height: Mapping[str, float]) -> dict[str, float]:
    """Heights moved up where two names would overlap."""
    moved: dict[str, float] = {}
    for name in sorted(height, key=lambda name: height[name]):
        moved[name] = max([height[name], *(other + LINE for other in moved.values())])
    return moved


def _last(found: HoldOut, k: int) -> float:
    return float(found.forecast_FWK[0][np.flatnonzero(found.n_WK[:, k])[-1], k])


def _curves(axis: Axes, result: RollForward, rows: Sequence[Row], colours: Sequence[str]) -> None:
    share = np.linspace(0, 1, N_POINTS)
    for row, colour in zip(rows, colours, strict=True):
        thousand = share * float(np.median(row.rollouts_S)) / 1000
        if row.name == REFERENCE:
            low, high = np.quantile(row.curve_SP, [0.05, 0.95], axis=0)
            axis.fill_between(thousand, low, high, color=colour, alpha=0.15, linewidth=0)
        dashes = {ORACLE: (0, (4, 2)), OWN: (0, (1, 1))}.get(row.name, "-")
        axis.plot(
            thousand,
            np.median(row.curve_SP, axis=0),
            color=colour,
            linestyle=dashes,
            linewidth=2.0 if row.name in (REFERENCE, OWN) else 1.5,
        )
    axis.set_title("simulated pass rate of the log's prompts: medians; band: uniform's 90 %", loc="left")
    axis.set_xlabel("thousand rollouts")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.margins(x=0)


def _differences(axis: Axes, rows: Sequence[Row], colours: Sequence[str]) -> None:
    axis.axvline(0, color=REFERENCE_COLOUR, linewidth=1.6)
    shown = [(row, colour) for row, colour in zip(rows, colours, strict=True) if row.name != REFERENCE]
    for place, (row, colour) in enumerate(shown):
        value = range_of(100 * row.difference_S)
        axis.plot([value.low, value.high], [place, place], color=colour, linewidth=2.2)
        face = "white" if value.low <= 0 <= value.high else colour
        axis.plot(value.median, place, "o", color=colour, markersize=5.5, markerfacecolor=face)
        axis.annotate(
            f"{value.median:+.1f}", (value.high, place), (7, 0), textcoords="offset points", va="center", color=colour, fontsize=8.5
        )
    axis.set_yticks(range(len(shown)), [row.name for row, _ in shown])
    for text, (_, colour) in zip(axis.get_yticklabels(), shown, strict=True):
        text.set_color(colour)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.margins(x=0.2)
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=False, axis="y")
    axis.set_title("end of the simulation minus uniform's (black)", loc="left")
    axis.set_xlabel("points, 90 % range over draws and seeds; hollow: it holds 0")


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, facecolor="white")
    return path

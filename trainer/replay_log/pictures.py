"""The page's pictures, one function each; a picture without data is an empty string."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from curricula.statistics import Interval
from replay.estimators import NotEstimable, Value
from replay.evaluate import Calibration, Missing, Replay
from trainer.report.style import HALF, ordered_colours, picture, svg

ACCENT, MUTED = "#3b82d6", "#8a8f98"
ROW = 0.3  # inches per recipe
Shown = Value | NotEstimable | Interval | Missing


def rows(shown: Mapping[str, Shown], logged: Shown | None, title: str, share: bool) -> str:
    """One line per recipe: its number and interval; dashed: the log itself. Where the log does not tell, it says so."""
    told = {name: span for name, value in shown.items() if (span := _span(value)) is not None}
    if not told:
        return ""
    reference = None if logged is None else _span(logged)
    with picture(size=(HALF[0], 0.9 + ROW * len(shown))) as (figure, (axis,)):
        if reference is not None:
            axis.axvline(reference.mean, color=MUTED, linestyle="--", linewidth=1)
        left = min([span.low for span in told.values()] + ([reference.mean] if reference else []))
        for row, name in enumerate(shown):
            if name in told:
                axis.plot([told[name].low, told[name].high], [row, row], color=ACCENT, linewidth=2.5)
                axis.plot([told[name].mean], [row], marker="o", color=ACCENT, markersize=6)
            else:
                axis.text(left, row, "not told by this log", va="center", fontsize=8, alpha=0.6)
        _named_rows(axis, list(shown), title)
        if share:
            axis.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        return svg(figure, title)


def _span(value: Shown) -> Interval | None:
    if isinstance(value, Value):
        return Interval(value.value, value.low, value.high)
    return value if isinstance(value, Interval) else None


def mixes(replayed: Replay) -> str:
    """Share of each distribution in the recipes' plans, one bar per recipe; first the log itself."""
    if len(replayed.distributions) < 2:
        return ""
    names = ["the log itself", *(evaluation.recipe for evaluation in replayed.evaluations)]
    share_RK = np.array([replayed.logged.share_K, *(evaluation.choice.share_K for evaluation in replayed.evaluations)])
    with picture(size=(2 * HALF[0], 0.9 + ROW * len(names))) as (figure, (axis,)):
        left = np.zeros(len(names))
        for k, colour in enumerate(ordered_colours(len(replayed.distributions))):
            axis.barh(np.arange(len(names)), share_RK[:, k], left=left, color=colour, height=0.62, linewidth=0)
            left += share_RK[:, k]
        _named_rows(axis, names, "share of the groups in its plans")
        axis.set_xlim(0, 1)
        axis.grid(visible=False)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        return svg(figure, "mix of distributions")


def calibration(found: Mapping[str, Calibration]) -> str:
    """Observed against believed pass rate; on the diagonal a belief is right."""
    if not found:
        return ""
    with picture(size=HALF) as (figure, (axis,)):
        axis.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
        for belief, colour in zip(found.values(), ordered_colours(len(found)), strict=True):
            seen = belief.n_M > 0
            axis.plot(belief.believed_M[seen], belief.observed_M[seen], color=colour, linewidth=1.0, alpha=0.7)
            size = 60 * belief.n_M[seen] / max(int(belief.n_M.max()), 1)
            axis.scatter(belief.believed_M[seen], belief.observed_M[seen], s=np.maximum(size, 4), color=colour, linewidths=0)
        axis.set_title("observed pass rate", loc="left")
        axis.set_xlabel("believed before the group came")
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
        return svg(figure, "calibration of the beliefs")


def beliefs(found: Mapping[str, Calibration]) -> str:
    """How many groups each belief expected at which pass rate."""
    if not found:
        return ""
    with picture(size=HALF) as (figure, (axis,)):
        for belief, colour in zip(found.values(), ordered_colours(len(found)), strict=True):
            edges = np.linspace(0, 1, len(belief.n_M) + 1)
            axis.stairs(belief.n_M / max(int(belief.n_M.sum()), 1), edges, color=colour, linewidth=1.4)
        axis.set_title("share of the logged groups", loc="left")
        axis.set_xlabel("believed before the group came")
        axis.set_xlim(0, 1)
        axis.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
        return svg(figure, "beliefs")


def _named_rows(axis: Axes, names: Sequence[str], title: str) -> None:
    axis.set_yticks(range(len(names)), list(names))
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_title(title, loc="left")

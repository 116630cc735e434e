"""What `curricula lr compare` prints and draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from curricula.types import CurriculaError
from trainer.lr.curves import Curve, curves_of
from trainer.report.style import STYLE, ordered_colours

PAPER: Any = {**STYLE, "svg.fonttype": "path"}
SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 1.0)


def compare_command(words: Sequence[str], n_steps: int, out: Path, console: Console) -> None:
    """The rate at a few shares of the horizon, and its curve as PNG and SVG."""
    if not words:
        raise CurriculaError("lr compare: expected recipe files or schedules, such as 'linear' or '{name: wsd, decay: 0.2}'")
    curves = curves_of(words, n_steps)
    console.print(rates_table(curves))
    for path in draw(curves, out):
        console.print(str(path), highlight=False, soft_wrap=True)


def draw(curves: Sequence[Curve], stem: Path) -> list[Path]:
    """All curves over the share of their horizons."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(PAPER):
        figure = Figure(figsize=(10.0, 3.6), layout="constrained")
        axis = figure.subplots()
        for curve, colour in zip(curves, ordered_colours(len(curves)), strict=True):
            axis.plot(curve.at, curve.lr, color=colour, label=curve.name)
        axis.set_title("learning rate", loc="left")
        axis.set_xlabel("share of the run's clock")
        axis.set_xlim(0, 1)
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        paths = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
        for path in paths:
            figure.savefig(path, dpi=110)
    return paths


def rates_table(curves: Sequence[Curve]) -> Table:
    """Rates at shares of the horizon."""
    table = Table(box=SIMPLE_HEAD, caption_justify="left")
    table.caption = "rate at shares of the clock's horizon; scales that react to training can only lower it"
    table.add_column("schedule", overflow="fold")
    for share in SHARES:
        table.add_column(f"{share:.0%}", justify="right", no_wrap=True)
    for curve in curves:
        horizon = f"{curve.horizon:,.0f}" if curve.horizon else "forecast"
        scales = f", scaled by {', '.join(curve.controllers)}" if curve.controllers else ""
        rates = np.interp(SHARES, curve.at, curve.lr)
        table.add_row(f"{curve.name}: {horizon} {curve.unit}{scales}", *(f"{rate:.2g}" for rate in rates))
    return table

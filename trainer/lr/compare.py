"""What `curricula lr compare` prints and draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from curricula.types import CurriculaError
from trainer.lr.curves import Curve, curves_of
from trainer.lr.pictures import in_percent, picture, say_files
from trainer.lr.tables import headed
from trainer.report.style import ordered_colours

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 1.0)


def compare_command(words: Sequence[str], n_steps: int, out: Path, console: Console) -> None:
    """The rate at a few shares of the horizon, and its curve as PNG and SVG.

    Errors: CurriculaError without a schedule, and for whatever cannot be built.
    """
    if not words:
        raise CurriculaError("lr compare: expected recipe files or schedules, such as 'linear' or '{name: wsd, decay: 0.2}'")
    curves = curves_of(words, n_steps)
    console.print(rates_table(curves))
    draw(curves, out)
    say_files(out, console)


def draw(curves: Sequence[Curve], stem: Path) -> None:
    """All curves over the share of their horizons."""
    with picture(stem, 3.6) as figure:
        axis = figure.subplots()
        for curve, colour in zip(curves, ordered_colours(len(curves)), strict=True):
            axis.plot(curve.at, curve.lr, color=colour, label=curve.name)
        axis.set_title("learning rate", loc="left")
        axis.set_xlabel("share of the run's clock")
        axis.set_xlim(0, 1)
        axis.set_ylim(bottom=0)
        in_percent(axis.xaxis)
        axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def rates_table(curves: Sequence[Curve]) -> Table:
    """Rates at shares of the horizon."""
    caption = "rate at shares of the clock's horizon; scales that react to training can only lower it"
    table = headed(["schedule"], [f"{share:.0%}" for share in SHARES], caption)
    for curve in curves:
        horizon = f"{curve.horizon:,.0f}" if curve.horizon else "forecast"
        scales = f", scaled by {', '.join(curve.controllers)}" if curve.controllers else ""
        rates = np.interp(SHARES, curve.at, curve.lr)
        table.add_row(f"{curve.name}: {horizon} {curve.unit}{scales}", *(in_short(rate) for rate in rates))
    return table


def in_short(rate: float) -> str:
    """Two digits in six characters at most, so that a terminal has room for names.

    >>> in_short(0.00012), in_short(6e-4), in_short(0.05), in_short(0.0)
    ('1.2e-4', '6e-4', '0.05', '0')
    """
    if rate == 0 or rate >= 0.01:
        return f"{rate:.2g}"
    return f"{rate:.1e}".replace(".0e", "e").replace("e-0", "e-")

"""How the pictures of `curricula lr` are made: PNG and SVG of one figure, in the style of the report with letters as paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from rich.console import Console

from trainer.report.style import PAPER

WIDTH = 10.0  # inches
DPI = 110
SUFFIXES = (".png", ".svg")


@contextmanager
def picture(stem: Path, height: float) -> Iterator[Figure]:
    """A figure of ``height`` inches; `files_of` the stem are written when the block has ended."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(PAPER):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure
        for path in files_of(stem):
            figure.savefig(path, dpi=DPI)


def files_of(stem: Path) -> list[Path]:
    """The stem may hold dots.

    >>> [str(path) for path in files_of(Path("peak-0.5"))]
    ['peak-0.5.png', 'peak-0.5.svg']
    """
    name = stem.stem if stem.suffix in SUFFIXES else stem.name
    return [stem.with_name(name + suffix) for suffix in SUFFIXES]


def say_files(stem: Path, console: Console) -> None:
    """Where the picture is."""
    for path in files_of(stem):
        console.print(str(path), highlight=False, soft_wrap=True)


def in_percent(axis: Axis) -> None:
    """Shares as whole percents."""
    axis.set_major_formatter(lambda share, _: f"{share:.0%}")


def rate_axes(figure: Figure, axes: Sequence[Axes], marked: float | None, colour: str) -> None:
    """The axes are over the learning rate; a line through all of them marks one."""
    for axis in axes:
        if marked is not None:
            axis.axvline(marked, color=colour, linewidth=1.0)
    figure.supxlabel("learning rate" + (f"; the line is at {marked:.3g}" if marked else ""), fontsize=9)

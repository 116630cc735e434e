"""How pictures look: no background, text in the page's own colour, so that one picture suits light, dark and paper."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#010203"  # replaced by the page's text colour
WIDE = (10.4, 3.0)  # inches
HALF = (5.1, 2.7)

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "curricula",
    "font.family": "DejaVu Sans",  # ships with matplotlib, so the layout is the same everywhere; the page sets its own font
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}
PAPER: Any = {**STYLE, "svg.fonttype": "path"}  # of pictures that stand alone, where no page sets the font


def ordered_colours(n: int) -> list[str]:
    """n colours from blue over green and amber to magenta, equally light: readable on white and on black.

    >>> len(set(ordered_colours(12)))
    12
    """
    steps = [i / max(n - 1, 1) for i in range(n)]
    return [_hex(((225 - 290 * step) % 360) / 360, 0.60, 0.53) for step in steps]


@contextmanager
def picture(n_axes: int = 1, size: tuple[float, float] = WIDE) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """A figure with axes side by side in our style."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, n_axes, squeeze=False)[0]
        yield figure, list(axes)


def svg(figure: Figure, label: str) -> str:
    """The figure as an SVG element that takes its width and its colours from the page."""
    buffer = io.StringIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    body = text[text.index("<svg") :].replace(INK, "currentColor")
    return body.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _hex(hue: float, saturation: float, lightness: float) -> str:
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"

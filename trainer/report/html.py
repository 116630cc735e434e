"""Small pieces of HTML; every text that comes from outside is escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

NOTHING = "&ndash;"
Legend = Sequence[tuple[str, str]]  # (name, colour)


def section(title: str, lead: str, *parts: str) -> str:
    """A section, or nothing when it has no content."""
    body = "\n".join(part for part in parts if part)
    return f'<section>\n<h2>{escape(title)}</h2>\n<p class="soft">{escape(lead)}</p>\n{body}\n</section>' if body else ""


def figure(svg: str, caption: str = "", legend: Legend = ()) -> str:
    """A picture with its legend and what it shows."""
    if not svg:
        return ""
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{svg}{legend_list(legend)}{words}</figure>"


def legend_list(legend: Legend) -> str:
    """Chips of colour with their names."""
    if not legend:
        return ""
    chips = "".join(f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for name, colour in legend)
    return f'<ul class="legend">{chips}</ul>'


def pair(*figures: str) -> str:
    """Pictures side by side where the window is wide enough."""
    shown = [figure for figure in figures if figure]
    return f'<div class="pair">{"".join(shown)}</div>' if shown else ""


def card(value: str, label: str) -> str:
    """One headline number; ``value`` is ready HTML."""
    return f'<div class="card"><b>{value}</b><span>{escape(label)}</span></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], last_is_total: bool = False) -> str:
    """A table; cells are ready HTML (a cell that begins with <td is taken whole)."""
    body = list(rows)
    if not body:
        return ""
    lines = [f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in body]
    if last_is_total:
        lines[-1] = lines[-1].replace("<tr>", '<tr class="total">', 1)
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def track(before: float, after: float) -> str:
    """A cell that draws the way from one share to another."""
    if math.isnan(before) or math.isnan(after):
        return '<td class="track"></td>'
    x0, x1 = 2 + 96 * before, 2 + 96 * after
    colour = "var(--up)" if after >= before else "var(--down)"
    return (
        '<td class="track"><svg viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true">'
        '<line x1="2" y1="8" x2="98" y2="8" stroke="var(--line)" stroke-width="2"/>'
        f'<line x1="{x0:.1f}" y1="8" x2="{x1:.1f}" y2="8" stroke="{colour}" stroke-width="6"/>'
        f'<line x1="{x0:.1f}" y1="2" x2="{x0:.1f}" y2="14" stroke="var(--soft)" stroke-width=".8"/>'
        "</svg></td>"
    )


def percent(value: float, error: float = math.nan) -> str:
    """A share with its standard error, in percent."""
    if math.isnan(value):
        return NOTHING
    return f"{100 * value:.1f} %" if math.isnan(error) else f"{100 * value:.1f} ± {100 * error:.1f} %"


def points(change: float) -> str:
    """A change in percentage points, coloured by its sign."""
    if math.isnan(change):
        return NOTHING
    return f'<span class="{"up" if change >= 0 else "down"}">{100 * change:+.1f}</span>'


def _cell(cell: str) -> str:
    return cell if cell.startswith("<td") else f"<td>{cell}</td>"

"""What `curricula simulate` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from curricula.statistics import Interval
from trainer.simulate.compare import REFERENCE, Comparison, Row
from trainer.simulate.run import ORACLE
from trainer.simulate.sweep import Regime

COLOURS = {"wins": "green", "ties": "dim", "loses": "red"}


def comparison_table(comparison: Comparison) -> Table:
    """One line per recipe, best first between uniform and the oracle."""
    setting = comparison.setting
    table = result_table(
        f"{comparison.seeds} paired seeds, {setting.budget:,} rollouts each; "
        f"{setting.prompts:,} prompts on {setting.levels} levels, {setting.visits:.2g} visits each"
    )
    table.caption = (
        "end, mean: true pass rate of the pool at the end and over the run (area under the curve); minus uniform: points [95 % t "
        "interval of the paired difference]; live: groups whose rewards differ / groups generated; reach: rollouts until uniform's "
        "end / the budget (seeds that never did)"
    )
    table.caption_justify = "left"
    for title in ("recipe", "end", "minus uniform", "", "mean", "live", "reach"):
        table.add_column(title, justify="left" if title in ("recipe", "") else "right", no_wrap=True)
    for row in ordered(comparison.rows):
        table.add_row(*_cells(row, setting.budget), style="bold" if row.name == REFERENCE else "")
    return table


def map_table(regimes: Sequence[Regime]) -> Table:
    """Regimes down, recipes across: points of final pass rate over uniform, coloured where the interval excludes 0."""
    comparison = regimes[0].comparison
    table = result_table(f"final pass rate minus uniform's, points; {comparison.seeds} paired seeds per regime; ties in brackets")
    for title in (*regimes[0].values, *(row.name for row in comparison.rows)):
        table.add_column(title.replace("_", "_\n"), justify="right", overflow="fold")
    for regime in regimes:
        first, *others = regime.comparison.rows
        values = (f"{value:g}" for value in regime.values.values())
        table.add_row(*values, f"{100 * first.final:.1f} %", *(_cell(row.difference) for row in others))
    return table


def tally_table(regimes: Sequence[Regime]) -> Table:
    """In how many regimes each recipe wins, ties and loses."""
    table = result_table(f"{len(regimes)} regimes")
    for title in ("recipe", "wins", "ties", "loses"):
        table.add_column(title, justify="left" if title == "recipe" else "right")
    for row in regimes[0].comparison.rows[1:]:
        words = [regime.comparison.row(row.name).difference.word for regime in regimes]
        table.add_row(row.name, *(str(words.count(word)) for word in ("wins", "ties", "loses")))
    return table


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Uniform, the recipes from the best to the worst, the oracle."""
    first, *others, last = rows
    return [first, *sorted(others, key=lambda row: -row.final), last]


def _cells(row: Row, budget: int) -> list[str | Text]:
    reach = f"{'>' if row.censored else ''}{row.reach / budget:.2f}" + (f" ({row.censored})" if row.censored else "")
    difference: list[str | Text] = ["", ""]
    if row.name != REFERENCE:
        word = row.difference.word if row.name != ORACLE else "mark"
        difference = [points(row.difference), Text(word, COLOURS.get(word, "dim"))]
    return [row.name, f"{100 * row.final:.1f} %", *difference, f"{100 * row.area:.1f} %", f"{row.live_share_S.mean():.2f}", reach]


def points(value: Interval) -> str:
    """Mean and interval in percentage points.

    >>> points(Interval(0.021, 0.015, 0.027))
    '+2.1 [+1.5, +2.7]'
    """
    return f"{100 * value.mean:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"


def _cell(value: Interval) -> Text:
    shown = f"{100 * value.mean:+.1f}"
    return Text(f"({shown})" if value.word == "ties" else shown, COLOURS[value.word])


def result_table(title: str) -> Table:
    """A bare table with a title."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", border_style="dim", box=SIMPLE_HEAD)
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    return table

"""What `curricula lr show` prints and draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

from trainer.lr.compare import draw, rates_table
from trainer.lr.curves import curves_of
from trainer.lr.operations.history import SCHEDULE, History, Point, history, said_spans
from trainer.lr.pictures import in_percent, picture, say_files
from trainer.lr.tables import headed
from trainer.operations import Operation
from trainer.recipe import load_recipe
from trainer.report.style import INK, ordered_colours
from trainer.schedules.build import build_rate
from trainer.schedules.rate import LearningRate
from trainer.schedules.shape import SHAPES, Shape

ACCENT = "#3b82d6"


def show_command(of: Path, out: Path | None, console: Console) -> None:
    """Of a recipe: its rate over the clock. Of a run: the rate so far and to come.

    Errors: CurriculaError for what is neither, and for a damaged log or file of operations.
    """
    if of.is_dir():
        found = history(of)
        _say_run(found, console)
        stem = out or of / "lr"
        draw_history(found, stem)
    else:
        recipe = load_recipe(of)
        _say_rate(build_rate(recipe.schedule, recipe.length), console)
        curves = curves_of([str(of)], recipe.run.n_steps)
        console.print(rates_table(curves))
        stem = out or Path("runs/lr")
        draw(curves, stem)
    say_files(stem, console)


def draw_history(found: History, stem: Path) -> None:
    """The rate over the steps, past solid and to come dashed; the clock, and what held the rate down, below it."""
    causes = [name for name in found.causes if name != SCHEDULE]
    colour_of = dict(zip(causes, ordered_colours(len(causes) + 2)[1:-1], strict=True))
    with picture(stem, 4.2) as figure:
        rate, clock = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        lines: list[tuple[Axes, Callable[[Point], float]]] = [(rate, lambda point: point.lr), (clock, lambda point: point.clock)]
        for axis, value in lines:
            _line(axis, found.past, value, "-")
            _line(axis, [*found.past[-1:], *found.to_come], value, (0, (3, 2)))
            for operation in found.operations:
                axis.axvline(operation.step, color=INK, linewidth=0.7, alpha=0.55, linestyle=":")
        for name, colour in colour_of.items():
            for first, last in found.causes[name]:
                clock.axvspan(first, last + 1, color=colour, alpha=0.35, linewidth=0)
        _mark(rate, found.operations)
        rate.set_title("learning rate", loc="left", pad=16 if found.operations else 6)
        rate.set_ylim(bottom=0)
        rate.yaxis.set_major_formatter(lambda y, _: f"{y:.3g}")
        clock.set_title(f"clock ({_words(found.rate.clock.unit)}), share of its horizon", loc="left")
        clock.set_ylim(0, 1.04)
        in_percent(clock.yaxis)
        clock.set_xlabel("step")
        clock.xaxis.set_major_locator(MaxNLocator(integer=True))
        ends = [point.step for point in (*found.past, *found.to_come)]
        clock.set_xlim(0, max(ends, default=0) + 1)
        rate.legend(handles=_legend(found, colour_of), frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _line(axis: Axes, points: Sequence[Point], value: Callable[[Point], float], style: Any) -> None:
    axis.plot([point.step for point in points], [value(point) for point in points], color=ACCENT, linestyle=style)


def _mark(axis: Axes, operations: Sequence[Operation]) -> None:
    """A number above each operation's line, side by side where several are at one step."""
    for step in sorted({operation.step for operation in operations}):
        numbers = ", ".join(str(i) for i, operation in enumerate(operations, 1) if operation.step == step)
        axis.annotate(numbers, (step, 1.0), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center")


def _legend(found: History, colour_of: dict[str, str]) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [Line2D([], [], color=ACCENT, label="so far")] if found.past else []
    if found.to_come:
        handles.append(Line2D([], [], color=ACCENT, linestyle=(0, (3, 2)), label="to come, by the average of the steps so far"))
    handles += [Patch(color=colour, alpha=0.35, label=f"held down by {_words(name)}") for name, colour in colour_of.items()]
    marks = enumerate(found.operations, 1)
    return handles + [Line2D([], [], color=INK, linewidth=0.7, linestyle=":", label=f"{i}: {one}") for i, one in marks]


def _say_rate(rate: LearningRate, console: Console) -> None:
    clock = rate.clock
    horizon = f"{rate.state.clock.horizon:,.6g} {clock.unit}" if not clock.steps else f"by forecast, up to {clock.steps:,} steps"
    for name, text in (("schedule", _shape(rate.schedule.shape)), ("peak", f"{rate.schedule.peak:g}"), ("horizon", horizon)):
        console.print(f"{name:<12}{text}", highlight=False, markup=False, soft_wrap=True)
    scales = ", ".join(map(repr, rate.controllers.values())) or "none"
    console.print(f"{'controllers':<12}{scales}", highlight=False, markup=False, soft_wrap=True)


def _say_run(found: History, console: Console) -> None:
    _say_rate(found.rate, console)
    done = found.rate.state.clock.done
    horizon = found.rate.state.clock.horizon
    clock = f"{done / horizon:.1%} of its horizon" + ("" if found.rate.clock.steps else f" ({done:,.6g} {found.rate.clock.unit})")
    lines = [f"goes on     at step {found.step:,}, ends with {found.course.end}", f"clock       {clock} at that step"]
    for i, operation in enumerate(found.operations, 1):
        state = "applied" if i <= found.n_applied else "waits for --resume"
        lines.append(
            f"{'operations' if i == 1 else '':<12}{i}: {operation}, before step {operation.step:,} ({operation.at}; {state})"
        )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if found.past or found.to_come:
        console.print(_steps_table(found))
    if found.past:
        console.print(_causes_table(found))


def _steps_table(found: History) -> Table:
    points = [*found.past, *found.to_come]
    shown = sorted({round(i) for i in np.linspace(0, len(points) - 1, 7)}) if points else []
    heads = [f"{'' if i < len(found.past) else '~'}{points[i].step:,}" for i in shown]
    result = headed(["step"], heads, "~ to come: by the average of the steps so far, the scales as they are")
    result.add_row("rate", *(f"{points[i].lr:.3g}" for i in shown))
    result.add_row("clock", *(f"{points[i].clock:.0%}" for i in shown))
    return result


def _causes_table(found: History) -> Table:
    result = headed(["the rate was", "steps", "of them", "which"], [])
    for cause, spans in found.causes.items():
        n = sum(last - first + 1 for first, last in spans)
        words = "that of the schedule" if cause == SCHEDULE else f"held down by {_words(cause)}"
        result.add_row(words, f"{n:,}", f"{n / len(found.past):.0%}", said_spans(spans))
    return result


def _shape(shape: Shape) -> str:
    """As a recipe names it: ``wsd (decay 0.2, shape one_minus_sqrt, floor 0.1)``, without what is 0."""
    name = next(name for name, kind in SHAPES.items() if type(shape) is kind)
    values = {field.name: getattr(shape, field.name) for field in fields(shape)}  # type: ignore[arg-type]
    told = ", ".join(f"{key} {value}" for key, value in values.items() if value not in (0.0, ()))
    return f"{name} ({told})" if told else name


def _words(name: str) -> str:
    return name.replace("_", " ")

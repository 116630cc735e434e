"""`curricula lr ...`: learning rates before anything is trained, averages of what was, and how its score grew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Learning rates as numbers and pictures.")


@app.callback()
def lr() -> None:
    """Learning rates as numbers and pictures."""


@app.command()
def compare(
    schedules: Annotated[
        list[str],
        typer.Argument(metavar="SCHEDULE...", help="Recipe files, names, or schedules such as '{name: wsd, decay: 0.2}'."),
    ],
    steps: Annotated[int, typer.Option(help="Updates, for schedules without a recipe.")] = 1000,
    out: Annotated[Path, typer.Option(help="Picture, without suffix.")] = Path("runs/lr"),
) -> None:
    """The rate over the run's clock."""
    from trainer.lr.command import compare_command

    compare_command(schedules, steps, out, Console())


@app.command()
def dose(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
) -> None:
    """At which rates the rollouts of each distribution were learned from."""
    from trainer.lr.dose import dose_command

    dose_command(run, Console())


@app.command()
def average(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run with checkpoints of a constant rate.")],
    out: Annotated[Path, typer.Option(help="Folder of the model; a new one.")],
    last: Annotated[
        int | None, typer.Option(min=1, help="So many of the newest checkpoints; by default all that are kept.")
    ] = None,
    steps: Annotated[str | None, typer.Option(metavar="10,20,30", help="The checkpoints after these numbers of steps.")] = None,
    weights: Annotated[str, typer.Option(help="uniform, ema or as_decay.")] = "uniform",
    alpha: Annotated[float | None, typer.Option(help="Of ema: how far it moves to each later checkpoint; 0.2.")] = None,
    shape: Annotated[str | None, typer.Option(help="Of as_decay: a cool-down of the schedule wsd; linear.")] = None,
    floor: Annotated[float | None, typer.Option(help="Of as_decay: where the cool-down ends, a share of the rate; 0.")] = None,
) -> None:
    """Average checkpoints of a stable phase into one model folder, instead of a decay."""
    from trainer.lr.average_command import Choice, average_command

    given = {"alpha": alpha, "shape": shape, "floor": floor}
    settings = {key: value for key, value in given.items() if value is not None}
    average_command(run, Choice(last, steps, weights, settings), out, Console())


@app.command()
def fit(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    unit: Annotated[str, typer.Option(help="Of compute: tokens, rollouts, updates or seconds.")] = "tokens",
    of: Annotated[str, typer.Option(help="Scores: evaluations, or training.")] = "evaluations",
    predict: Annotated[float | None, typer.Option(metavar="U", help="Also the score at so much compute.")] = None,
    out: Annotated[Path, typer.Option(metavar="STEM", help="Picture, without suffix.")] = Path("runs/fit"),
) -> None:
    """How a run's score grows with compute, and where it levels off, with intervals."""
    from trainer.lr.fit import fit_command

    fit_command(runs, unit, of, predict, out, Console())

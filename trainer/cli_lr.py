"""`curricula lr ...`: learning rates before anything is trained."""

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

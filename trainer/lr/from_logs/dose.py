"""What `curricula lr dose` prints."""

from __future__ import annotations

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from curricula.types import CurriculaError
from trainer.report.data import read_run
from trainer.report.dose import HEAD, READ, dose_rows


def dose_command(folder: Path, console: Console) -> None:
    """Share of rollouts against share of dose, by distribution.

    Errors: CurriculaError when the folder holds no run, or none that has trained.
    """
    run = read_run(folder)
    if not sum(one.n_trained for one in run.doses):
        raise CurriculaError(f"{folder}: no rollout has carried gradient yet; ask again when the run has made an update")
    table = Table(box=SIMPLE_HEAD, caption=READ, caption_justify="left")
    for place, name in enumerate(HEAD):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in dose_rows(run.doses):
        table.add_row(*row)
    console.print(table)

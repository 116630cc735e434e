"""`curricula log ...`: what the log of a run says. Every command takes the folder of a run, or of its log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from replay.own_run import log_folder
from trainer.resume import RECIPE

app = typer.Typer(no_args_is_help=True, help="What the log of a run says.")

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, finished or not, or of its log.")]


@app.command()
def verify(run: Run) -> None:
    """Fold the log into a fresh curriculum, compare with every checkpoint, decide everything again; exit code 1 at a difference."""
    from trainer.verify_log import reexecuted, verify_run

    folder = run_folder(run)
    found, replayed = verify_run(folder), reexecuted(folder)
    for checked in found:
        said = "the same state, bit for bit" if checked.difference is None else str(checked.difference)
        typer.echo(f"checkpoint of step {checked.step}: {checked.n_logged} steps of the log; {said}")
    said = "every one as logged, bit for bit" if replayed.departure is None else f"then {replayed.departure}"
    typer.echo(f"decisions made again: {replayed.n_steps} steps, {replayed.n_attempts} plans; {said}")
    raise typer.Exit(int(replayed.departure is not None or any(checked.difference is not None for checked in found)))


def run_folder(path: Path) -> Path:
    """The run that ``path`` is the folder of, or whose log it is the folder of; ``path`` itself where it is neither."""
    is_log = not (path / RECIPE).is_file() and log_folder(path) == path and (path.resolve().parent / RECIPE).is_file()
    return path.resolve().parent if is_log else path

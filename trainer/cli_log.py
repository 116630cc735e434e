"""`curricula log ...`: what the log of a run says. Every command takes the folder of a run, or of its log."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from curricula.types import CurriculaError
from replay.own_run import log_folder
from rollout.log import ROLLOUTS
from trainer.resume import RECIPE


class TableFormat(StrEnum):
    """What `export` can write."""

    parquet = "parquet"
    jsonl = "jsonl"
    arrow = "arrow"
    csv = "csv"


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


@app.command()
def info(run: Run, as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Count what the log holds and name what is damaged or uncommitted; changes nothing. Exit code 1 where it is damaged."""
    from replay.log_info import log_info

    found = log_info(_log(run))
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        for name, value in found.as_dict().items():
            typer.echo(f"{name.replace('_', ' '):<24} {_said(value)}")
    raise typer.Exit(int(found.damaged))


@app.command()
def repair(run: Run, yes: Annotated[bool, typer.Option("--yes", help="Write; without it nothing is changed.")] = False) -> None:
    """Say what a killed writer or a failing disk did, with --yes mend it; nothing is deleted. Exit code 1 where some is left."""
    from rollout.repair import examine, refuse_writer
    from rollout.repair import repair as mend

    folder = _log(run)
    refuse_writer(folder)
    mended = mend(folder) if yes else None
    found = examine(folder) if mended is None else mended.findings
    for finding in found:
        typer.echo(str(finding))
    for file in mended.aside if mended else ():
        typer.echo(f"written: {file.name}")
    open_ = [finding for finding in found if finding.kind != "lost before" and (mended is None or not finding.mendable)]
    if not found:
        typer.echo("nothing to mend")
    elif mended is None and open_:
        typer.echo("nothing was changed; --yes moves these bytes to discarded-* files")
    raise typer.Exit(int(bool(open_)))


@app.command()
def compact(run: Run) -> None:
    """Rewrite everything committed as Parquet, prove that it gives every line back, then drop the lines; the run may go on."""
    from rollout.log import RolloutLog

    folder = _log(run)
    before = {file: file.stat().st_size for file in folder.iterdir()}
    writer = RolloutLog(folder)
    try:
        parts = writer.compact()
    finally:
        writer.close()
    for part in parts:
        lines = folder / f"{part.name.split('-')[1]}.jsonl"
        typer.echo(f"{part.name}: {part.stat().st_size:,} bytes, from {before[lines]:,} bytes of {lines.name}; every line compared")
    if not parts:
        typer.echo("nothing to compact: no commit since the last time")


@app.command()
def export(
    run: Run,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the tables go.")],
    to: Annotated[TableFormat, typer.Option(help="File format.")] = TableFormat.parquet,
) -> None:
    """Write the tables groups, rollouts and steps: one row each, plain columns, for pandas, DuckDB, Polars and others."""
    from replay.export import export as written

    for name, n_rows in written(_log(run), folder, to.value).items():
        typer.echo(f"{folder / name}.{to.value}: {n_rows:,} rows")


def _log(path: Path) -> Path:
    folder = log_folder(path)
    if folder is None:
        raise CurriculaError(f"{path}: expected the folder of a run or of its log, found no {ROLLOUTS}")
    return folder


def _said(value: Any) -> str:
    """A value for people: counts as name 12, name 3; lists line by line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {n:,}" for name, n in value.items()) or "-"
    if isinstance(value, list) and len(value) > 1:
        return "".join(f"\n    {item}" for item in value)
    if isinstance(value, list | tuple):
        return " to ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value or "-")


def run_folder(path: Path) -> Path:
    """The run that ``path`` is the folder of, or whose log it is the folder of; ``path`` itself where it is neither."""
    is_log = not (path / RECIPE).is_file() and log_folder(path) == path and (path.resolve().parent / RECIPE).is_file()
    return path.resolve().parent if is_log else path

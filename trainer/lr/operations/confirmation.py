"""What `curricula lr extend`, `decay` and `branch` print."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from trainer.lr.operations.recording import Recorded
from trainer.lr.operations.standing import Standing
from trainer.operations import OPERATIONS
from trainer.resume import RECIPE


def said(recorded: Recorded, folder: Path, console: Console) -> None:
    """The operation, the rate at it, where the run ends now, and how it goes on."""
    now = recorded.after
    lines = [
        f"{folder / OPERATIONS}: {recorded.operation}",
        f"applies before step {now.step:,}; the rate there: {_rate(recorded.before)}, then {_rate(now)}",
        f"the run ended with {recorded.before.course.end}; now with {now.course.end}",
        f"go on: curricula train {folder / RECIPE} --resume --folder {folder}",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _rate(standing: Standing) -> str:
    return f"{standing.rate.explain().lr:.6g}"

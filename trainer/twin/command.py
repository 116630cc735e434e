"""What `curricula twin` does, from the words of the command line to tables, pictures and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from curricula.types import CurriculaError, known_or_raise
from replay.sources import load
from trainer.recipe_words import read_recipes
from trainer.simulate.compare import REFERENCE, with_marks
from trainer.twin import NOTE, label_of
from trainer.twin.counts import Counts, counts_of
from trainer.twin.files import write_twin
from trainer.twin.fit import N_DRAWS, fit_counts
from trainer.twin.forward import OWN, RollForward, roll_forward
from trainer.twin.holdout import HoldOut, check
from trainer.twin.learner import Start
from trainer.twin.pictures import draw_forward, draw_holdout
from trainer.twin.tables import distribution_table, fit_table, forward_table, holdout_table, verdict


@dataclass(frozen=True)
class Task:
    """How far, how often, on how many processes, and where the results go."""

    start: str
    anyway: bool
    draws: int
    seeds: int
    processes: int
    out: Path


def twin_command(log: Path, format: str | Mapping[str, Any] | None, words: Sequence[str], task: Task, console: Console) -> None:
    """Check the twin on the log's second half; where it passes (or ``anyway``), fit it to the whole and run the recipes forward.

    Errors: CurriculaError for a log that says too little, and for a twin that failed its check.
    """
    start = _start(task.start)
    recipes = with_marks(read_recipes(words or [REFERENCE]), taken=(OWN,))
    counts = counts_of(load(log, format))
    found = check(counts, seed=0)
    label = label_of(counts.source, failed=not found.passed)
    console.print(holdout_table(found, label))
    console.print(verdict(found), style="green" if found.passed else "bold red", highlight=False, soft_wrap=True)
    for caveat in counts.caveats:
        console.print(f"note: {caveat}", style="yellow", highlight=False, soft_wrap=True)
    paths = [draw_holdout(found, counts, label, task.out / "hold_out.png"), task.out / "twin.json"]
    if not found.passed and not task.anyway:
        write_twin(paths[-1], label, counts, found)
        _say_where(console, paths)
        raise CurriculaError(
            f"{label}: no roll-forward, for a learner that does not foresee its own log says nothing about other recipes; --anyway "
            "runs it on, and says so in every output"
        )
    twin = fit_counts(counts, max(N_DRAWS, task.draws))
    console.print(fit_table(twin, counts, label))
    with Progress(TextColumn("draws"), BarColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
        shown = bar.add_task("draws", total=task.draws * task.seeds)
        result = roll_forward(twin, counts, recipes, start, (task.draws, task.seeds), task.processes, lambda: bar.advance(shown))
    console.print(forward_table(result, label), distribution_table(result, label))
    write_twin(paths[-1], label, counts, found, twin, result, recipes)
    _say_where(console, [*paths, draw_forward(result, label, task.out / "roll_forward.png")])
    console.print(f"\n{NOTE}\n{_own_words(result, counts, found)}", style="yellow", highlight=False)


def _start(word: str) -> Start:
    known_or_raise("place to start from:", word, ("start", "end"))
    return "end" if word == "end" else "start"


def _own_words(result: RollForward, counts: Counts, found: HoldOut) -> str:
    own = result.row(OWN)
    kind = "The hold-out check failed. " if not found.passed else ""
    return (
        f"{kind}{OWN!r} makes the log's {len(counts)} choices again in the simulation; 'uniform' and the recipes begin without "
        f"knowledge and choose among the {len(counts.pool)} prompts that the log names; medians of {len(own.end_S)} runs each."
    )


def _say_where(console: Console, paths: Sequence[Path]) -> None:
    console.print("\n".join(str(path) for path in paths), soft_wrap=True, highlight=False)

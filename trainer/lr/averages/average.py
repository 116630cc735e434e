"""What `curricula lr average` does and prints."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from curricula.types import CurriculaError, Floats, known_or_raise
from trainer.lr.averages.model import Merged, average, rates
from trainer.lr.averages.weights import as_decay, ema, uniform
from trainer.lr.tables import headed
from trainer.run_folder import chosen

WEIGHTS: dict[str, Callable[..., Floats]] = {
    "uniform": uniform,
    "ema": ema,
    "as_decay": as_decay,
}
TOLERANCE = 0.01  # of a rate that counts as constant


@dataclass(frozen=True)
class Choice:
    """Which checkpoints, and how much of each."""

    last: int | None
    steps: str | None  # "10,20,30"
    weights: str
    settings: dict[str, Any]  # of the weights

    def __post_init__(self) -> None:
        if self.last is not None and self.steps is not None:
            raise CurriculaError("lr average: --last and --steps are two ways to say the same; give one of them")
        known_or_raise("weights", self.weights, list(WEIGHTS))
        known = list(inspect.signature(WEIGHTS[self.weights]).parameters)[1:]
        for key in self.settings:
            if key not in known:
                has = " and ".join(f"--{name}" for name in known) or "no option"
                raise CurriculaError(f"lr average: --{key} is not of --weights {self.weights}, which has {has}")


def average_command(run: Path, choice: Choice, out: Path, console: Console) -> None:
    """Write the folder, and say of what it is.

    Errors: CurriculaError for checkpoints that are not there or of other models, settings of the weights, and a folder that is.
    """
    found = chosen(run, choice.last, _steps(choice.steps))
    weights = WEIGHTS[choice.weights](len(found), **choice.settings)
    merged = average(run, found, weights, {"name": choice.weights, **choice.settings}, out)
    lrs = rates(run, found)
    console.print(_table(merged, lrs))
    if varied(lrs):
        console.print("the learning rate was not constant over these checkpoints: what their average stands for is not known")
    console.print(str(out), highlight=False, soft_wrap=True)


def varied(lrs: Sequence[float]) -> bool:
    """Whether the rates that are known, so not NaN, differ by more than can be called constant."""
    known = [lr for lr in lrs if not math.isnan(lr)]
    return bool(known) and max(known) > (1 + TOLERANCE) * min(known)


def _steps(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise CurriculaError(f"lr average: --steps: expected numbers of steps such as 10,20,30, got {text!r}") from None


def _table(merged: Merged, lrs: list[float]) -> Table:
    caption = "averaged: " + ", ".join(f"{n} tensors from {what}" for what, n in merged.averaged.items())
    table = headed([], ["after steps", "learning rate", "weight"], caption)
    for step, lr, weight in zip(merged.steps, lrs, merged.weights, strict=True):
        table.add_row(str(step), "not known" if math.isnan(lr) else f"{lr:.3g}", f"{weight:.6f}")
    return table

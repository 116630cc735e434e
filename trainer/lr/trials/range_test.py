"""`curricula lr range`: how far one update moves the policy, rate by rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from curricula.types import CurriculaError
from trainer.lr.pictures import picture, rate_axes, say_files
from trainer.lr.tables import headed
from trainer.lr.trials.batches import Start, drawn, start_of
from trainer.lr.trials.effects import MOST_KL, Effect, largest_within, one_batch, rates_between, sweep
from trainer.report.style import ordered_colours

SHOWN = 25  # rows of the table
N_RATES, N_SWEEP = 13, 100  # four to a decade; Smith's number
PANELS = (
    ("kl", "KL, old to new, per token"),
    ("clipped", "share clipped at one more update"),
    ("entropy_drop", "entropy drop per token"),
    ("grad_norm", "gradient norm behind the update"),
)
WHY = (
    "KL is measured on the batch that the update was made with, by tokens that the old policy drew. The surrogate loss is not "
    "shown: on fresh rollouts it says nothing."
)


@dataclass(frozen=True)
class RangeTest:
    """What to try."""

    low: float = 1e-7  # lowest and
    high: float = 1e-4  # highest rate
    updates: int = 0  # rates; 0 = N_RATES, or N_SWEEP in a sweep
    linear: bool = False  # rates at even steps, not at even ratios
    sweep: bool = False  # one run of updates, not one from the start for each rate
    batches: int = 1  # to draw
    kl: float = MOST_KL  # of one update, old policy to new, per token, nats

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise CurriculaError(f"lr range: expected 0 < low < high, got --low {self.low:g} --high {self.high:g}")
        if self.updates < 0 or self.updates == 1 or self.batches < 1 or not self.kl > 0:
            raise CurriculaError(
                f"lr range: expected two updates or more, one batch or more and a KL above 0; got --updates {self.updates}, "
                f"--batches {self.batches}, --kl {self.kl:g}"
            )

    @property
    def rates(self) -> list[float]:
        n = self.updates or (N_SWEEP if self.sweep else N_RATES)
        found: list[float] = rates_between(self.low, self.high, n, self.linear).tolist()
        return found


def range_command(path: Path, step: int | None, test: RangeTest, out: Path, console: Console) -> None:
    """Draw batches once, try every rate on them, print and draw what came of it.

    Errors: CurriculaError for what `start_of` refuses, and where no rollouts with a signal come.
    """
    start = start_of(path, step)
    with drawn(start, test.batches) as bench:
        effects = sweep(bench, test.rates) if test.sweep else [one_batch(bench, lr) for lr in test.rates]
    console.print(table(effects, test))
    console.print(Text(verdict(effects, test, start)))
    draw(effects, test, out)
    say_files(out, console)


def verdict(effects: Sequence[Effect], test: RangeTest, start: Start) -> str:
    """The rate, and what its figure can bear."""
    best = largest_within(effects, test.kl)
    if best is None:
        return f"already at {effects[0].lr:.3g} the KL of {effects[0].kl:.2g} is beyond {test.kl:g}: go down with --low"
    lines = [
        f"largest rate with a KL below {test.kl:g} per token: {best.lr:.3g} (KL {best.kl:.2g}, {best.kl_rollout:.2g} per rollout)"
    ]
    if best.lr == max(effect.lr for effect in effects):
        lines.append("no rate was beyond it: go up with --high")
    if start.saved is None and not test.sweep and test.batches == 1:
        lines.append(
            "From an optimiser that has seen nothing: Adam's first update is its largest, so later ones at this rate move less; a "
            "run's checkpoint, or more --batches, tells of those."
        )
    return "\n".join(lines)


def table(effects: Sequence[Effect], test: RangeTest) -> Table:
    """Evenly thinned where there are many rates."""
    way = "updates one after another" if test.sweep else "every rate from the same weights"
    found = headed([], ["rate", "KL/token", "KL/rollout", "clipped", "entropy drop", "grad norm"], f"{way}. {WHY}")
    every = -(-len(effects) // SHOWN)
    best = largest_within(effects, test.kl)
    for effect in [*effects[:-1:every], effects[-1]]:
        values = (f"{effect.lr:.2e}", f"{effect.kl:.2e}", f"{effect.kl_rollout:.2e}", f"{effect.clipped:.2%}")
        found.add_row(*values, f"{effect.entropy_drop:.4f}", f"{effect.grad_norm:.3g}", style="bold" if effect is best else "")
    return found


def draw(effects: Sequence[Effect], test: RangeTest, stem: Path) -> None:
    """Four figures over the rate."""
    best, lr = largest_within(effects, test.kl), [effect.lr for effect in effects]
    colour, accent, *_ = ordered_colours(2)
    with picture(stem, 5.0) as figure:
        axes = list(figure.subplots(2, 2, sharex=True).flat)
        for axis, (name, title) in zip(axes, PANELS, strict=True):
            axis.plot(
                lr, [getattr(effect, name) for effect in effects], color=colour, marker="" if test.sweep else "o", markersize=3.5
            )
            axis.set_xscale("linear" if test.linear else "log")
            axis.set_title(title, loc="left")
            if name == "kl":
                axis.set_yscale("log")
                axis.axhline(test.kl, color=accent, linewidth=1.0, linestyle="--")
                axis.annotate(f"target {test.kl:g}", (lr[0], test.kl), (0, 3), textcoords="offset points", color=accent)
        rate_axes(figure, axes, best.lr if best else None, accent)

"""`curricula lr ...`: learning rates before training, of a run on its way, averages of what was, and how its score grew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Learning rates as numbers and pictures.")

Source = Annotated[Path, typer.Argument(metavar="RECIPE|RUN", help="Recipe file, or folder of a run with checkpoints.")]
Checkpoint = Annotated[int | None, typer.Option(metavar="STEP", help="Of a run; the newest by default.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run that is not being written.")]
Length = Annotated[float, typer.Option(help="Units of the rate's clock; steps where it goes by a forecast.")]
Shape = Annotated[str, typer.Option(help="A cool-down of the schedule wsd.")]
Floor = Annotated[float, typer.Option(help="Where the decay ends, a share of the peak.")]


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
    from trainer.lr.compare import compare_command

    compare_command(schedules, steps, out, Console())


@app.command()
def show(
    of: Annotated[Path, typer.Argument(metavar="RECIPE|RUN", help="Recipe file, or folder of a run, finished or not.")],
    out: Annotated[Path | None, typer.Option(help="Picture, without suffix; runs/lr of a recipe, RUN/lr of a run.")] = None,
) -> None:
    """Schedule, clock, horizon and rates; of a run also what was decided, what held the rate down, and what is to come."""
    from trainer.lr.show import show_command

    show_command(of, out, Console())


@app.command("range")
def range_(  # noqa: PLR0913 - every option is one decision of the user
    source: Source,
    low: Annotated[float, typer.Option(help="Lowest rate.")] = 1e-7,
    high: Annotated[float, typer.Option(help="Highest rate.")] = 1e-4,
    updates: Annotated[int, typer.Option(help="Rates to try; by default 13, in a sweep 100.")] = 0,
    linear: Annotated[bool, typer.Option("--linear", help="Even steps; without it even ratios.")] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="One run of updates at a rising rate, instead of one from the start each.")
    ] = False,
    batches: Annotated[int, typer.Option(help="Batches to draw; a rate makes one update on each.")] = 1,
    kl: Annotated[float, typer.Option(help="Of one update, old policy to new, per token.")] = 0.01,
    checkpoint: Checkpoint = None,
    out: Annotated[Path, typer.Option(help="Picture, without suffix.")] = Path("runs/lr-range"),
) -> None:
    """How far one update moves the policy, rate by rate, on rollouts drawn once; writes nothing into a run."""
    from trainer.lr.trials.range_test import RangeTest, range_command

    range_command(source, checkpoint, RangeTest(low, high, updates, linear, sweep, batches, kl), out, Console())


@app.command()
def search(  # noqa: PLR0913 - every option is one decision of the user
    source: Source,
    low: Annotated[float, typer.Option(help="Lowest rate.")] = 1e-7,
    high: Annotated[float, typer.Option(help="Highest rate.")] = 1e-4,
    tries: Annotated[int, typer.Option(help="Rates to try.")] = 10,
    batches: Annotated[int, typer.Option(help="Batches to draw; each makes an update, the others judge it.")] = 2,
    updates: Annotated[int, typer.Option(help="Updates of a batch, one after another.")] = 1,
    forecast: Annotated[int, typer.Option(metavar="N", help="Forecast the gain after N updates from those made.")] = 0,
    kl: Annotated[float, typer.Option(help="Largest KL per token at which old rollouts may judge.")] = 0.01,
    checkpoint: Checkpoint = None,
    out: Annotated[Path, typer.Option(help="Picture, without suffix.")] = Path("runs/lr-search"),
) -> None:
    """The rate whose update is worth most on held-out rollouts, drawn once; writes nothing into a run."""
    from trainer.lr.trials.search import Terms, search_command

    terms = Terms(low, high, tries, batches, updates, forecast, kl)
    search_command(source, checkpoint, terms, out, Console())


@app.command()
def extend(
    run: Run,
    steps: Annotated[int | None, typer.Option(help="Steps of the run in all.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Completion tokens in all, of a run that run.n_tokens ends.")] = None,
    horizon: Annotated[float | None, typer.Option(help="Units of the clock in all, where the recipe states a horizon.")] = None,
) -> None:
    """Let a run go on for longer; the rate does not jump. Applied by `curricula train ... --resume`."""
    from trainer.lr.operations.confirmation import said
    from trainer.lr.operations.recording import Longer
    from trainer.lr.operations.recording import extend as extended

    said(extended(run, Longer(steps, tokens, horizon)), run, Console())


@app.command()
def decay(run: Run, length: Length, shape: Shape = "one_minus_sqrt", floor: Floor = 0.0) -> None:
    """Let a run's rate decay from where it is; the run ends with the decay. Applied by `curricula train ... --resume`."""
    from trainer.lr.operations.confirmation import said
    from trainer.lr.operations.recording import start_decay

    said(start_decay(run, length, shape, floor), run, Console())


@app.command()
def branch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the trunk; it is only read, and may be running.")],
    step: Annotated[int, typer.Option(help="Of the checkpoint to go on from.")],
    out: Annotated[Path, typer.Option(help="Folder of the branch; a new one.")],
    length: Length,
    shape: Shape = "one_minus_sqrt",
    floor: Floor = 0.0,
) -> None:
    """A new run folder that goes on from a checkpoint with a decay; the trunk stays as it is."""
    from trainer.lr.operations.branching import branch as branched
    from trainer.lr.operations.confirmation import said

    said(branched(run, step, out, length, shape, floor), out, Console())


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
    from trainer.lr.averages.average import Choice, average_command

    given = {"alpha": alpha, "shape": shape, "floor": floor}
    settings = {key: value for key, value in given.items() if value is not None}
    average_command(run, Choice(last, steps, weights, settings), out, Console())


@app.command()
def dose(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
) -> None:
    """At which rates the rollouts of each distribution were learned from."""
    from trainer.lr.from_logs.dose import dose_command

    dose_command(run, Console())


@app.command()
def fit(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    unit: Annotated[str, typer.Option(help="Of compute: tokens, rollouts, updates or seconds.")] = "tokens",
    of: Annotated[str, typer.Option(help="Scores: evaluations, or training.")] = "evaluations",
    predict: Annotated[float | None, typer.Option(metavar="U", help="Also the score at so much compute.")] = None,
    out: Annotated[Path, typer.Option(metavar="STEM", help="Picture, without suffix.")] = Path("runs/fit"),
) -> None:
    """How a run's score grows with compute, and where it levels off, with intervals."""
    from trainer.lr.from_logs.fit import fit_command

    fit_command(runs, unit, of, predict, out, Console())


@app.command()
def refine(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs of one loss, group size and model.")],
    form: Annotated[str, typer.Option(help="adam: 1 / l1 norm; sgd: 1 / squared l2 norm.")] = "adam",
    final: Annotated[bool, typer.Option("--final", help="Down to 0; without it to a tenth of the peak.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="Write it here; without it, print it.")] = None,
) -> None:
    """The schedule that a run's gradient norms ask for, for the next run."""
    from trainer.lr.from_logs.refine import Refining, refine_command

    refine_command(runs, Refining(form, final), out, Console())  # type: ignore[arg-type]  # it refuses other forms itself


@app.command()
def score(
    schedules: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCHEDULE]...", help="Recipe files, names, or schedules such as '{name: wsd, decay: 0.2}'."),
    ] = None,
    run: Annotated[Path | None, typer.Option(metavar="RUN", help="Its rates are the tuned ones, its gradient norms count.")] = None,
    horizon: Annotated[int, typer.Option(help="Updates, without a run.")] = 400,
) -> None:
    """Rank schedules by a bound of convex theory, with the peak that each would want; without a run, the first is the tuned one."""
    from trainer.lr.from_logs.score import score_command

    score_command(schedules or (), run, horizon, Console())

"""The command line: `curricula train`, `plan`, `policies`, `warm-start`, `evaluate`, `report`, `demo`, `simulate` and more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from curricula.types import CurriculaError
from rollout.fleet import EnginesLost
from trainer import cli_log, cli_lr
from trainer.recipe import Recipe, load_recipe
from trainer.types import RankDied

STOPPED = 143  # exit code of a run that saved and stopped because it was asked to (SIGTERM)

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="A curriculum engine for GRPO post-training."
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML), see configs/.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Change one value of the recipe; repeatable.")]
Folder = Annotated[Path | None, typer.Option(help="Where the run writes, instead of run.folder.")]
RayAddress = Annotated[str | None, typer.Option(help="Head of an existing Ray cluster; without it a private one is started.")]


@app.command()
def train(
    recipe: RecipeFile,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    ray_address: RayAddress = None,
    folder: Folder = None,
) -> None:
    """Run GRPO by a recipe; ends with accuracy before and after, and the report."""
    _train(_recipe(recipe, overrides, folder), resume, ray_address)


@app.command()
def demo(recipe: RecipeFile = Path("configs/quickstart_cpu.yaml"), overrides: Overrides = None) -> None:
    """Like train, each time in a folder of its own."""
    chosen = _recipe(recipe, overrides, None)
    _train(_recipe(recipe, overrides, _free(chosen.folder)), resume=False, ray_address=None)


@app.command()
def plan(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Show pool, distributions, first plan and cost; starts nothing."""
    from trainer.dry_run import dry_run
    from trainer.tables import plan_view

    Console().print(plan_view(dry_run(_recipe(recipe, overrides, None))))


@app.command()
def policies() -> None:
    """List every policy, stage by stage."""
    from trainer.tables import policies_table

    Console().print(policies_table())


@app.command()
def warm_start(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Make the small model of a recipe by worked examples (cached)."""
    chosen = _recipe(recipe, overrides, None)
    if chosen.warm_start is None:
        raise CurriculaError(f"{recipe}: it has no warm_start; the model is {chosen.model.path!r} as it is")
    from trainer.warm_start import warm_started

    typer.echo(str(warm_started(chosen)))


@app.command()
def evaluate(
    where: Annotated[Path, typer.Argument(metavar="RECIPE|RUN", help="Recipe file, or folder of a run.")],
    model: Annotated[Path | None, typer.Option(help="Hugging Face model folder, instead of the run's newest checkpoint.")] = None,
    step: Annotated[int | None, typer.Option(help="The run's checkpoint after so many steps.")] = None,
    overrides: Overrides = None,
    json: Annotated[Path | None, typer.Option("--json", help="File for all numbers, prompt by prompt.")] = None,
    ray_address: RayAddress = None,
) -> None:
    """Measure a model on the recipe's held-out prompts, with the engine and the seeds of the recipe's own evaluations."""
    from trainer.measure import measure, subject_of
    from trainer.tables import scores_table

    measured = measure(subject_of(where, overrides or (), model, step), ray_address)
    Console().print(scores_table(measured.result, measured.subject.name))
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(measured.as_json())


@app.command()
def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, finished or not.")]) -> None:
    """Write RUN/report.html, one page that needs nothing else."""
    from trainer.report import write_report

    typer.echo(str(write_report(run)))


@app.command()
def advise(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Folder of a run, or a log of another trainer.")],
    format: Annotated[
        str | None, typer.Option(help="Its format where it is not detected: a name, or YAML {name: ..., ...}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Say what a log shows about its run, and which recipe to try, with the evidence."""
    from trainer.advice import advise_command

    advise_command(log, format, as_json, Console())


app.add_typer(cli_log.app, name="log")
app.add_typer(cli_lr.app, name="lr")


@app.command()
def simulate(  # noqa: PLR0913 - every option is a number of the simulated world
    recipes: Annotated[list[str] | None, typer.Argument(metavar="[RECIPE]...", help="Recipe names or files; none = all.")] = None,
    seeds: Annotated[int, typer.Option(help="Paired seeds.")] = 20,
    steps: Annotated[int | None, typer.Option(help="The budget is steps x groups x rollouts.")] = None,
    groups: Annotated[int | None, typer.Option(help="Groups per step.")] = None,
    rollouts: Annotated[int | None, typer.Option(help="Rollouts per group.")] = None,
    prompts: Annotated[int | None, typer.Option(help="Prompts in the pool.")] = None,
    visits: Annotated[float | None, typer.Option(help="Groups per prompt over the run, instead of --prompts.")] = None,
    spread: Annotated[float | None, typer.Option(help="Standard deviation of difficulty inside a level, in logits.")] = None,
    transfer: Annotated[float | None, typer.Option(help="How far learning reaches to other levels; 0 = not at all.")] = None,
    noise: Annotated[float | None, typer.Option(help="Chance that the verifier errs.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="a=b", help="Any other number, e.g. levels=12.")] = None,
    sweep: Annotated[
        list[str] | None, typer.Option(metavar="a=1,2,4", help="Regime map over these values; repeat for combinations.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; by default a new one, runs/simulate.")] = None,
    processes: Annotated[int, typer.Option(help="Seeds at a time.")] = 2,
) -> None:
    """Compare recipes on a simulated learner at equal rollouts; no evidence about language models."""
    from trainer.simulate.command import Effort, setting_of, simulate_command

    given = {"steps": steps, "groups": groups, "rollouts": rollouts, "prompts": prompts, "visits": visits}
    setting = setting_of({**given, "spread": spread, "transfer": transfer, "noise": noise}, overrides or ())
    effort = Effort(seeds, processes, out or _free(Path("runs/simulate")))
    simulate_command(recipes or (), setting, sweep or (), effort, Console())


@app.command()
def replay(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Folder of a run, or the rollout log of another trainer.")],
    policies: Annotated[
        list[str] | None, typer.Option("--policy", metavar="RECIPE", help="Recipe name or file; repeatable.")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option("--format", help="Its format where it is not detected: a name, or YAML {name: ..., ...}.")
    ] = None,
    rollouts: Annotated[int | None, typer.Option(help="Rollouts per group that a recipe may spend; by default the log's.")] = None,
    possible: Annotated[
        bool, typer.Option("--possible", help="Recipes choose only among what the log could have chosen at that step.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the recipes' own draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; by default a new one, runs/replay.")] = None,
) -> None:
    """What other recipes would have chosen, spent and kept at the logged states; no accuracy, no speed-up."""
    from replay.passes import Terms
    from trainer.replay_log.command import Options, replay_command

    terms = Terms(rollouts_per_group=rollouts, possible_only=possible)
    options = Options(log_format, terms, seed, out or _free(Path("runs/replay")))
    replay_command(log, policies or (), options, Console())


@app.command()
def twin(  # noqa: PLR0913 - every option is one decision of the user
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Folder of a run, or the rollout log of another trainer.")],
    recipes: Annotated[list[str] | None, typer.Argument(metavar="[RECIPE]...", help="Recipe names or files.")] = None,
    start: Annotated[str, typer.Option("--from", help="start: before the log's first step; end: after its last.")] = "start",
    anyway: Annotated[bool, typer.Option("--anyway", help="Run on even where the hold-out check failed.")] = False,
    draws: Annotated[int, typer.Option(help="Draws of the fitted parameters.")] = 20,
    seeds: Annotated[int, typer.Option(help="Runs per draw.")] = 2,
    log_format: Annotated[
        str | None, typer.Option("--format", help="Its format where it is not detected: a name, or YAML {name: ..., ...}.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; by default a new one, runs/twin.")] = None,
    processes: Annotated[int, typer.Option(help="Runs at a time.")] = 2,
) -> None:
    """SIMULATION: fit a learner to a log, check it on the second half, run recipes forward; no evidence about your model."""
    from trainer.log_format import format_of
    from trainer.twin.command import Task, twin_command

    task = Task(start, anyway, draws, seeds, processes, out or _free(Path("runs/twin")))
    twin_command(log, format_of(log_format), recipes or (), task, Console())


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; what the user can mend is one red message and exit code 2, never a traceback."""
    try:
        app(arguments)
    except (CurriculaError, EnginesLost, RankDied) as error:
        Console(stderr=True).print(Text(str(error), style="red"), soft_wrap=True)
        raise SystemExit(2) from None


def _recipe(path: Path, overrides: Sequence[str] | None, folder: Path | None) -> Recipe:
    here = [f"run.folder='{folder}'"] if folder else []
    return load_recipe(path, [*(overrides or ()), *here])


def _train(recipe: Recipe, resume: bool, ray_address: str | None) -> None:
    from trainer.loop import run
    from trainer.observer import Observers
    from trainer.progress import progress
    from trainer.tensorboard import TensorBoard

    console = Console()
    with progress(console) as shown:
        observer = Observers([shown, TensorBoard(recipe.folder / "tensorboard")])
        summary = run(recipe, resume=resume, ray_address=ray_address, observer=observer)
    if summary.stopped_early:
        console.print(f"stopped after {summary.n_steps} steps, saved; go on with --resume")
        raise typer.Exit(STOPPED)
    _close(Path(summary.folder), console)


def _close(folder: Path, console: Console) -> None:
    """Accuracy before and after, and where the report is."""
    from trainer.report import write_report
    from trainer.run_log import read_run_log
    from trainer.tables import accuracy_table

    evaluations = read_run_log(folder).evaluations
    if len(evaluations) > 1:
        console.print(accuracy_table(evaluations))
    console.print(f"report: {write_report(folder)}", soft_wrap=True, highlight=False)


def _free(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, ... that is not there."""
    candidate, n = folder, 1
    while candidate.exists():
        n += 1
        candidate = folder.with_name(f"{folder.name}-{n}")
    return candidate


if __name__ == "__main__":
    main()

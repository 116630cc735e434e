"""What the commands print: tables for `plan`, `policies` and the end of `train`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from curricula.registry import Description, describe
from curricula.types import Ints
from trainer.dry_run import DryRun
from trainer.observer import EvaluationResult
from trainer.progress import bar
from trainer.settings import RunSettings


def policies_table() -> Table:
    """Every registered policy: stage, name, what it does, source, state size and defaults."""
    table = _table("policies")
    for title in ("stage", "name", "what it does, source, state, defaults"):
        table.add_column(title, overflow="fold", no_wrap=title in ("stage", "name"))
    stage = ""
    for entry in describe():
        if stage and entry.stage != stage:
            table.add_section()
        table.add_row("" if entry.stage == stage else entry.stage, Text(entry.name, "bold"), _account(entry))
        stage = entry.stage
    return table


def _account(entry: Description) -> Text:
    sizes = {"prompt": entry.state_bytes_per_prompt, "distribution": entry.state_bytes_per_distribution}
    state = " + ".join(f"{size:g} bytes per {what}" for what, size in sizes.items() if size) or "no state that grows"
    defaults = ", ".join(f"{key}={value!r}" for key, value in entry.defaults.items())
    facts = [entry.source, state, *([defaults] if defaults else [])]
    return Text.assemble(entry.summary, "\n", ("; ".join(facts), "dim"))


def plan_view(dry: DryRun) -> RenderableType:
    """Everything that `curricula plan` shows."""
    return Group(_arms_table(dry), _cost_table(dry), _facts(dry))


def accuracy_table(evaluations: Sequence[EvaluationResult]) -> Table:
    """Held-out accuracy before and after, by distribution."""
    before, after = evaluations[0], evaluations[-1]
    table = _table("held-out accuracy, sampled (± one standard error)")
    for title in ("distribution", f"after {before.step} steps", f"after {after.step} steps", "points"):
        table.add_column(title, justify="left" if title == "distribution" else "right")
    for name, new in after.scores.items():
        if (old := before.scores.get(name)) is not None:
            cells = (_percent(old.sampled, old.standard_error), _percent(new.sampled, new.standard_error))
            table.add_row(name, *cells, _points(new.sampled - old.sampled))
    table.add_section()
    cells = (_percent(before.sampled, before.standard_error), _percent(after.sampled, after.standard_error))
    table.add_row("mean over distributions", *cells, _points(after.sampled - before.sampled), style="bold")
    return table


def scores_table(result: EvaluationResult, what: str) -> Table:
    """Held-out accuracy of one model, by distribution."""
    table = _table(f"held-out accuracy of {what} (± one standard error)")
    for title in ("distribution", "prompts", "sampled", "greedy"):
        table.add_column(title, justify="left" if title == "distribution" else "right")
    for name, score in result.scores.items():
        cells = (_percent(score.sampled, score.standard_error), _percent(score.greedy, score.greedy_standard_error))
        table.add_row(name, f"{score.n_prompts:,}", *cells)
    table.add_section()
    cells = (_percent(result.sampled, result.standard_error), _percent(result.greedy, result.greedy_standard_error))
    table.add_row("mean over distributions", "", *cells, style="bold")
    return table


def _arms_table(dry: DryRun) -> Table:
    n_greedy = dry.plan.n_completions - dry.plan.n_rollouts
    besides = f", {n_greedy} greedy completions" if n_greedy else ""
    table = _table(f"first plan: {len(dry.plan)} groups, {dry.plan.n_rollouts} rollouts{besides}")
    for title in ("distribution", "prompts", "probability", "", "groups", "rollouts"):
        table.add_column(title, justify="left" if title in ("distribution", "") else "right", no_wrap=title in ("distribution", ""))
    top = float(dry.plan.probability_K.max())
    groups_K = dry.groups_K()
    for k, name in enumerate(dry.pool.distribution_names):
        probability = float(dry.plan.probability_K[k])
        drawn = Text(bar(probability / top, 12), "magenta")
        table.add_row(name, f"{dry.pool.size_K[k]:,}", f"{probability:.3f}", drawn, str(groups_K[k]), _span(dry.rollouts_of(k)))
    return table


def _cost_table(dry: DryRun) -> Table:
    cost, n_steps, tokens = dry.cost, dry.recipe.run.n_steps, dry.recipe.rollout.sampling.max_tokens
    table = _table("cost, upper bounds")
    for title in ("", "without refills", "with every refill"):
        table.add_column(title, justify="right" if title else "left")
    steps = (cost.rollouts_per_step, cost.most_rollouts_per_step)
    runs = [cost.run_rollouts(n_steps, per_step) for per_step in steps]
    for unit, factor in (("rollouts", 1), ("completion tokens", tokens)):
        table.add_row(f"{unit} per step", *(f"{value * factor:,}" for value in steps))
        table.add_row(f"{unit} per run", *(f"{value * factor:,}" for value in runs))
    return table


def _facts(dry: DryRun) -> Text:
    cost, recipe = dry.cost, dry.recipe
    prompt = "not known here (no tokenizer)" if math.isnan(cost.prompt_tokens) else f"{cost.prompt_tokens:.0f} on average"
    asked = ", ".join(f"{amount:g} {kind}" for kind, amount in dry.ray.items() if amount) or "nothing"
    lines = [
        f"pool           {len(dry.pool):,} prompts in {dry.pool.n_distributions} distributions, {dry.n_held_out:,} held out",
        f"steps          {_steps(recipe.run)}, {recipe.run.mode.replace('_', ' ')}",
        f"evaluations    {cost.n_evaluations} of {cost.rollouts_per_evaluation:,} rollouts each (in the run's figures above)",
        f"prompt tokens  {prompt}",
        *_summaries(dry),
        f"learning rate  {' -> '.join(f'{lr:.3g}' for lr in dry.lr)} (first update, half way, last)",
        f"asked of Ray   {asked}",
        f"folder         {recipe.folder}",
    ]
    return Text("\n".join(lines))


def _steps(run: RunSettings) -> str:
    return (
        f"{run.n_steps:,}" if not run.n_tokens else f"at most {run.n_steps:,}, until {run.n_tokens:,} completion tokens are drawn"
    )


def _summaries(dry: DryRun) -> list[str]:
    """What summaries cost on top of the figures above, where the first plan cuts completions."""
    cuts = dry.plan.cuts
    most = len(cuts) * cuts.n_summaries
    tokens = f"{dry.cost.rollouts_per_step * most * cuts.summary_tokens:,}"
    said = f"{most} per rollout at most, of {cuts.summary_tokens} tokens: {tokens} tokens per step more, without refills"
    return [f"summaries      {said}"] if cuts else []


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", header_style="dim", border_style="dim")


def _span(n: Ints) -> str:
    if len(n) == 0:
        return "-"
    return str(n.min()) if n.min() == n.max() else f"{n.min()} to {n.max()}"


def _percent(share: float, error: float) -> str:
    return f"{100 * share:.1f} ± {100 * error:.1f} %" if not math.isnan(error) else f"{100 * share:.1f} %"


def _points(change: float) -> Text:
    return Text(f"{100 * change:+.1f}", "green" if change >= 0 else "red")

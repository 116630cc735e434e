"""What `curricula replay` prints."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from curricula.statistics import Interval
from replay.estimators import Method, NotEstimable, Value
from replay.evaluate import Evaluation, Missing, Replay

PREFERRED: tuple[Method, ...] = ("dr", "snips")  # the first that the log allows is shown


def choice_table(replayed: Replay) -> Table:
    """Which prompts each recipe would have chosen, and what they would have shown."""
    logged = replayed.logged
    table = _table(
        f"{logged.n_steps:,} steps, {logged.n_groups:,} groups of {logged.rollouts_per_group:.3g} rollouts, "
        f"{logged.n_prompts:,} prompts: the recipes' choices at the logged states"
        f"{', among what the log could choose' if replayed.possible_only else ''}"
    )
    table.caption = (
        "overlap: share of its plans that the logged groups are expected to fill (a uniform draw from the whole pool); mix: total "
        "variation distance to the log's distributions; live, learnability, tokens: mean per group that it would have chosen "
        "+- half the 95 % interval, by the doubly robust estimate or, with *, by self-normalised weights; ESS: effective groups"
    )
    for title in ("recipe", "overlap", "mix", "live", "learnability", "tokens", "ESS", "belief error"):
        table.add_column(title, justify="left" if title == "recipe" else "right")
    log_row = [_interval(logged.values[name]) for name in ("live", "learnability", "tokens")]
    table.add_row("the log itself", "", "", *log_row, f"{logged.n_groups}", "", style="bold")
    for evaluation in replayed.evaluations:
        table.add_row(*_choice_cells(evaluation))
    return table


def spending_table(replayed: Replay) -> Table:
    """What each recipe would have spent on the logged prompts."""
    table = _table("their budgets, stopping rules and filters on the logged prompts")
    table.caption = (
        "enough: groups of which the log holds as many rollouts as the recipe asks for; rollouts per group; live, kept: share of "
        "groups; saved: share of the logged rollouts (tokens) not spent; per gradient: rollouts spent per rollout that "
        "enters the update"
    )
    for title in ("recipe", "enough", "rollouts", "live", "kept", "saved", "saved tokens", "per gradient"):
        table.add_column(title, justify="left" if title == "recipe" else "right")
    for evaluation in replayed.evaluations:
        spent = evaluation.spending
        numbers = (spent.saved_rollouts, spent.saved_tokens)
        table.add_row(
            evaluation.recipe,
            f"{spent.told:.0%}",
            "not told" if isinstance(spent.rollouts, Missing) else f"{spent.rollouts.mean:.2f}",
            _interval(spent.live),
            _interval(spent.kept),
            *("not told" if isinstance(number, Missing) else f"{number:.1%}" for number in numbers),
            "not told" if isinstance(spent.per_gradient, Missing) else f"{spent.per_gradient:.2f}",
        )
    return table


def preferred(evaluation: Evaluation, measure: str) -> Value | NotEstimable:
    """The estimate to show: the first of `PREFERRED` that the log allows, else why not."""
    found = [evaluation.choice.values[measure][method] for method in PREFERRED]
    return next((value for value in found if isinstance(value, Value)), found[-1])


def _choice_cells(evaluation: Evaluation) -> list[str]:
    choice, shown = evaluation.choice, [preferred(evaluation, name) for name in ("live", "learnability", "tokens")]
    seen = next((value.overlap for value in shown if value.overlap is not None), None)
    return [
        evaluation.recipe,
        f"{choice.overlap:.1%} ({choice.by_chance:.1%})",
        f"{choice.mix_distance:.2f}",
        *map(_estimated, shown),
        "" if seen is None else f"{seen.effective_groups:.0f}",
        f"{evaluation.calibration.excess:.4f}",
    ]


def _estimated(value: Value | NotEstimable) -> str:
    if isinstance(value, NotEstimable):
        return "not told"
    return f"{span(value.value, value.low, value.high)}{'*' if value.method == 'snips' else ''}"


def _interval(value: Interval | Missing) -> str:
    return "not told" if isinstance(value, Missing) else span(value.mean, value.low, value.high)


def span(mean: float, low: float, high: float) -> str:
    """A mean and half the width of its interval."""
    places = 3 if abs(mean) < 10 else 1
    return f"{mean:.{places}f} ±{(high - low) / 2:.{places}f}"


def _table(title: str) -> Table:
    return Table(title=title, box=SIMPLE_HEAD, title_justify="left", caption_justify="left", title_style="bold")

"""A replay as one HTML page that needs nothing else, not even a network."""

from __future__ import annotations

from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from curricula.statistics import Interval
from replay.estimators import NotEstimable, Value
from replay.evaluate import NEVER_TOLD, Evaluation, Missing, Replay
from trainer.replay_log import pictures
from trainer.replay_log.tables import preferred, span
from trainer.report import html
from trainer.report.style import ordered_colours

MEASURES = {"live": "live groups", "learnability": "learnability, 4 p (1 - p)", "tokens": "completion tokens per group"}
COLUMNS = ("live", "learnability", "tokens")


def write_page(path: Path, replayed: Replay, executed: str) -> Path:
    """Writes the page; ``executed`` says how the run's own decisions came out when they were made again."""
    path.write_text(page(replayed, executed), encoding="utf-8")
    return path


def page(replayed: Replay, executed: str) -> str:
    """The whole page."""
    sections = [_choices(replayed), _mix(replayed), _spending(replayed), _beliefs(replayed), _not_told(replayed)]
    return Template(_resource("page.html")).substitute(
        title="Replay",
        css=_resource("page.css"),
        subtitle=escape(executed),
        cards="\n".join(_cards(replayed)),
        sections="\n".join(part for part in sections if part),
    )


def _cards(replayed: Replay) -> list[str]:
    logged = replayed.logged
    live = logged.values["live"]
    cards = [
        html.card(f"{logged.n_steps:,}", "steps logged"),
        html.card(f"{logged.n_groups:,}", f"groups of {logged.rollouts_per_group:.3g} rollouts"),
        html.card(f"{logged.n_prompts:,}", "prompts"),
    ]
    if isinstance(live, Interval):
        cards.append(html.card(f"{100 * live.mean:.1f} %", "of the logged groups are live"))
    cards.append(html.card("yes" if logged.propensities_known else "no", "propensities are in the log"))
    return cards


def _choices(replayed: Replay) -> str:
    shown = {name: {e.recipe: preferred(e, name) for e in replayed.evaluations} for name in MEASURES}
    figures = [
        html.figure(pictures.rows(shown[name], replayed.logged.values[name], title, share=name == "live"))
        for name, title in MEASURES.items()
    ]
    head = ["recipe", "overlap", "by chance", "mix distance", *COLUMNS, "effective groups", "largest weight"]
    rows = [_choice_row(evaluation) for evaluation in replayed.evaluations]
    logged = [_interval(replayed.logged.values[name]) for name in MEASURES]
    rows.insert(0, ["<b>the log itself</b>", "", "", "", *logged, f"{replayed.logged.n_groups:,}", ""])
    lead = (
        "What the groups that each recipe would have chosen at the logged states would have shown: mean per group with a 95 % "
        "interval over steps, by the doubly robust estimate, or by self-normalised inverse propensities (*). The dashed line is "
        "the log itself. Overlap: the share of the recipe's plans that the logged groups are expected to fill. Mix distance: total "
        "variation between its mix of distributions and the log's, mean over decisions; two draws of one rule differ too."
    )
    if replayed.possible_only:
        lead += (
            " The recipes were asked to choose among the prompts that the log could have chosen at that decision, and no others."
        )
    return html.section("Which prompts", lead, html.pair(*figures), html.table(head, rows))


def _choice_row(evaluation: Evaluation) -> list[str]:
    choice = evaluation.choice
    shown = [preferred(evaluation, name) for name in MEASURES]
    seen = next((value.overlap for value in shown if value.overlap is not None), None)
    tail = [html.NOTHING, html.NOTHING] if seen is None else [f"{seen.effective_groups:,.0f}", f"{seen.largest_weight:.3g}"]
    row = [escape(evaluation.recipe), html.percent(choice.overlap), html.percent(choice.by_chance), f"{choice.mix_distance:.2f}"]
    return [*row, *map(_estimated, shown), *tail]


def _mix(replayed: Replay) -> str:
    lead = "Mean share of each distribution in the recipes' plans."
    colours = ordered_colours(len(replayed.distributions))
    legend = list(zip(replayed.distributions, colours, strict=True))
    return html.section("Which distributions", lead, html.figure(pictures.mixes(replayed), legend=legend))


def _spending(replayed: Replay) -> str:
    lead = (
        "What each recipe's budget and stopping rules would have spent on the logged prompts, and what its filter would have kept. "
        "The rollouts of a group are exchangeable, so any part of them is a fair smaller group; larger groups than the logged ones "
        "nobody has seen."
    )
    head = ["recipe", "enough logged", "rollouts", "tokens", "live", "kept", "rollouts saved", "tokens saved", "per gradient"]
    rows = [_spending_row(evaluation) for evaluation in replayed.evaluations]
    spent = {e.recipe: e.spending for e in replayed.evaluations}
    live = pictures.rows({name: s.live for name, s in spent.items()}, replayed.logged.values["live"], "live groups", share=True)
    rollouts = pictures.rows({name: s.rollouts for name, s in spent.items()}, None, "rollouts per group", share=False)
    return html.section("How many rollouts", lead, html.pair(html.figure(live), html.figure(rollouts)), html.table(head, rows))


def _spending_row(evaluation: Evaluation) -> list[str]:
    spent = evaluation.spending
    shares = [html.NOTHING if isinstance(x, Missing) else f"{x:.1%}" for x in (spent.saved_rollouts, spent.saved_tokens)]
    per = html.NOTHING if isinstance(spent.per_gradient, Missing) else f"{spent.per_gradient:.2f}"
    middle = [_interval(value) for value in (spent.rollouts, spent.tokens, spent.live, spent.kept)]
    return [escape(evaluation.recipe), html.percent(spent.told), *middle, *shares, per]


def _beliefs(replayed: Replay) -> str:
    lead = (
        "What each recipe believed of a prompt's pass rate before its group came, against what the group showed. Excess: mean "
        "squared error above the noise of the groups, 0 where nobody could know better."
    )
    found = {e.recipe: e.calibration for e in replayed.evaluations}
    legend = list(zip(found, ordered_colours(len(found)), strict=True))
    rows = [[escape(name), f"{c.excess:.4f}", f"{c.expected_error:.4f}", f"{c.n_M.sum():,}"] for name, c in found.items()]
    head = ["recipe", "excess", "calibration error", "groups"]
    figures = html.pair(html.figure(pictures.calibration(found)), html.figure(pictures.beliefs(found)))
    return html.section("What it believed", lead, html.legend_list(legend), figures, html.table(head, rows))


def _not_told(replayed: Replay) -> str:
    reasons = {f"{name}, of any recipe": why for name, why in NEVER_TOLD.items()} | _refusals(replayed)
    rows = [[escape(what), escape(why)] for what, why in reasons.items()]
    lacks = f" The log lacks: {', '.join(replayed.lacks)}." if replayed.lacks else ""
    return html.section("What this log does not tell", f"Left out rather than guessed.{lacks}", html.table(["what", "why"], rows))


def _refusals(replayed: Replay) -> dict[str, str]:
    """Why a number of a recipe is missing, each reason once per recipe."""
    found: dict[str, str] = {}
    for evaluation in replayed.evaluations:
        for name, title in MEASURES.items():
            value = preferred(evaluation, name)
            if isinstance(value, NotEstimable) and value.reason not in found.values():
                found[f"{evaluation.recipe}: {title}"] = value.reason
        if isinstance(evaluation.spending.live, Missing):
            found[f"{evaluation.recipe}: spending"] = evaluation.spending.live.reason
    return found


def _estimated(value: Value | NotEstimable) -> str:
    if isinstance(value, NotEstimable):
        return html.NOTHING
    return span(value.value, value.low, value.high) + ("*" if value.method == "snips" else "")


def _interval(value: Interval | Missing) -> str:
    return html.NOTHING if isinstance(value, Missing) else span(value.mean, value.low, value.high)


def _resource(name: str) -> str:
    return resources.files("trainer.report").joinpath(name).read_text(encoding="utf-8")

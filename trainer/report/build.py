"""Puts the page together: sections in the order in which a reader asks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path
from string import Template

from trainer.observer import EvaluationResult, StepRecord
from trainer.report import html, pictures
from trainer.report.data import RunData, Sample, read_run
from trainer.report.dose import HEAD, READ, dose_rows
from trainer.report.style import ordered_colours

DECAY_FROM = "lr/decay_from/"
LONGEST = 1500  # characters of a prompt or completion on the page


def write_report(folder: Path) -> Path:
    """RUN/report.html from RUN/recipe.yaml and RUN/log; the page needs nothing else, not even a network.

    Errors: CurriculaError when the folder holds no run, or a run without a step.
    """
    target = folder / "report.html"
    target.write_text(page(read_run(folder)), encoding="utf-8")
    return target


def page(run: RunData) -> str:
    """The whole page."""
    sections = [
        _accuracy(run.evaluations, run.distributions),
        _training(run),
        _curriculum(run),
        _learning(run),
        _dose(run),
        _cost(run),
        _failures(run.steps),
        _samples(run.samples),
        _recipe(run),
    ]
    return Template(_resource("page.html")).substitute(
        title=escape(run.recipe.name),
        css=_resource("page.css"),
        subtitle=escape(_subtitle(run)),
        cards="\n".join(_cards(run)),
        sections="\n".join(part for part in sections if part),
    )


def _subtitle(run: RunData) -> str:
    recipe = run.recipe
    engine, mode = recipe.rollout.engine, recipe.run.mode.replace("_", " ")
    return (
        f"{_model(run)} on task {recipe.task['name']} · {engine.n_engines} {engine.backend} engine(s) · {mode} · "
        f"seed {recipe.seed} · recipe {recipe.fingerprint}"
    )


def _model(run: RunData) -> str:
    if run.recipe.rollout.engine.backend == "simulated":
        return "a simulated learner"
    return run.recipe.model.path or "a small model made by warm start"


def _cards(run: RunData) -> list[str]:
    cards = []
    if len(run.evaluations) > 1:
        before, after = run.evaluations[0], run.evaluations[-1]
        change = after.sampled - before.sampled
        cards.append(html.card(f"{100 * before.sampled:.1f} → {100 * after.sampled:.1f}", "% held-out accuracy, sampled"))
        cards.append(html.card(html.points(change), f"percentage points (± {100 * _joint_error(before, after):.1f})"))
    seconds = sum(record.seconds for record in run.steps if not math.isnan(record.seconds))
    rollouts = sum(record.n_rollouts for record in run.steps)
    tokens = sum(record.n_tokens_generated for record in run.steps)
    cards.append(html.card(f"{len(run.steps):,}", f"steps of {run.n_steps:,}"))
    cards.append(html.card(f"{rollouts:,}", "rollouts"))
    cards.append(html.card(_short(tokens), "completion tokens generated"))
    sizes = [int(record.metrics["n_prompts"]) for record in run.steps if "n_prompts" in record.metrics]
    if sizes and sizes[-1] > sizes[0]:
        cards.append(html.card(f"{sizes[0]:,} → {sizes[-1]:,}", "prompts in the pool"))
    if seconds > 0:
        cards.append(html.card(_duration(seconds), f"in steps, {_short(tokens / seconds)} tokens/s"))
    return cards


def _accuracy(evaluations: Sequence[EvaluationResult], names: Sequence[str]) -> str:
    if not evaluations:
        return ""
    before, after = evaluations[0], evaluations[-1]
    lead = (
        f"The same held-out prompts after {before.step} and after {after.step} steps. Sampled: average at the training "
        "temperature, ± one standard error over prompts."
    )
    rows = [_score_row(name, before, after) for name in names if name in before.scores and name in after.scores]
    rows.append(_total_row(before, after))
    head = ["distribution", "prompts", "sampled before", "sampled after", "points", "", "greedy before", "greedy after"]
    lines = html.figure(pictures.held_out(evaluations, names), "The band is one standard error.", _legend(names))
    return html.section("Held-out accuracy", lead, html.table(head, rows, last_is_total=True), lines)


def _score_row(name: str, before: EvaluationResult, after: EvaluationResult) -> list[str]:
    old, new = before.scores[name], after.scores[name]
    return [
        escape(name),
        str(new.n_prompts),
        html.percent(old.sampled, old.standard_error),
        html.percent(new.sampled, new.standard_error),
        html.points(new.sampled - old.sampled),
        html.track(old.sampled, new.sampled),
        html.percent(old.greedy),
        html.percent(new.greedy),
    ]


def _total_row(before: EvaluationResult, after: EvaluationResult) -> list[str]:
    return [
        "mean over distributions",
        str(sum(score.n_prompts for score in after.scores.values())),
        html.percent(before.sampled, before.standard_error),
        html.percent(after.sampled, after.standard_error),
        html.points(after.sampled - before.sampled),
        html.track(before.sampled, after.sampled),
        html.percent(before.greedy),
        html.percent(after.greedy),
    ]


def _training(run: RunData) -> str:
    if not run.steps:
        return ""
    names = run.distributions
    return html.section(
        "Training accuracy and reward",
        "Every rollout that was generated counts, those of rejected groups too; smoothed over five percent of the run.",
        html.legend_list(_legend(names)),
        html.pair(
            html.figure(pictures.training_accuracy(run.steps, names)),
            html.figure(pictures.training_reward(run.steps, names)),
        ),
    )


def _curriculum(run: RunData) -> str:
    if not run.steps:
        return ""
    steps, names = run.steps, run.distributions
    reasons, reason_legend = pictures.reasons(steps)
    return html.section(
        "What the curriculum decided",
        "Which distributions were drawn, how hard their prompts were, how many rollouts each group got, and what the filter said.",
        html.figure(pictures.arms(steps, names), "Probability of each distribution at the first plan of the step.", _legend(names)),
        html.pair(
            html.figure(pictures.pass_rates(steps), "Pass rate of every generated group; only what lies between 0 and 1 teaches."),
            html.figure(pictures.budgets(steps), "Rollouts of every generated group."),
            html.figure(reasons, "The filter's verdicts.", reason_legend),
            html.figure(
                pictures.signal(steps),
                "Groups whose rewards differ, and groups that entered the update.",
                [("live", pictures.ACCENT), ("kept", pictures.SECOND)],
            ),
        ),
    )


def _learning(run: RunData) -> str:
    if not run.steps:
        return ""
    at = [operation.step for operation in run.operations]
    causes, legend = pictures.rate(run.steps, at)
    return html.section(
        "Learner",
        "Steps without an update have no loss and no gradient, and do not move the learning rate's clock.",
        html.figure(pictures.learning(run.steps, at), _operations(run)),
        html.figure(
            causes, f"The rate is the peak times the schedule times the smallest of the scales.{_decay_said(run.steps)}", legend
        ),
    )


def _decay_said(steps: Sequence[StepRecord]) -> str:
    """Where on the clock a decay began, and why, where the schedule does not say so alone."""
    found = {key: value for record in steps for key, value in record.metrics.items() if key.startswith(DECAY_FROM)}
    words = [
        f" The decay began at {at:.0%} of the clock: {key.removeprefix(DECAY_FROM).replace('_', ' ')}." for key, at in found.items()
    ]
    return "".join(words)


def _dose(run: RunData) -> str:
    if not sum(one.n_trained for one in run.doses):
        return ""
    rows = [[escape(cell) for cell in row] for row in dose_rows(run.doses)]
    return html.section("Dose by distribution", READ, html.table(list(HEAD), rows, last_is_total=True))


def _operations(run: RunData) -> str:
    said = "; ".join(f"{operation} (before step {operation.step:,})" for operation in run.operations)
    return f"Dotted lines: {said}." if said else ""


def _cost(run: RunData) -> str:
    if not run.steps:
        return ""
    phases, legend = pictures.phase_time(run.steps)
    return html.section(
        "Time and tokens",
        "Phases may overlap, so their sum may exceed the time of the step.",
        html.pair(
            html.figure(phases, "", legend),
            html.figure(pictures.tokens(run.steps), "", [("generated", pictures.ACCENT), ("trained on", pictures.SECOND)]),
        ),
        _phase_table(run.steps),
    )


def _phase_table(steps: Sequence[StepRecord]) -> str:
    total = Counter[str]()
    for record in steps:
        total.update(record.phase_seconds)
    whole = sum(record.seconds for record in steps if not math.isnan(record.seconds)) or sum(total.values())
    rows = [
        [escape(name), f"{seconds:,.1f} s", f"{seconds / len(steps):,.3f} s", f"{seconds / whole:.1%}" if whole else html.NOTHING]
        for name, seconds in total.most_common()
    ]
    return html.table(["phase", "all steps", "per step", "of step time"], rows)


def _failures(steps: Sequence[StepRecord]) -> str:
    total = Counter[str]()
    for record in steps:
        total.update(record.statuses)
    n = sum(total.values())
    rows = [[escape(name), f"{count:,}", f"{count / n:.2%}"] for name, count in total.most_common()]
    return html.section(
        "Statuses of rollouts",
        "Only rollouts of status ok have a reward; the others are in no figure and no update, never counted as zero.",
        html.table(["status", "rollouts", "share"], rows),
    )


def _samples(samples: Sequence[Sample]) -> str:
    by_name = [(name, list(group)) for name, group in groupby(samples, lambda sample: sample.distribution)]
    blocks = [_distribution_samples(name, group, shown=i == 0) for i, (name, group) in enumerate(by_name)]
    return html.section(
        "Sample completions",
        "Of each distribution, the first and the last logged group: the best, a middle and the worst rollout.",
        *blocks,
    )


def _distribution_samples(name: str, samples: Sequence[Sample], shown: bool) -> str:
    groups = groupby(samples, lambda sample: (sample.step, sample.prompt))
    body = "".join(_group_block(step, prompt, list(rollouts)) for (step, prompt), rollouts in groups)
    return f"<details{' open' if shown else ''}><summary>{escape(name)}</summary><div>{body}</div></details>"


def _group_block(step: int, prompt: str, rollouts: Sequence[Sample]) -> str:
    lines = "".join(
        f'<div class="rollout"><span><b>{_reward(sample)}</b></span><pre>{_cut(sample.completion)}</pre></div>'
        for sample in rollouts
    )
    return f'<div class="prompt"><span class="soft">step {step}</span><pre>{_cut(prompt)}</pre></div>{lines}'


def _reward(sample: Sample) -> str:
    return escape(sample.status) if sample.reward is None else f"reward {float(sample.reward):g}"


def _recipe(run: RunData) -> str:
    text = f"<details><summary>recipe.yaml</summary><div><pre>{escape(run.recipe.to_yaml())}</pre></div></details>"
    return html.section("Recipe", "Every value of this run, defaults included.", text)


def _legend(names: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(names, ordered_colours(len(names)), strict=True))


def _joint_error(before: EvaluationResult, after: EvaluationResult) -> float:
    """Of the difference, as if the two measurements were independent: on the same prompts it is smaller."""
    return math.hypot(before.standard_error, after.standard_error)


def _cut(text: str) -> str:
    return escape(text if len(text) <= LONGEST else text[:LONGEST] + f" … ({len(text):,} characters)")


def _short(n: float) -> str:
    """Large numbers as a reader says them.

    >>> _short(1234567)
    '1.2 M'
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if n >= size:
            return f"{n / (1e3 if unit == 'k' else size):.{0 if unit == 'k' else 1}f} {unit}"
    return f"{n:,.0f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _resource(name: str) -> str:
    return resources.files("trainer.report").joinpath(name).read_text(encoding="utf-8")

"""The report's pictures, one function each; a picture without data is an empty string."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from trainer.observer import EvaluationResult, StepRecord
from trainer.report.series import Floats, column, histograms, names_of, smoothed, table, thinned
from trainer.report.style import HALF, INK, WIDE, ordered_colours, picture, svg

ACCENT, SECOND, MUTED = "#3b82d6", "#d9822b", "#8a8f98"
HEAT = LinearSegmentedColormap.from_list("heat", [(0.23, 0.51, 0.84, 0.0), (0.23, 0.51, 0.84, 0.75), (0.85, 0.31, 0.17, 1.0)])
HEAT_COLUMNS = 48  # wide enough for a share of groups to mean something

Steps = Sequence[StepRecord]


def held_out(evaluations: Sequence[EvaluationResult], names: Sequence[str]) -> str:
    """Sampled held-out accuracy per distribution, a band of one standard error around each line."""
    if len(evaluations) < 2:
        return ""
    at = [result.step for result in evaluations]
    with picture() as (figure, (axis,)):
        for name, colour in zip(names, ordered_colours(len(names)), strict=True):
            mean = np.array([_score(result, name, "sampled") for result in evaluations])
            error = np.array([_score(result, name, "standard_error") for result in evaluations])
            axis.plot(at, mean, color=colour, marker="o", markersize=3)
            axis.fill_between(at, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
        _share_axis(axis, "held-out accuracy, sampled")
        return svg(figure, "held-out accuracy per distribution")


def training_accuracy(steps: Steps, names: Sequence[str]) -> str:
    """Pass rate per distribution while training, smoothed over five percent of the run."""
    return _lines_per_distribution(steps, names, lambda record: record.pass_rate, "pass rate in training", share=True)


def training_reward(steps: Steps, names: Sequence[str]) -> str:
    """Raw reward per distribution while training."""
    return _lines_per_distribution(steps, names, lambda record: record.reward, "raw reward in training", share=False)


def arms(steps: Steps, names: Sequence[str]) -> str:
    """Probability of each distribution over the run, stacked to one."""
    shares = thinned(table(steps, lambda record: record.probability, names, 0.0))
    return _stack(steps, shares, ordered_colours(len(names)), "probability")


def reasons(steps: Steps) -> tuple[str, list[tuple[str, str]]]:
    """What the filter said, as shares of generated groups; with its legend."""
    names = names_of(steps, lambda record: record.reasons)
    colours = [ACCENT if name == "kept" else colour for name, colour in zip(names, _warm_colours(len(names)), strict=True)]
    counts = thinned(table(steps, lambda record: record.reasons, names, 0.0))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    words = [name.replace("_", " ") for name in names]
    return _stack(steps, shares, colours, "share of groups", HALF), list(zip(words, colours, strict=True))


def pass_rates(steps: Steps) -> str:
    """Histogram of the groups' pass rates over time."""
    edges = np.linspace(0.0, 1.0, 12)  # eleven bins: 0 and 1 fill the outer ones
    return _heat(steps, [record.pass_rate_B for record in steps], edges, ("0", "0.5", "1"), "pass rate of the group")


def budgets(steps: Steps) -> str:
    """Histogram of rollouts per group over time."""
    most = max((n for record in steps for n in record.n_rollouts_B), default=0)
    if most == 0:
        return ""
    edges = _budget_edges(most)
    return _heat(
        steps,
        [record.n_rollouts_B for record in steps],
        edges,
        ("0", f"{edges[len(edges) // 2]:.0f}", f"{most}"),
        "rollouts of the group",
    )


def learning(steps: Steps, operations: Sequence[int] = ()) -> str:
    """Learning rate, loss and gradient norm, side by side; the rate with the steps at which something was decided about it."""
    parts: list[tuple[str, Callable[[StepRecord], float]]] = [
        ("learning rate", lambda record: record.lr),
        ("loss", lambda record: record.loss),
        ("gradient norm", lambda record: record.grad_norm),
    ]
    with picture(3, (WIDE[0], 2.4)) as (figure, axes):
        for axis, (title, value) in zip(axes, parts, strict=True):
            axis.plot(_at(steps), thinned(column(steps, value)), color=ACCENT)
            _titled(axis, title)
        axes[0].set_ylim(bottom=0)
        _mark(axes[0], operations)
        axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:.0e}" if value else "0")
        return svg(figure, "learning rate, loss and gradient norm")


def rate(steps: Steps, operations: Sequence[int] = ()) -> tuple[str, list[tuple[str, str]]]:
    """What made the learning rate: how far its clock has come, and what multiplies the peak; with its legend."""
    if not any("lr/clock" in record.metrics for record in steps):
        return "", []
    names = ["lr/multiplier", *sorted({name for record in steps for name in record.metrics if name.startswith("lr/scale/")})]
    colours = [ACCENT, *ordered_colours(len(names))[1:]]
    with picture(2, (WIDE[0], 2.4)) as (figure, (clock, causes)):
        clock.plot(_at(steps), thinned(_metric(steps, "lr/clock")), color=ACCENT)
        _share_axis(clock, "the rate's clock, share of its horizon")
        _mark(clock, operations)
        _mark(causes, operations)
        for name, colour in zip(names, colours, strict=True):
            causes.plot(_at(steps), thinned(_metric(steps, name)), color=colour)
        _share_axis(causes, "what multiplies the peak")
        words = ["schedule", *(name.removeprefix("lr/scale/").replace("_", " ") for name in names[1:])]
        return svg(figure, "what made the learning rate"), list(zip(words, colours, strict=True))


def signal(steps: Steps) -> str:
    """Share of generated groups that carry a signal, and of those that entered the update."""
    with picture(size=HALF) as (figure, (axis,)):
        span = max(len(steps) // 20, 1)
        live = column(steps, lambda record: record.live_group_share)
        kept = column(steps, lambda record: record.kept_groups / max(record.generated_groups, 1))
        axis.plot(_at(steps), thinned(smoothed(live, span)), color=ACCENT)
        axis.plot(_at(steps), thinned(smoothed(kept, span)), color=SECOND)
        _share_axis(axis, "share of groups")
        return svg(figure, "share of live and of kept groups")


def phase_time(steps: Steps) -> tuple[str, list[tuple[str, str]]]:
    """Seconds by phase over the run, stacked; with its legend."""
    names = names_of(steps, lambda record: record.phase_seconds)
    if not names:
        return "", []
    seconds = table(steps, lambda record: record.phase_seconds, names, 0.0)
    order = np.argsort(-seconds.sum(axis=0))
    colours = ordered_colours(len(names))
    chart = _stack(steps, thinned(seconds[:, order]), colours, "seconds per step", HALF)
    return chart, [(names[i], colour) for i, colour in zip(order, colours, strict=True)]


def tokens(steps: Steps) -> str:
    """Completion tokens generated and trained on, per step."""
    with picture(size=HALF) as (figure, (axis,)):
        axis.plot(_at(steps), thinned(column(steps, lambda record: record.n_tokens_generated)), color=ACCENT)
        axis.plot(_at(steps), thinned(column(steps, lambda record: record.n_tokens_trained)), color=SECOND)
        axis.set_ylim(bottom=0)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        _titled(axis, "tokens per step")
        return svg(figure, "tokens generated and trained per step")


def _lines_per_distribution(
    steps: Steps, names: Sequence[str], value: Callable[[StepRecord], Mapping[str, float]], title: str, share: bool
) -> str:
    values = table(steps, value, names)
    if np.isnan(values).all():
        return ""
    span = max(len(steps) // 20, 1)
    with picture(size=HALF) as (figure, (axis,)):
        for k, colour in enumerate(ordered_colours(len(names))):
            axis.plot(_at(steps), thinned(smoothed(values[:, k], span)), color=colour, linewidth=1.3)
        if share:
            _share_axis(axis, title)
        else:
            _titled(axis, title)
        return svg(figure, f"{title} per distribution")


def _stack(steps: Steps, values: Floats, colours: Sequence[str], title: str, size: tuple[float, float] = WIDE) -> str:
    with picture(size=size) as (figure, (axis,)):
        axis.stackplot(_at(steps), np.nan_to_num(values.T), colors=list(colours), alpha=0.9, linewidth=0)
        axis.margins(x=0, y=0)
        axis.grid(visible=False)
        _titled(axis, title)
        return svg(figure, f"{title} over the steps")


def _heat(steps: Steps, groups: Sequence[Sequence[float]], edges: Floats, marks: tuple[str, str, str], title: str) -> str:
    """Share of groups per bin and span of steps; stronger = more groups."""
    shares = histograms(groups, edges, HEAT_COLUMNS)
    with picture(size=HALF) as (figure, (axis,)):
        n_bins = len(edges) - 1
        extent = (_at(steps)[0], _at(steps)[-1] + 1.0, 0.0, float(n_bins))
        image = axis.imshow(shares, origin="lower", aspect="auto", extent=extent, cmap=HEAT, vmin=0, interpolation="nearest")
        axis.grid(visible=False)
        axis.set_yticks([0.5, n_bins / 2, n_bins - 0.5], marks)
        bar = figure.colorbar(image, ax=axis, pad=0.02, format=lambda value, _: f"{value:.0%}")
        bar.outline.set_visible(False)
        _titled(axis, title)
        return svg(figure, f"{title}, histogram over time")


def _budget_edges(most: int) -> Floats:
    """One bin per number where that is few; wider bins for large budgets."""
    width = max(int(np.ceil((most + 1) / 24)), 1)
    edges: Floats = np.arange(0.0, most + 1.0 + width, width, dtype=np.float64)
    return edges


def _mark(axis: Axes, at: Sequence[int]) -> None:
    for step in at:
        axis.axvline(step, color=INK, linestyle=":", linewidth=0.9, alpha=0.7)


def _titled(axis: Axes, title: str) -> None:
    axis.set_title(title, loc="left")
    axis.set_xlabel("step")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))


def _share_axis(axis: Axes, title: str) -> None:
    _titled(axis, title)
    axis.set_ylim(-0.02, 1.02)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _at(steps: Steps) -> Floats:
    """Where the thinned points lie."""
    return thinned(column(steps, lambda record: record.step))


def _metric(steps: Steps, name: str) -> Floats:
    return column(steps, lambda record: record.metrics.get(name, np.nan))


def _warm_colours(n: int) -> list[str]:
    return ordered_colours(2 * n + 1)[n:-1] if n > 1 else [SECOND]


def _score(result: EvaluationResult, name: str, what: str) -> float:
    return float(getattr(result.scores[name], what)) if name in result.scores else float("nan")

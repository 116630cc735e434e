"""What `curricula twin` prints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from trainer.simulate.compare import REFERENCE
from trainer.simulate.run import ORACLE
from trainer.simulate.tables import result_table
from trainer.twin.counts import Counts
from trainer.twin.fit import REACHES, Twin
from trainer.twin.forward import OWN, RollForward, Row, range_of
from trainer.twin.holdout import FORECASTS, HoldOut
from trainer.twin.learner import Start, draw_of, pass_rates_K

STARTS: tuple[Start, Start] = ("start", "end")


def fit_table(twin: Twin, counts: Counts, label: str) -> Table:
    """Abilities per distribution, and the four numbers of the whole."""
    table = result_table(f"{label}\nthe fitted learner: median [90 % range]")
    for title in ("distribution", "prompts", "groups", "ability", "pass rate before", "after the log"):
        table.add_column(title, justify="left" if title == "distribution" else "right")
    groups_K = np.bincount(counts.distribution_G, minlength=counts.pool.n_distributions)
    draws = range(len(twin))
    before_DK, after_DK = (np.array([pass_rates_K(draw_of(twin, draw, start)) for draw in draws]) for start in STARTS)
    for k in np.argsort(twin.rank_K):
        ability = f"{np.median(twin.ability_DK[:, k]):+.2f} to {np.median(twin.end_DK[:, k]):+.2f}"
        size, name = str(counts.pool.size_K[k]), str(counts.pool.distribution_names[k])
        table.add_row(name, size, str(groups_K[k]), ability, _percent(before_DK[:, k]), _percent(after_DK[:, k]))
    table.caption = (
        f"rate {_numbers(twin.rate_D, 3)} logits per unit of signal; learning reaches {_reaches(twin)}; spread of difficulty "
        f"{_numbers(twin.spread_D)} logits; misfit between windows of steps {twin.dispersion:.2g} times what chance allows"
    )
    table.caption_justify = "left"
    return table


def holdout_table(found: HoldOut, label: str) -> Table:
    """The second half of the log, distribution by distribution, against what was foreseen."""
    table = result_table(f"{label}\nhold-out check: second half of the log (from step {found.first_step} on), fitted to the first")
    for title in ("distribution", "rollouts", "came", *FORECASTS):
        table.add_column(title, justify="left" if title == "distribution" else "right")
    n_K = found.n_WK.sum(axis=0)
    for k, name in enumerate(found.names_K):
        if n_K[k]:
            shown = (f"{100 * _mean(rate_WK[:, k], found.n_WK[:, k]):.1f} %" for rate_WK in (found.seen_WK, *found.forecast_FWK))
            table.add_row(name, f"{n_K[k]:,}", *shown)
    everything = (f"{100 * _mean(rate_WK, found.n_WK):.1f} %" for rate_WK in (found.seen_WK, *found.forecast_FWK))
    table.add_row("all", f"{n_K.sum():,}", *everything, style="bold")
    table.add_row("live groups", "", *(f"{100 * live_W.mean():.1f} %" for live_W in (found.live_W, found.live_twin_W)), "", "")
    over = (f"{1000 * (loss - found.floor):.2f}" for loss in found.loss_F)
    table.add_row("log-loss over the least", "", "0", *over)
    table.caption = (
        f"log-loss in thousandths of a nat per rollout, over {len(found.live_W)} windows x distributions, beyond a forecast that "
        f"knows every cell; {100 * found.inside:.0f} % of the cells lie in the twin's 90 % range"
    )
    table.caption_justify = "left"
    return table


def verdict(found: HoldOut) -> str:
    """The check in one sentence."""
    if found.passed:
        return "hold-out check passed: the twin foresees the second half better than a constant and a trend do."
    return "hold-out check FAILED: the twin is " + "; ".join(_plain(complaint) for complaint in found.complaints) + "."


def forward_table(result: RollForward, label: str) -> Table:
    """The log's own choices, uniform, the recipes from the best to the worst, the oracle."""
    setting = result.setting
    table = result_table(
        f"{label}\nrolled forward from the {result.start} of the log: "
        f"{result.n_draws} draws x {result.n_seeds} seeds, {setting.budget:,} rollouts in groups of {setting.rollouts}"
    )
    for title in ("recipe", "simulated end", "90 %", "minus uniform", "90 %", "live", "rollouts"):
        table.add_column(title.replace(" ", "\n", title != "90 %"), justify="left" if title == "recipe" else "right", no_wrap=True)
    for row in ordered(result.rows):
        end, against = range_of(100 * row.end_S), range_of(100 * row.difference_S)
        cells = [f"{end.median:.1f} %", f"{end.low:.1f}, {end.high:.1f}", "", ""]
        if row.name != REFERENCE:
            cells[2:] = [f"{against.median:+.1f}", f"{against.low:+.1f}, {against.high:+.1f}"]
        live, rollouts = f"{np.median(row.live_S):.2f}", f"{int(np.median(row.rollouts_S)):,}"
        table.add_row(row.name, *cells, live, rollouts, style=_style(row.name))
    table.caption = (
        "simulated end: mean pass rate of the log's prompts after the last simulated step; minus uniform: points, on the same draw "
        "and seed; medians and 90 % ranges over draws and seeds; live: groups whose rewards differ; oracle: knows every simulated "
        "pass rate"
    )
    table.caption_justify = "left"
    return table


def distribution_table(result: RollForward, label: str) -> Table:
    """The same end, distribution by distribution."""
    table = result_table(f"{label}\npass rate at the end of the simulation by distribution, %: median, and its 90 % range below")
    rows = ordered(result.rows)
    table.add_column("distribution", no_wrap=True)
    for row in rows:
        table.add_column(row.name.replace("_", "_\n"), justify="right", style=_style(row.name))
    for k, name in enumerate(result.names_K):
        ranges = (range_of(100 * row.end_SK[:, k]) for row in rows)
        table.add_row(name, *(f"{value.median:.0f}\n{value.low:.0f}-{value.high:.0f}" for value in ranges))
    return table


def ordered(rows: Sequence[Row]) -> list[Row]:
    """The log's own choices, uniform, the recipes from the best to the worst, the oracle."""
    own, uniform, *others, oracle = rows
    return [own, uniform, *sorted(others, key=lambda row: -float(np.median(row.end_S))), oracle]


def _reaches(twin: Twin) -> str:
    """Shares of the draws by reach."""
    if len(twin.rank_K) == 1:
        return "one distribution"
    words = ["no other" if reach == 0 else "all alike" if reach == REACHES[-1] else f"about {reach:g} places" for reach in REACHES]
    shares = [float((twin.reach_D == reach).mean()) for reach in REACHES]
    return ", ".join(f"{word} ({100 * share:.0f} %)" for word, share in zip(words, shares, strict=True) if share > 0)


def _numbers(value_S: np.ndarray, digits: int = 2) -> str:
    value = range_of(value_S)
    return f"{value.median:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _percent(value_S: np.ndarray) -> str:
    value = range_of(100 * value_S)
    return f"{value.median:.0f} % [{value.low:.0f}, {value.high:.0f}]"


def _mean(rate: np.ndarray, weight: np.ndarray) -> float:
    used = weight > 0
    return float(np.average(rate[used], weights=weight[used]))


def _plain(complaint: str) -> str:
    return complaint if complaint.startswith("no better") else f"fitted where {complaint}"


def _style(name: str) -> str:
    return "bold" if name in (REFERENCE, OWN) else "dim" if name == ORACLE else ""

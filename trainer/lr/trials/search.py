"""`curricula lr search`: the rate whose update is worth most on held-out rollouts.

After AutoLRS (ICLR 2021), with reused rollouts only: fresh ones for every rate would cost more than the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from curricula.statistics import interval
from curricula.types import CurriculaError
from trainer.lr.pictures import picture, rate_axes, say_files
from trainer.lr.tables import headed
from trainer.lr.trials.batches import drawn, start_of
from trainer.lr.trials.effects import MOST_KL
from trainer.lr.trials.forecast import FEWEST
from trainer.lr.trials.gaussian_process import Process
from trainer.lr.trials.held_out import Tried, old_logprobs, try_rate
from trainer.report.style import ordered_colours

N_GRID = 61  # rates that may be tried, at even ratios
KAPPA = 2.0  # standard errors above the mean at which a rate is hoped for


@dataclass(frozen=True)
class Terms:
    """What to search, and what not to believe."""

    low: float = 1e-7  # lowest and
    high: float = 1e-4  # highest rate
    tries: int = 10  # AutoLRS's number
    batches: int = 2  # each makes an update, the others judge it
    updates: int = 1  # steps on the same batch
    until: int = 0  # steps to forecast to; 0 = no forecast
    kl: float = MOST_KL  # old to new, per token, nats: beyond, a rate is refused
    least_ess: float = 0.5  # effective share of the held-out rollouts: below, the estimate is refused

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise CurriculaError(f"lr search: expected 0 < low < high, got --low {self.low:g} --high {self.high:g}")
        if self.tries < 2 or self.batches < 2 or self.updates < 1 or not self.kl > 0:
            raise CurriculaError(
                f"lr search: expected two tries and two batches or more (one judges the other), one update or more and a "
                f"KL above 0; got --tries {self.tries}, --batches {self.batches}, --updates {self.updates}, --kl {self.kl:g}"
            )
        if self.until and not self.until > self.updates >= FEWEST:
            raise CurriculaError(
                f"lr search: a forecast needs --updates {FEWEST} or more and goes beyond them; got --updates {self.updates} "
                f"--forecast {self.until}"
            )

    def believes(self, tried: Tried) -> bool:
        """Whether the policy stayed near enough for its old rollouts to judge it, and there are groups to do so."""
        near = tried.kl <= self.kl and tried.ess >= self.least_ess
        return bool(near and len(tried.gain_B) > 1 and np.isfinite(tried.gain_B).all())


def search_command(path: Path, step: int | None, terms: Terms, out: Path, console: Console) -> None:
    """Draw batches once, search, print and draw what came of it.

    Errors: CurriculaError for what `start_of` refuses, and where no rollouts with a signal come.
    """
    with drawn(start_of(path, step), terms.batches) as bench:
        old = old_logprobs(bench)
        tried = search(lambda lr: try_rate(bench, old, lr, terms.updates, terms.until), terms)
    console.print(table(tried, terms))
    console.print(Text(verdict(tried, terms)))
    draw(tried, terms, out)
    say_files(out, console)


def search(attempt: Callable[[float], Tried], terms: Terms) -> list[Tried]:
    """The lowest rate, the highest, rates far from those tried for half of the tries, then where a Gaussian process hopes for most.

    Its hope is mean + 2 errors over log rate. What lies above a refused rate is not tried any more, and the next rate lies no
    farther than half way to it.
    """
    grid, x = np.geomspace(terms.low, terms.high, N_GRID), np.linspace(0.0, 1.0, N_GRID)
    found: dict[int, Tried] = {}
    cap, i = N_GRID, 0
    while len(found) < terms.tries:
        found[i] = attempt(float(grid[i]))
        if not terms.believes(found[i]):
            cap = min(cap, i)
        good = sorted(k for k in found if k < cap)
        if not good:
            break
        reach = N_GRID - 1 if cap == N_GRID else (good[-1] + cap) // 2
        open_ = [k for k in range(reach + 1) if k not in found]
        if not open_:
            break
        if len(found) == 1:
            i = N_GRID - 1
        elif len(found) <= terms.tries // 2:
            i = max(open_, key=lambda k: (min(abs(k - other) for other in found), k))
        else:
            mean, error = process_of([found[k] for k in good], terms).at(x[open_])
            i = open_[int(np.argmax(mean + KAPPA * error))]
    return [found[k] for k in sorted(found)]


def process_of(tried: Sequence[Tried], terms: Terms) -> Process:
    """Over the share of the way from the lowest to the highest rate, in logarithms."""
    x = np.log([each.lr / terms.low for each in tried]) / math.log(terms.high / terms.low)
    error = [float(np.std(each.gain_B, ddof=1)) / math.sqrt(len(each.gain_B)) for each in tried]
    return Process.of(x, [each.gain.mean for each in tried], error)


def best_of(tried: Sequence[Tried], terms: Terms) -> Tried | None:
    """The highest mean of the process among the rates that were tried and believed."""
    good = believed(tried, terms)
    if not good:
        return None
    process = process_of(good, terms)
    return good[int(np.argmax(process.at(process.x)[0]))]


def believed(tried: Sequence[Tried], terms: Terms) -> list[Tried]:
    """Those below the first one that was refused."""
    refused = min((each.lr for each in tried if not terms.believes(each)), default=math.inf)
    return [each for each in tried if each.lr < refused]


def not_told_apart(tried: Sequence[Tried], best: Tried, terms: Terms) -> list[Tried]:
    """Other believed rates whose difference from the best, group by group, may be 0 (95 % for all of them together)."""
    others = [each for each in believed(tried, terms) if each is not best]
    confidence = 1 - 0.05 / max(len(others), 1)
    return [each for each in others if interval(best.gain_B - each.gain_B, confidence).low <= 0]


def verdict(tried: Sequence[Tried], terms: Terms) -> str:
    """The rate, or that there is none."""
    best, good = best_of(tried, terms), believed(tried, terms)
    if best is None:
        return (
            f"already at {tried[0].lr:.3g} the held-out rollouts cannot judge (KL {tried[0].kl:.2g}, effective share "
            f"{tried[0].ess:.0%}): go down with --low"
        )
    gain, same = best.gain, not_told_apart(tried, best, terms)
    lines = [f"best: {best.lr:.3g}, gain {gain.mean:.3g} ({gain.low:.3g} to {gain.high:.3g}, {len(best.gain_B)} held-out groups)"]
    if gain.low <= 0:
        lines.append("The estimate cannot tell it from no gain at all: draw more --batches.")
    elif same and len(same) == len(good) - 1:
        lines.append("The estimate cannot tell the rates apart: draw more --batches.")
    elif same:
        lines.append(f"not told apart from it: {', '.join(f'{each.lr:.3g}' for each in same)}")
    if best is good[-1]:
        least = f"a KL below {terms.kl:g} and an effective share above {terms.least_ess:.0%}"
        limit = f"what can be judged ({least})" if len(good) < len(tried) else "--high"
        lines.append(f"It is the largest rate within {limit}: the limit chose it, not the estimate; it is a lower bound.")
    return "\n".join(lines)


def table(tried: Sequence[Tried], terms: Terms) -> Table:
    """All rates that were tried."""
    steps = f"{terms.updates} update{'s' if terms.updates > 1 else ''} of each batch, judged by the others"
    if terms.until:
        steps += f"; forecast to {terms.until} updates"
    caption = (
        f"gain: mean of (w - 1) x advantage over held-out rollouts, in units of the advantage, by groups; {steps}. The interval "
        "is for the updates that were made: that other batches would make others is not in it; the best of several is flattered."
    )
    found = headed([], ["rate", "gain", "95 %", "KL/token", "effective", ""], caption)
    best, good = best_of(tried, terms), believed(tried, terms)
    for each in tried:
        gain = each.gain
        values = (f"{each.lr:.2e}", f"{gain.mean:.4f}", f"{gain.low:.4f} to {gain.high:.4f}", f"{each.kl:.2e}", f"{each.ess:.0%}")
        note = "best" if each is best else "" if each in good else "refused"
        found.add_row(*values, note, style="bold" if each is best else "dim" if note else "")
    return found


def draw(tried: Sequence[Tried], terms: Terms, stem: Path) -> None:
    """Gains with their intervals and the process, and how far the policy moved."""
    good, best = believed(tried, terms), best_of(tried, terms)
    colour, accent, *_ = ordered_colours(2)
    with picture(stem, 3.4) as figure:
        left, right = figure.subplots(1, 2, sharex=True)
        gains = [each.gain for each in good]
        reach = [[gain.mean - gain.low for gain in gains], [gain.high - gain.mean for gain in gains]]
        left.errorbar(
            [each.lr for each in good], [gain.mean for gain in gains], reach, fmt="o", color=colour, markersize=4, linewidth=1.0
        )
        if best is not None:
            x = np.linspace(0.0, math.log(good[-1].lr / terms.low) / math.log(terms.high / terms.low), 200)
            mean, error = process_of(good, terms).at(x)
            at = terms.low * (terms.high / terms.low) ** x
            left.plot(at, mean, color=colour)
            left.fill_between(at, mean - KAPPA * error, mean + KAPPA * error, color=colour, alpha=0.15, linewidth=0)
        left.set_xscale("log")
        left.set_title("gain on held-out rollouts (units of the advantage)", loc="left")
        right.plot([each.lr for each in tried], [each.kl for each in tried], "o-", color=colour, markersize=4)
        right.axhline(terms.kl, color=accent, linewidth=1.0, linestyle="--")
        right.set_yscale("log")
        right.set_title("KL, old to new, per held-out token", loc="left")
        rate_axes(figure, (left, right), best.lr if best else None, accent)

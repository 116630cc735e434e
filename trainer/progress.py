"""Live progress in the terminal: one panel that is redrawn on a terminal, one plain line per few steps elsewhere."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from trainer.observer import EvaluationResult, Observer, RunSummary, Silent, StepRecord

RECENT = 20  # steps behind every rate
BAR = 28  # characters
SPARKS = "▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass
class Tally:
    """What the display knows; fed by the observers, read by the renderers."""

    clock: Callable[[], float] = time.monotonic
    name: str = ""
    last: StepRecord | None = None
    accuracy: deque[float] = field(default_factory=lambda: deque(maxlen=2 * BAR))
    step_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    tokens: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    phase_seconds: Counter[str] = field(default_factory=Counter)
    phase: str = "starting"
    phase_began: float = 0.0
    step_began: float = 0.0
    evaluations: list[EvaluationResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.phase_began = self.step_began = self.clock()

    def enter(self, phase: str) -> None:
        self.phase, self.phase_began = phase, self.clock()

    def add(self, record: StepRecord) -> None:
        now = self.clock()
        self.step_seconds.append(now - self.step_began if math.isnan(record.seconds) else record.seconds)
        self.tokens.append(record.n_tokens_generated)
        self.accuracy.append(record.accuracy)
        self.phase_seconds.update(record.phase_seconds)
        self.last, self.step_began = record, now

    @property
    def tokens_per_second(self) -> float:
        seconds = sum(self.step_seconds)
        return sum(self.tokens) / seconds if seconds > 0 else math.nan

    @property
    def seconds_left(self) -> float:
        if self.last is None or not self.step_seconds:
            return math.nan
        remaining = self.last.n_steps - self.last.step - 1
        return remaining * sum(self.step_seconds) / len(self.step_seconds)


@contextmanager
def progress(console: Console, every: int = 10) -> Iterator[Observer]:
    """The display that fits the console; it lets go of the terminal however the run ends."""
    if not console.is_terminal:
        yield PlainProgress(console, every)
        return
    live = LiveProgress(console)
    try:
        yield live
    finally:
        live.stop()


class PlainProgress(Silent):
    """A line per ``every`` steps, the first and the last included."""

    def __init__(self, console: Console, every: int = 10) -> None:
        self._console = console
        self._every = every
        self._tally = Tally()

    def on_start(self, facts: Mapping[str, Any]) -> None:
        self._tally.name = facts["recipe"].name

    def on_step(self, record: StepRecord) -> None:
        self._tally.add(record)
        if record.step % self._every == 0 or record.step == record.n_steps - 1:
            self._print(step_line(self._tally))

    def on_evaluation(self, result: EvaluationResult) -> None:
        self._print(evaluation_line(result))

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class LiveProgress(Silent):
    """A panel that is redrawn twice a second, so that a long phase shows that it is alive."""

    def __init__(self, console: Console) -> None:
        self._tally = Tally()
        self._live = Live(console=console, refresh_per_second=2, get_renderable=lambda: panel(self._tally))

    def on_start(self, facts: Mapping[str, Any]) -> None:
        self._tally.name = facts["recipe"].name
        self._live.start()

    def on_phase(self, name: str) -> None:
        self._tally.enter(name)

    def on_step(self, record: StepRecord) -> None:
        self._tally.add(record)

    def on_evaluation(self, result: EvaluationResult) -> None:
        self._tally.evaluations.append(result)

    def on_end(self, summary: RunSummary) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the last picture on the screen; may be called again."""
        self._live.stop()


def step_line(tally: Tally) -> str:
    """The newest step in one line."""
    record = tally.last
    if record is None:
        return "no step yet"
    width = len(str(record.n_steps))
    return (
        f"step {record.step + 1:{width}d}/{record.n_steps}  reward {record.reward_mean:.3f}  accuracy {record.accuracy:.3f}"
        f"  live {record.live_group_share:.2f}  kept {record.kept_groups}/{record.generated_groups}"
        f"  {_count(tally.tokens_per_second)} tokens/s  lr {record.lr:.2e}  left {_clock(tally.seconds_left)}"
    )


def evaluation_line(result: EvaluationResult) -> str:
    """Held-out accuracy in one line."""
    parts = "  ".join(f"{name} {score.sampled:.2f}" for name, score in result.scores.items())
    return f"held out after {result.step} steps: sampled {result.sampled:.3f}  greedy {result.greedy:.3f}  ({parts})"


def panel(tally: Tally) -> Panel:
    """Everything worth watching, as one panel."""
    body: list[RenderableType] = [_headline(tally)]
    if tally.last is not None:
        body += [_numbers(tally, tally.last), Text(), _arms(tally.last), Text(), _phases(tally)]
    body += [Text(evaluation_line(result), style="green") for result in tally.evaluations[-1:]]
    return Panel(Group(*body), title=tally.name or "curricula", border_style="cyan", width=100)


def _headline(tally: Tally) -> Text:
    done, total = (tally.last.step + 1, tally.last.n_steps) if tally.last else (0, 0)
    text = Text()
    text.append(bar(done / total if total else 0.0, BAR), style="cyan")
    text.append(f"  step {done}/{total or '?'}", style="bold")
    text.append(f"   left {_clock(tally.seconds_left)}")
    text.append(f"   {tally.phase} {tally.clock() - tally.phase_began:.0f} s", style="dim")
    return text


def _numbers(tally: Tally, record: StepRecord) -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_row(
        f"reward [bold]{record.reward_mean:.3f}[/]",
        f"accuracy [bold]{record.accuracy:.3f}[/] [green]{sparks(list(tally.accuracy))[-16:]}[/]",
        f"live groups [bold]{record.live_group_share:.0%}[/]",
        f"kept [bold]{record.kept_groups}/{record.generated_groups}[/]",
    )
    table.add_row(
        f"{_count(tally.tokens_per_second)} tokens/s",
        f"{_count(record.n_rollouts)} rollouts, {_count(record.n_tokens_generated)} tokens",
        f"lr {record.lr:.2e}",
        f"loss {record.loss:+.4f}",
    )
    return table


def _arms(record: StepRecord) -> Table:
    """Probability of each distribution as a bar, the pass rate beside it."""
    table = Table.grid(padding=(0, 2))
    table.add_row("[dim]distribution", f"[dim]{'probability':{BAR}}", "", "[dim]pass rate")
    top = max(record.probability.values(), default=1.0) or 1.0
    for name, probability in record.probability.items():
        rate = record.pass_rate.get(name, math.nan)
        shown = "[dim]not drawn" if math.isnan(rate) else f"{rate:.2f}"
        table.add_row(Text(name), f"[magenta]{bar(probability / top, BAR)}[/]", f"{probability:.3f}", shown)
    return table


def _phases(tally: Tally) -> Text:
    total = sum(tally.phase_seconds.values())
    shares = [f"{name} {seconds / total:.0%}" for name, seconds in tally.phase_seconds.most_common()] if total > 0 else []
    return Text("time: " + ", ".join(shares), style="dim") if shares else Text()


def bar(share: float, width: int) -> str:
    """A bar in eighths of a character.

    >>> bar(0.5, 4)
    '██  '
    """
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def sparks(values: list[float]) -> str:
    """A line of small bars between the least and the greatest value.

    >>> sparks([0.0, 0.5, 1.0])
    '▁▅█'
    """
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1.0
    return "".join(" " if math.isnan(v) else SPARKS[math.floor((v - low) / span * (len(SPARKS) - 1) + 0.5)] for v in values)


def _count(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:,.0f}"


def _clock(seconds: float) -> str:
    if math.isnan(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

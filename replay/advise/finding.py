"""A finding: one sentence about a run, the numbers it rests on, what to try, and what would show it wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from curricula.recipes import RECIPES
from curricula.types import known_or_raise
from replay.advise.intervals import Measured

Severity = Literal["high", "medium", "low", "not estimable"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

Kind = Literal[
    "measured",  # a mean over the log
    "exact",  # an exact expectation over sub-groups of the logged rollouts
    "model",  # a prediction of a fitted model: nothing that the log shows
    "count",  # counted; no sample of anything
]
SHOWN = 5  # distributions that a finding names; more are counted


@dataclass(frozen=True)
class Number:
    """One figure of the evidence. ``low`` to ``high`` is its 95 % interval; without one they are None."""

    name: str
    value: float
    unit: str
    low: float | None
    high: float | None
    n: int  # how many of `of` it rests on
    of: str  # what is counted as independent: steps, prompts; or what was counted
    kind: Kind = "measured"

    def __str__(self) -> str:
        scale, unit = (100.0, " %") if self.unit.startswith("share") else (1.0, f" {self.unit}" if self.unit else "")
        around = "" if self.low is None or self.high is None else f" [{_short(scale * self.low)}, {_short(scale * self.high)}]"
        label = {"measured": "", "count": "", "exact": ", exact over sub-groups", "model": ", a model's prediction"}[self.kind]
        return f"{self.name}: {_short(scale * self.value)}{unit}{around} ({self.n:,} {self.of}{label})"


@dataclass(frozen=True)
class Suggestion:
    """Something to try against `uniform`: a recipe, a setting as ``--set`` takes it, or a change in words.

    Errors: CurriculaError for a recipe that does not exist.
    """

    why: str
    recipe: str = ""
    setting: str = ""
    change: str = ""

    def __post_init__(self) -> None:
        if self.recipe:
            known_or_raise("recipe", self.recipe, tuple(RECIPES))

    def __str__(self) -> str:
        what = f"recipe {self.recipe}" if self.recipe else f"--set {self.setting}" if self.setting else self.change
        return f"{what}: {self.why}"


@dataclass(frozen=True)
class Finding:
    """What one rule says about a run."""

    name: str
    severity: Severity
    sentence: str
    evidence: tuple[Number, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    refuted_by: str = ""
    lacks: tuple[str, ...] = ()  # what the log would have to hold, where the severity is "not estimable"


def not_estimable(name: str, question: str, lacks: Sequence[str], evidence: Iterable[Number] = ()) -> Finding:
    """The answer of a rule where the log cannot tell."""
    return Finding(
        name, "not estimable", f"Not estimable: {question}; the log lacks {', '.join(lacks)}.", tuple(evidence), lacks=tuple(lacks)
    )


def number(name: str, unit: str, measured: Measured, kind: Kind = "measured") -> Number:
    """A measured mean as evidence."""
    return Number(name, measured.value, unit, measured.low, measured.high, measured.n, measured.of, kind)


def counted(name: str, value: float, unit: str, n: int, of: str) -> Number:
    """A count, or another figure that has no interval because it is no sample."""
    return Number(name, float(value), unit, None, None, n, of, "count")


def percent(measured: Measured) -> str:
    """A share with its interval, for sentences.

    >>> percent(Measured(0.5, 0.4, 0.6, 3, "steps"))
    '50.0 % [40.0, 60.0]'
    """
    if math.isnan(measured.value):
        return "an unknown share"
    return f"{_short(100 * measured.value)} % [{_short(100 * measured.low)}, {_short(100 * measured.high)}]"


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def as_plain(finding: Finding) -> dict[str, Any]:
    """A finding as JSON values: always these keys; what is not a finite number is null."""
    plain = asdict(finding)
    for entry in plain["evidence"]:
        known = math.isfinite(entry["value"])
        for key in ("value", "low", "high"):
            entry[key] = entry[key] if known and entry[key] is not None and math.isfinite(entry[key]) else None
    return plain


def _short(value: float) -> str:
    """One digit behind the point, none for large numbers, two significant ones below 1."""
    size = abs(value)
    return "0" if value == 0 else f"{value:,.0f}" if size >= 99.5 else f"{value:.1f}" if size >= 0.995 else f"{value:.2g}"

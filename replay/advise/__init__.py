"""What the log of a run says about the run, which recipe to try, and the evidence for each sentence.

A finding is a pure function of a `LoggedRun` in a file of ``findings/``, registered under its name:

    @register
    def staleness(run: LoggedRun) -> Finding | None: ...

None means that there is nothing to say. Adding one: a file there; no list is edited.

No finding says what a model would have learned: the policy weights at a step came from the logged selections, so a log holds no
evidence about another run's accuracy or speed. A suggestion is a thing to try against `uniform`, with the reason for trying it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from functools import cache

from curricula.types import known_or_raise
from replay.advise.finding import SEVERITIES, Finding, Number, Suggestion, as_plain
from replay.types import LoggedRun

__all__ = ["Finding", "Number", "Suggestion", "advise", "as_plain", "known_findings", "register"]

Rule = Callable[[LoggedRun], Finding | None]
_REGISTERED: dict[str, Rule] = {}


def register(rule: Rule) -> Rule:
    """Decorator: makes a function known as the finding of its name."""
    _REGISTERED[rule.__name__] = rule
    return rule


def known_findings() -> tuple[str, ...]:
    """Names of the findings, sorted."""
    _import_folder()
    return tuple(sorted(_REGISTERED))


def advise(run: LoggedRun, names: Sequence[str] | None = None) -> list[Finding]:
    """What there is to say about a run, most severe first, what the log cannot tell last. ``names``: these findings only."""
    asked = known_findings() if names is None else names
    for name in asked:
        known_or_raise("finding", name, known_findings())
    found = [finding for name in asked if (finding := _REGISTERED[name](run)) is not None]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


@cache
def _import_folder() -> None:
    folder = importlib.import_module("replay.advise.findings")
    for module in sorted(info.name for info in pkgutil.iter_modules(folder.__path__)):
        importlib.import_module(f"replay.advise.findings.{module}")

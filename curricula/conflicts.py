"""Combinations that are known to work against each other: said when a curriculum is built, never refused.

A rule reads every policy of the curriculum, those inside combinators and behind pacings too, as (stage, name, policy).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from curricula.paced import Paced
from curricula.registry import PROTOCOLS, STAGES, kind_of, name_of
from curricula.stages import Stages


class ConflictWarning(UserWarning):
    """Two policies of a curriculum that undo or starve each other."""


@dataclass(frozen=True)
class Part:
    """A policy somewhere in a curriculum."""

    stage: str
    name: str
    policy: Any


Rule = Callable[[Sequence[Part]], str | None]  # what is wrong, or nothing


def warn_of_conflicts(stages: Stages) -> None:
    """ConflictWarning for every known conflict."""
    parts = [part for stage in STAGES for part in parts_of(stage, getattr(stages, stage))]
    for rule in RULES:
        if said := rule(parts):
            warnings.warn(f"curriculum: {said}", ConflictWarning, stacklevel=3)


def parts_of(stage: str, policy: Any) -> Iterator[Part]:
    """The policy itself and all that it is made of."""
    if isinstance(policy, Paced):
        yield from parts_of(stage, policy.policy)
        return
    yield Part(stage, name_of(stage, policy), policy)
    for field in fields(policy):
        kind, value = kind_of(type(policy), field.name), getattr(policy, field.name)
        inner = value if isinstance(value, tuple) else (value,)
        for one in inner:
            if is_dataclass(one) and not isinstance(one, type):
                yield from parts_of(PROTOCOLS.get(kind, stage), one)


def both(first: str, second: str, why: str) -> Rule:
    """A rule for two policies that should not meet."""

    def rule(parts: Sequence[Part]) -> str | None:
        there = {part.name for part in parts}
        return f"{first!r} together with {second!r}: {why}" if {first, second} <= there else None

    return rule


def starved(parts: Sequence[Part]) -> str | None:
    """Prompts that are retired, under a selector that never looks back."""
    retires = [part for part in parts if part.name in ("skip_solved", "threshold", "band")]
    greedy = [part for part in parts if part.stage == "selector" and getattr(part.policy, "floor", 1.0) == 0.0]
    if retires and greedy:
        return (
            f"selector {greedy[0].name!r} has floor 0 under {retires[0].name!r}: what was left out once is never rolled out again, "
            "so what is believed of it never changes; give it a floor above 0"
        )
    return None


def uncapped(parts: Sequence[Part]) -> str | None:
    """V0's utility rises for ever with the group."""
    for part in parts:
        if getattr(part.policy, "utility", None) == "v0" and getattr(part.policy, "max_n", 0) > 64:
            return (
                f"budget {part.name!r} with utility 'v0' and max_n={part.policy.max_n}: the utility grows without bound "
                "in the group's size, so the hardest prompts take everything; cap max_n (12 to 32)"
            )
    return None


SAME_MEANS = "both adapt to the mean score of a batch that the other has selected, so each sees the other's bias"
RULES: tuple[Rule, ...] = (
    both("greso", "straddle", SAME_MEANS),
    both("greso", "adarft", SAME_MEANS),
    both("greso", "rasch", SAME_MEANS),
    both(
        "d3s", "reinforce_ada", "pooled down-sampling undoes the balance of the groups that the budget paid for; use balanced_keep"
    ),
    both("pods", "soft_weights", "the weight is made for the whole group, the advantages for the rollouts that are left"),
    both("nonzero_variance", "remax", "a group whose rollouts all miss what the greedy completion gets has signal; use keep_all"),
    both(
        "nonzero_variance",
        "budget_split",
        "a group of equal rewards may still differ at its cuts, and is thrown away; use keep_all",
    ),
    both("remax", "budget_split", "advantages between cuts have a baseline of their own; the greedy completions would not be used"),
    starved,
    uncapped,
)

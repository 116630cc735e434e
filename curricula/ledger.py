"""The books of a curriculum: which groups were learned from, and which rollouts earlier steps left unspent."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from curricula.types import Bools, Ints, RolloutPlan, step_of_group

MEMORY_STEPS = 64  # groups planned longer ago than this are late: they are counted and not learned from


class Ledger(NamedTuple):
    """Bounded memory: group and plan ids of the last 64 steps, one byte per prompt, and a few counters."""

    seen_N: Bools  # (N,) prompts that were ever learned from
    group: Ints  # (any,) ids learned from, ascending
    plan: Ints  # (any,) ids of plans whose budget was settled, ascending
    step: Ints  # () newest step learned from; -1 before the first
    unspent: Ints  # () rollouts in hand; negative after two plans spent the same ones
    left: Ints  # () rollouts that the newest step left
    n_late: Ints  # () groups that came too late
    n_repeated: Ints  # () groups that came again


def empty_ledger(n_prompts: int) -> Ledger:
    """Nothing learned, nothing owed."""
    none = np.empty(0, dtype=np.int64)
    return Ledger(np.zeros(n_prompts, dtype=np.bool_), none, none, *(_number(value) for value in (-1, 0, 0, 0, 0)))


def carried(ledger: Ledger, step: int, attempt: int) -> int:
    """Rollouts that a plan may spend on top of its own budget.

    With no earlier step in flight that is all in hand. Otherwise it is what the newest step left, which the plans in flight
    cannot have claimed. Only a step's first plan claims; a debt is paid by every first plan until it is settled.
    """
    if attempt:
        return 0
    in_flight = step > int(ledger.step) + 1
    return int(min(ledger.unspent, ledger.left)) if in_flight else int(ledger.unspent)


def is_fresh(ledger: Ledger, group: Ints) -> tuple[Bools, Bools]:
    """(B,) recent enough and never learned from; and (B,) too late."""
    late = step_of_group(group) <= int(ledger.step) - MEMORY_STEPS
    return ~late & ~_contains(ledger.group, group), late


def plan_id(plan: RolloutPlan) -> int:
    """One number per plan, ordered by step."""
    return (plan.step << 32) + (plan.attempt << 20)


def settle(ledger: Ledger, plan: RolloutPlan) -> Ledger:
    """The books after a plan came back; each plan is settled once."""
    key = plan_id(plan)
    if key in ledger.plan or plan.step <= int(ledger.step) - MEMORY_STEPS:
        return ledger
    newest = max(plan.step, int(ledger.step))
    return ledger._replace(
        plan=_recent(np.append(ledger.plan, key), newest),
        step=_number(newest),
        unspent=_number(ledger.unspent + plan.n_unspent - plan.n_carried),
        left=_number(_left(ledger, plan)),
    )


def record(ledger: Ledger, prompt: Ints, group: Ints) -> Ledger:
    """The books after learning from these groups."""
    ledger.seen_N[prompt] = True
    return ledger._replace(group=_recent(np.concatenate([ledger.group, group]), int(ledger.step)))


def _left(ledger: Ledger, plan: RolloutPlan) -> int:
    """What the newest step left, all its attempts together."""
    if plan.step > int(ledger.step):
        return plan.n_unspent
    return int(ledger.left) + (plan.n_unspent if plan.step == int(ledger.step) else 0)


def _number(value: object) -> Ints:
    return np.asarray(value, dtype=np.int64)


def _contains(ascending: Ints, key: Ints) -> Bools:
    place = np.searchsorted(ascending, key)
    known = np.append(ascending, -1)  # past the end: no id is negative
    return np.asarray(known[place] == key)


def _recent(key: Ints, step: int) -> Ints:
    return np.sort(key[step_of_group(key) > step - MEMORY_STEPS], kind="stable")  # nearly sorted: merges runs in one pass

"""This project's own log as what a curriculum learned from: plans, outcomes, verdicts, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curricula.types import (
    CurriculaError,
    Cuts,
    Feedback,
    Floats,
    Outcome,
    PromptPool,
    Reason,
    Refill,
    RolloutPlan,
    Selection,
    Status,
    Verdict,
)
from rollout.grown import Grown, grown_pool, read_grown
from rollout.log import read_log

Record = Mapping[str, Any]
Advantages = Callable[[Outcome], Floats]  # (R,) as the run gave them to its curriculum


class LoggedStep(NamedTuple):
    """All attempts of one step, in their order."""

    step: int
    feedbacks: list[Feedback]
    grown: Grown | None = None  # what was added to the pool after it


def logged_steps(folder: Path, pool: PromptPool, advantages: Advantages | None = None) -> Iterator[LoggedStep]:
    """Steps of a log in order; memory does not grow with the log. ``pool`` is the one that the run began with.

    Errors: CurriculaError for a damaged log, or one of another pool.
    """
    row = {str(prompt): i for i, prompt in enumerate(pool.ids)}
    groups: list[Record] = []
    open_step: LoggedStep | None = None
    for record in read_log(folder):
        if record["kind"] == "group":
            groups.append(record)
            continue
        if record["kind"] not in ("attempt", "grown"):
            continue
        if open_step is not None and open_step.step != record["step"]:
            yield open_step
            open_step = None
        open_step = open_step or LoggedStep(int(record["step"]), [])
        if record["kind"] == "attempt":
            _refuse_other_pool(folder, record, pool)
            open_step.feedbacks.append(_feedback(record, groups, row, advantages))
            groups = []
        else:
            open_step = open_step._replace(grown=read_grown(record))
            pool = grown_pool(pool, read_grown(record))
            row = {str(prompt): i for i, prompt in enumerate(pool.ids)}
    if open_step is not None:
        yield open_step


def _refuse_other_pool(folder: Path, record: Record, pool: PromptPool) -> None:
    if record["pool"] != pool.fingerprint:
        raise CurriculaError(
            f"{folder}: step {record['step']} was planned from a pool with fingerprint {record['pool']}, this pool has "
            f"{pool.fingerprint}; replay with the data of the run"
        )


def _feedback(attempt: Record, groups: Sequence[Record], row: Mapping[str, int], advantages: Advantages | None) -> Feedback:
    plan = _plan(attempt, groups, row)
    outcome = _outcome(attempt, groups, plan)
    verdict = Verdict(
        kept_B=np.array([group["kept"] for group in groups], dtype=np.bool_),
        reason_B=np.array([Reason[group["reason"].upper()] for group in groups], dtype=np.uint8),
        carries_gradient_R=np.array(_flat(groups, "gradient"), dtype=np.bool_),
        refill=Refill[attempt["refill"].upper()],
        weight_B=np.array([group["weight"] for group in groups], dtype=np.float64),
        renormalise=bool(attempt["renormalise"]),
        refill_margin=float(attempt["refill_margin"]),
    )
    return Feedback(outcome, verdict, None if advantages is None else advantages(outcome))


def _plan(attempt: Record, groups: Sequence[Record], row: Mapping[str, int]) -> RolloutPlan:
    place = {name: k for k, name in enumerate(attempt["distributions"])}
    selection = Selection(
        prompt_B=np.array([row[group["prompt"]] for group in groups], dtype=np.int64),
        distribution_B=np.array([place[group["distribution"]] for group in groups], dtype=np.int64),
        propensity_B=np.array([group["propensity"] for group in groups], dtype=np.float64),
    )
    return RolloutPlan(
        step=int(attempt["step"]),
        attempt=int(attempt["attempt"]),
        round=int(attempt["round"]),
        selection=selection,
        n_rollouts_B=_ints(groups, "n_asked"),
        group_B=_ints(groups, "group"),
        probability_K=np.array(attempt["probabilities"], dtype=np.float64),
        n_carried=int(attempt["n_carried"]),
        n_unspent=int(attempt["n_unspent"]),
        max_tokens_B=_ints(groups, "max_tokens"),
        greedy_B=np.array([group["greedy"] is not None for group in groups], dtype=np.bool_),
        max_turns_B=_ints(groups, "max_turns"),
        stated_tokens_B=_ints(groups, "stated_tokens"),
        cuts=Cuts(tuple(attempt["cuts"]), int(attempt["n_summaries"]), int(attempt["summary_tokens"])),
    )


def _outcome(attempt: Record, groups: Sequence[Record], plan: RolloutPlan) -> Outcome:
    n_B = [len(group["rewards"]) for group in groups]
    low, high = attempt["reward_range"]
    return Outcome(
        plan=plan,
        group_R=np.repeat(np.arange(len(groups)), n_B),
        reward_R=np.array([_number(reward) for reward in _flat(groups, "rewards")], dtype=np.float64),
        status_R=np.array([Status[status.upper()] for status in _flat(groups, "statuses")], dtype=np.uint8),
        n_tokens_R=np.array(_flat(groups, "n_tokens"), dtype=np.int64),
        policy_version_R=np.array(_flat(groups, "versions"), dtype=np.int64),
        reward_range=(float(low), float(high)),
        baseline_B=np.array([_baseline(group["greedy"]) for group in groups], dtype=np.float64),
        n_turns_R=np.array(_flat(groups, "turns"), dtype=np.int64),
        cut_score_RS=_cut_scores(_flat(groups, "cut_scores"), len(plan.cuts)),
    )


def _cut_scores(rows: Sequence[Sequence[Any]], n_cuts: int) -> Floats:
    """(R, S) as logged; a rollout without a reward has no row."""
    table_RS = np.full((len(rows), n_cuts), np.nan)
    for r, row in enumerate(rows if n_cuts else ()):
        table_RS[r, : len(row)] = [_number(score) for score in row]
    return table_RS


def _baseline(greedy: Record | None) -> float:
    return _number(greedy["reward"]) if greedy is not None and greedy["status"] == "ok" else np.nan


def _flat(groups: Sequence[Record], key: str) -> list[Any]:
    return [value for group in groups for value in group[key]]


def _ints(groups: Sequence[Record], key: str) -> np.ndarray:
    return np.array([group[key] for group in groups], dtype=np.int64)


def _number(value: Any) -> float:
    """As the log writes numbers: null is NaN, infinities are text."""
    return np.nan if value is None else float(value)

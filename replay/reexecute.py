"""A run's decisions made again: the run's own collector and curriculum, with the log in the place of engines and verifiers.

Every plan, verdict and allocation round has to come out as logged, bit for bit; the first that does not ends the replay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from curricula.types import Feedback, RolloutPlan, Status, Verdict
from replay.own_log import LoggedStep
from rollout.collector import GREEDY_PART, Collector
from rollout.prompts import Prompt
from rollout.types import Attempt, Completion, FinishReason, Judged, Request, Ticket


class Replayed(NamedTuple):
    """How far a replay agreed with the log."""

    n_steps: int
    n_attempts: int
    departure: str | None  # where it first decided otherwise; None = nowhere


class Departed(Exception):
    """The replay asks for what the log does not have."""


class LoggedProducer:
    """Answers requests from the log, group by group in the order in which the rollouts were logged."""

    def __init__(self) -> None:
        self._rollouts: dict[int, deque[Judged]] = {}
        self._greedy: dict[int, Judged] = {}

    def give(self, feedback: Feedback) -> None:
        """Make an attempt's rollouts available."""
        plan, outcome = feedback.plan, feedback.outcome
        for b, group in enumerate(plan.group_B.tolist()):
            self._rollouts[group] = deque()
            if plan.greedy_B[b]:
                status = Status.OK if np.isfinite(outcome.baseline_B[b]) else Status.ERROR
                self._greedy[group] = _judged(1, status, float(outcome.baseline_B[b]), 0)
        columns = (outcome.n_tokens_R, outcome.status_R, outcome.reward_R, outcome.policy_version_R, outcome.n_turns_R)
        rows = zip(outcome.group_R.tolist(), *(column.tolist() for column in columns), outcome.cut_score_RS, strict=True)
        for b, n_tokens, status, reward, version, n_turns, cut_score_S in rows:
            judged = _judged(n_tokens, Status(status), reward, version, n_turns)
            self._rollouts[int(plan.group_B[b])].append(replace(judged, cut_score_S=cut_score_S))

    def produce(self, requests: Sequence[Request], prompt_of: Mapping[Ticket, Prompt]) -> dict[Ticket, list[Judged]]:
        """The logged completions of every request. Errors: Departed where the log has none, or fewer."""
        return {request.ticket: self._taken(request) for request in sorted(requests, key=lambda request: request.ticket)}

    def _taken(self, request: Request) -> list[Judged]:
        group = request.ticket.group
        if request.ticket.part == GREEDY_PART:
            if group not in self._greedy:
                raise Departed(f"asks for a greedy completion in group {group}, which the log does not have")
            return [self._greedy.pop(group)]
        logged = self._rollouts.get(group, deque())
        if len(logged) < request.n:
            wanted = f"{request.n} more rollouts of prompt {request.prompt_key!r} (group {group})"
            raise Departed(f"asks for {wanted}, the log has {len(logged)}")
        return [logged.popleft() for _ in range(request.n)]


def _judged(n_tokens: int, status: Status, reward: float, version: int, n_turns: int = 1) -> Judged:
    blank = Completion(np.zeros(n_tokens, np.int32), np.zeros(n_tokens, np.float32), "", FinishReason.STOP, n_turns=n_turns)
    return Judged(blank, status, reward, version)


def reexecute(
    steps: Iterable[LoggedStep],
    collector: Collector,
    producer: LoggedProducer,
    learn: Callable[[LoggedStep], str | None],
    ahead: Callable[[int], bool],
) -> Replayed:
    """Decide every logged step again.

    ``learn`` is the curriculum's update, and its growth where the pool grew; it may say what the run decided otherwise there.
    ``ahead(step)`` says whether the run planned step + 1 before it had learned from step.
    """
    n_steps = n_attempts = 0
    before: LoggedStep | None = None
    for logged in steps:
        for feedback in logged.feedbacks:
            producer.give(feedback)
        in_flight = before if before is not None and ahead(before.step) else None
        if before is not None and in_flight is None and (said := learn(before)) is not None:
            return Replayed(n_steps, n_attempts, f"step {before.step}: {said}")
        try:
            attempts = collector.collect(logged.step, exclude=_prompts(in_flight))
        except Departed as departed:
            return Replayed(n_steps, n_attempts, f"step {logged.step}: the replay {departed}")
        if (said := _departure(attempts, logged.feedbacks)) is not None:
            return Replayed(n_steps, n_attempts, f"step {logged.step}: {said}")
        if in_flight is not None and (said := learn(in_flight)) is not None:
            return Replayed(n_steps, n_attempts, f"step {in_flight.step}: {said}")
        n_steps, n_attempts, before = n_steps + 1, n_attempts + len(attempts), logged
    return Replayed(n_steps, n_attempts, None)


def _prompts(logged: LoggedStep | None) -> list[int]:
    return [] if logged is None else [int(i) for feedback in logged.feedbacks for i in feedback.plan.selection.prompt_B]


def _departure(attempts: Sequence[Attempt], logged: Sequence[Feedback]) -> str | None:
    """What first differs between the replay's attempts and the log's."""
    for attempt, feedback in zip(attempts, logged, strict=False):
        ours, theirs = _decisions(attempt.plan, attempt.verdict), _decisions(feedback.plan, feedback.verdict)
        for name, value in ours.items():
            if not np.array_equal(value, theirs[name], equal_nan=True):
                return f"attempt {feedback.plan.attempt}: {name} was {theirs[name]}, the replay has {value}"
    if len(attempts) != len(logged):
        return f"{len(logged)} attempts were made, the replay makes {len(attempts)}"
    return None


def _decisions(plan: RolloutPlan, verdict: Verdict) -> dict[str, np.ndarray]:
    decided = {f"selection.{name}": getattr(plan.selection, name) for name in ("prompt_B", "distribution_B", "propensity_B")}
    of_budget = ("n_rollouts_B", "group_B", "probability_K", "n_carried", "n_unspent")
    of_plan = (*of_budget, "max_tokens_B", "greedy_B", "max_turns_B", "stated_tokens_B")
    of_verdict = ("kept_B", "reason_B", "carries_gradient_R", "weight_B", "refill", "refill_margin", "renormalise")
    decided |= {name: np.asarray(getattr(plan, name)) for name in of_plan}
    decided |= {f"cuts.{name}": np.asarray(getattr(plan.cuts, name)) for name in ("at", "n_summaries", "summary_tokens")}
    return decided | {name: np.asarray(getattr(verdict, name)) for name in of_verdict}

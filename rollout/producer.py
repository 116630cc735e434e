"""Requests in, judged completions out: generation and verification side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from curricula.types import CurriculaError, Status
from rollout.dispatcher import Dispatcher
from rollout.prompts import Prompt
from rollout.types import Answer, FinishReason, Judged, Request, Ticket
from rollout.verifier import Score, VerifierPool, VerifyItem

Completed = Callable[[Ticket, list[Judged]], None]


class Producer:
    """Streams answers to the verifiers as they finish, so that the last completion is the only one that waits for its verdict."""

    def __init__(self, dispatcher: Dispatcher, verifier: VerifierPool, score_truncated: bool = True) -> None:
        self._dispatcher = dispatcher
        self._verifier = verifier
        self._score_truncated = score_truncated
        self._answers: dict[Ticket, Answer] = {}

    def produce(self, requests: Sequence[Request], prompt_of: Mapping[Ticket, Prompt]) -> dict[Ticket, list[Judged]]:
        """The judged completions of every request, by ticket; each completion has a status, none is missing."""
        judged: dict[Ticket, list[Judged]] = {}
        self._dispatcher.submit(requests)
        for answer in self._dispatcher.stream():
            self._verify(answer, prompt_of[answer.ticket])
            judged.update(self._judge(self._verifier.poll()))
        judged.update(self._judge(self._verifier.drain()))
        missing = [request.ticket for request in requests if request.ticket not in judged]
        if missing:
            raise CurriculaError(
                f"producer: {len(missing)} of {len(requests)} tickets came back without a verdict, first {missing[0]}"
            )
        return judged

    def _verify(self, answer: Answer, prompt: Prompt) -> None:
        self._answers[answer.ticket] = answer
        items = [VerifyItem(completion.text, prompt.answer, prompt.extra) for completion in answer.completions]
        self._verifier.submit(answer.ticket, items)

    def _judge(self, scored: Sequence[tuple[Ticket, list[Score]]]) -> dict[Ticket, list[Judged]]:
        return {ticket: self._merge(self._answers.pop(ticket), scores) for ticket, scores in scored}

    def _merge(self, answer: Answer, scores: list[Score]) -> list[Judged]:
        return [
            Judged(completion, *self._status(completion.finish, score), answer.policy_version, answer.engine, score.detail)
            for completion, score in zip(answer.completions, scores, strict=True)
        ]

    def _status(self, finish: FinishReason, score: Score) -> tuple[Status, float]:
        if finish is FinishReason.CANCELLED:
            return Status.LOST, float("nan")
        if finish is FinishReason.LENGTH and not self._score_truncated:
            return Status.TRUNCATED, float("nan")
        return score.status, score.reward


def request_seed(seed: int, ticket: Ticket) -> int:
    """A seed of its own for every request: the same ticket draws the same tokens, on whatever engine."""
    words = [seed, int(ticket.group < 0), abs(ticket.group), ticket.round, ticket.part]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)

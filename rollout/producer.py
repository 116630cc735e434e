"""Requests in, judged completions out: generation and verification side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from curricula.types import CurriculaError, Status
from rollout.dispatcher import Dispatcher
from rollout.prompts import Prompt
from rollout.summaries import Summariser, Thought, thought_of
from rollout.turns import Retry, first_turn
from rollout.types import Answer, FinishReason, Judged, Request, Ticket
from rollout.verifier import Score, VerifierPool, VerifyItem

Completed = Callable[[Ticket, list[Judged]], None]
LOOK_S = 0.05  # between two looks at the engines while only verdicts are open: one of them may ask for another turn


class Producer:
    """Streams answers to the verifiers as they finish, so that the last completion is the only one that waits for its verdict.

    Requests of several turns (``max_turns``) need a ``retry``: a wrong completion goes on as soon as its verdict is there. Requests
    with ``cuts`` need a ``summariser``: a completion is summed up as soon as it is there, and settled with its last summary.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        verifier: VerifierPool,
        score_truncated: bool = True,
        retry: Retry | None = None,
        summariser: Summariser | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._verifier = verifier
        self._score_truncated = score_truncated
        self._retry = retry
        self._summariser = summariser
        self._answers: dict[Ticket, Answer] = {}
        self._requests: dict[Ticket, Request] = {}  # whose verdicts are open
        self._before: dict[Ticket, Judged] = {}  # what an open later turn goes on with
        self._thoughts: dict[Ticket, Thought] = {}  # completions with open summaries
        self._judged: dict[Ticket, dict[int, Judged]] = {}  # what is settled, by request and place

    def produce(self, requests: Sequence[Request], prompt_of: Mapping[Ticket, Prompt]) -> dict[Ticket, list[Judged]]:
        """The judged completions of every request, by ticket; each completion has a status, none is missing."""
        self._refuse_what_has_no_words(requests)
        self._judged = {request.ticket: {} for request in requests}
        self._submit(requests)
        while self._dispatcher.open or self._verifier.n_open:
            for answer in self._dispatcher.stream(meanwhile=self._poll):
                self._verify(answer, prompt_of[first_turn(answer.ticket)])
                self._poll()
            self._settle(self._verifier.drain(LOOK_S if self._retry else None))
        missing = [request.ticket for request in requests if len(self._judged[request.ticket]) != request.n]
        if missing:
            raise CurriculaError(
                f"producer: {len(missing)} of {len(requests)} tickets came back without a verdict, first {missing[0]}"
            )
        return {ticket: [judged for _, judged in sorted(places.items())] for ticket, places in self._judged.items()}

    def _submit(self, requests: Sequence[Request]) -> None:
        self._requests |= {request.ticket: request for request in requests}
        self._dispatcher.submit(requests)

    def _verify(self, answer: Answer, prompt: Prompt) -> None:
        request = self._requests[answer.ticket]
        if self._summariser and answer.ticket.cut:
            answer = replace(answer, completions=[self._summariser.asked(drawn) for drawn in answer.completions])
        elif self._summariser and request.cuts:
            self._cut(self._summariser, request, answer)
        self._answers[answer.ticket] = answer
        items = [VerifyItem(completion.text, prompt.answer, prompt.extra) for completion in answer.completions]
        self._verifier.submit(answer.ticket, items)

    def _poll(self) -> None:
        self._settle(self._verifier.poll())

    def _settle(self, scored: Sequence[tuple[Ticket, list[Score]]]) -> None:
        """Keep what is final, and submit the further turns of the rest."""
        further: list[Request] = []
        for ticket, scores in scored:
            request, before = self._requests.pop(ticket), self._before.pop(ticket, None)
            answered = self._merge(self._answers.pop(ticket), scores)
            if self._summariser and (ticket.cut or request.cuts):
                self._sum_up(self._summariser, ticket, answered)
                continue
            for place, judged in enumerate(answered):
                follow_up = self._retry.follow_up(request, place, judged) if self._retry else None
                whole = self._retry.joined(before, judged) if self._retry and before else judged
                if follow_up is None:
                    self._judged[first_turn(ticket)][ticket.place if ticket.turn else place] = whole
                else:
                    self._before[follow_up.ticket] = whole
                    further.append(follow_up)
        if further:
            self._submit(further)

    def _cut(self, summariser: Summariser, request: Request, answer: Answer) -> None:
        """Ask for the summaries of a request's completions."""
        asked = [summariser.requests(request, place, thought) for place, thought in enumerate(answer.completions)]
        for place, of_thought in enumerate(asked):
            self._thoughts[replace(request.ticket, place=place)] = Thought(request.cuts, len(of_thought))
        self._submit([one for of_thought in asked for one in of_thought])

    def _sum_up(self, summariser: Summariser, ticket: Ticket, judged: list[Judged]) -> None:
        """Put verdicts on completions and their summaries together; what has all of them is settled."""
        if ticket.cut:
            self._thoughts[thought_of(ticket)].summaries[ticket.cut - 1] = judged
            names = [thought_of(ticket)]
        else:
            names = [replace(ticket, place=place) for place in range(len(judged))]
            for name, whole in zip(names, judged, strict=True):
                self._thoughts[name].judged = whole
        for name in names:
            thought = self._thoughts[name]
            if thought.judged is not None and len(thought.summaries) == thought.n_asked:
                del self._thoughts[name]
                self._judged[first_turn(name)][name.place] = summariser.summed_up(thought.judged, thought.cuts, thought.summaries)

    def _merge(self, answer: Answer, scores: list[Score]) -> list[Judged]:
        return [
            Judged(
                completion,
                *self._status(completion.finish, score),
                answer.policy_version,
                answer.engine,
                score.detail,
                answer.seconds,
            )
            for completion, score in zip(answer.completions, scores, strict=True)
        ]

    def _status(self, finish: FinishReason, score: Score) -> tuple[Status, float]:
        if finish is FinishReason.CANCELLED:
            return Status.LOST, float("nan")
        if finish is FinishReason.LENGTH and not self._score_truncated:
            return Status.TRUNCATED, float("nan")
        return score.status, score.reward

    def _refuse_what_has_no_words(self, requests: Sequence[Request]) -> None:
        if self._retry is None and any(request.max_turns > 1 for request in requests):
            raise CurriculaError("producer: requests of several turns, but nothing that the model is told after a wrong answer")
        if self._summariser is None and any(request.cuts for request in requests):
            raise CurriculaError("producer: requests with cuts, but nothing that asks the model for a summary")
        if any(request.cuts and request.max_turns > 1 for request in requests):
            raise CurriculaError("producer: a request has cuts and several turns; expected one or the other")

"""Rollouts of several turns: after a wrong answer the model is told so, and the same completion goes on.

A turn is a request of its own, for one completion: its prompt is the whole exchange so far, its ticket names turn and completion,
its seed follows from the ticket. What is fed counts against the completion's token limit, so an exchange is never longer than the
completion of one turn may be, and fits every window that one turn fits.

When a later turn enters an engine depends on when its verdict came, and so does who is computed beside it: plans and random streams
do not change, but a real engine's log-probabilities may in their last bits, where a run of single turns in the driver repeats them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curricula.types import Bools, Status
from rollout.prompts import RewardSpec
from rollout.types import Completion, Judged, Request, Ticket

ANSWER = "here stands the answer"


@dataclass(frozen=True)
class Retry:
    """What the model is told after a wrong answer, and which answers are wrong: those with a score of 1/2 or less."""

    text: str
    token_ids: tuple[int, ...]
    reward: RewardSpec

    def follow_up(self, request: Request, place: int, judged: Judged) -> Request | None:
        """The next turn of one completion of a request; None when it is right, unscored, or has no turn or no room left."""
        completion, ticket = judged.completion, request.ticket
        room = request.sampling.max_tokens - len(completion.token_ids) - len(self.token_ids)
        if judged.status is not Status.OK or self._right(judged.reward) or room < 1 or ticket.turn + 1 >= request.max_turns:
            return None
        following = replace(ticket, turn=ticket.turn + 1, place=ticket.place if ticket.turn else place)
        return replace(
            request,
            ticket=following,
            prompt_ids=(*request.prompt_ids, *completion.token_ids.tolist(), *self.token_ids),
            n=1,
            sampling=replace(request.sampling, max_tokens=room),
            seed=request_seed(request.seed, following),
        )

    def joined(self, before: Judged, after: Judged) -> Judged:
        """Both turns as one rollout, with the verdict on the later one and the older of their policy versions."""
        first, last = before.completion, after.completion
        n_fed = len(self.token_ids)
        completion = Completion(
            token_ids=np.concatenate([first.token_ids, np.array(self.token_ids, np.int32), last.token_ids]),
            logprob_T=np.concatenate([first.logprob_T, np.zeros(n_fed, np.float32), last.logprob_T]),
            text=first.text + self.text + last.text,
            finish=last.finish,
            drawn_T=np.concatenate([_drawn(first), np.zeros(n_fed, np.bool_), _drawn(last)]),
            n_turns=first.n_turns + last.n_turns,
        )
        version, seconds = min(before.policy_version, after.policy_version), before.seconds + after.seconds
        return replace(after, completion=completion, policy_version=version, seconds=seconds)

    def _right(self, reward: float) -> bool:
        return reward - self.reward.low > 0.5 * (self.reward.high - self.reward.low)


def feedback_ids(text: str, tokenizer: Any, chat: bool) -> tuple[int, ...]:
    """Tokens of the text that follows a wrong answer: as it stands, or in a chat as the user's next message."""
    following = _next_message(text.strip(), tokenizer) if chat else text
    return tuple(tokenizer(following, add_special_tokens=False)["input_ids"])


def _next_message(text: str, tokenizer: Any) -> str:
    """All that the tokenizer's template puts behind an answer, whose end-of-sequence token the model has drawn itself."""
    roles = (("user", "?"), ("assistant", ANSWER), ("user", text))
    messages = [{"role": role, "content": content} for role, content in roles]
    whole: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    _, answer, behind = whole.partition(ANSWER)
    _, end, following = behind.partition(tokenizer.eos_token or "<no end-of-sequence token>")
    return following if end else behind if answer else text


def request_seed(seed: int, ticket: Ticket) -> int:
    """A seed of its own for every request: the same ticket draws the same tokens, on whatever engine."""
    words = [seed, int(ticket.group < 0), abs(ticket.group), ticket.round, ticket.part]
    if ticket.turn or ticket.cut:
        words += [ticket.turn, ticket.place]
    if ticket.cut:
        words += [ticket.cut]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def first_turn(ticket: Ticket) -> Ticket:
    """The ticket of the request that a turn or a summary goes back to."""
    return replace(ticket, turn=0, place=0, cut=0)


def spans(completion: Completion) -> list[int]:
    """Lengths of the parts of a completion: drawn, fed, drawn, ..., as many drawn ones as it has turns.

    >>> from rollout.types import FinishReason
    >>> drawn_T = np.array([True, True, False, True])
    >>> spans(Completion(np.zeros(4, np.int32), np.zeros(4, np.float32), "", FinishReason.STOP, drawn_T, n_turns=2))
    [2, 1, 1]
    """
    if completion.drawn_T is None:
        return [len(completion.token_ids)]
    edges = np.flatnonzero(np.diff(completion.drawn_T)) + 1
    return np.diff([0, *edges.tolist(), len(completion.drawn_T)]).tolist()  # type: ignore[no-any-return]


def _drawn(completion: Completion) -> Bools:
    return np.ones(len(completion.token_ids), dtype=np.bool_) if completion.drawn_T is None else completion.drawn_T

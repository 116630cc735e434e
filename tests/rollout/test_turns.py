"""Rollouts of several turns against a scripted engine and verifier: who goes on, with what, and what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from curricula.types import CurriculaError, Status
from rollout.dispatcher import Dispatcher
from rollout.producer import Producer
from rollout.prompts import Prompt, RewardSpec
from rollout.turns import Retry, feedback_ids, request_seed, spans
from rollout.types import Answer, Completion, FinishReason, Judged, Request, Sampling, Ticket
from rollout.verifier import Score, VerifyItem
from tests.rollout.test_dispatcher import LOCAL, ScriptedHandle, dispatch
from tests.tiny import character_tokenizer

FED = (90, 91)
RETRY = Retry(" no! ", FED, RewardSpec("exact", -1.0, 1.0))
PROMPT = Prompt("p", "d", "1+1", "2")


class Answering(ScriptedHandle):
    """Needs as many turns as the first token of the prompt plus the completion's place says; turn t draws t + 1 tokens."""

    def answer(self, request: Request) -> Answer:
        turn = request.ticket.turn
        places = range(request.n) if turn == 0 else [request.ticket.place]
        texts = ["right" if turn + 1 >= request.prompt_ids[0] + place else "wrong" for place in places]
        drawn = [
            Completion(
                np.full(turn + 1, 10 * turn + place, np.int32), np.full(turn + 1, -1.0 - turn, np.float32), text, FinishReason.STOP
            )
            for place, text in zip(places, texts, strict=True)
        ]
        return Answer(request.ticket, drawn, self.version, self.name, 0.0)


class LateVerifier:
    """Scores by the text; every verdict is due a few looks after it was asked for."""

    def __init__(self, patience: int = 0) -> None:
        self.patience = patience
        self.texts: list[str] = []
        self._open: list[tuple[int, Any, list[Score]]] = []
        self._now = 0

    @property
    def n_open(self) -> int:
        return len(self._open)

    def submit(self, key: Hashable, items: Sequence[VerifyItem]) -> None:
        self.texts += [item.completion for item in items]
        self._open.append((self._now + self.patience, key, [self._score(item.completion) for item in items]))

    def poll(self) -> list[tuple[Any, list[Score]]]:
        self._now += 1
        due = [(key, scores) for when, key, scores in self._open if when < self._now]
        self._open = [entry for entry in self._open if entry[0] >= self._now]
        return due

    def drain(self, timeout: float | None = None) -> list[tuple[Any, list[Score]]]:
        return self.poll()

    @staticmethod
    def _score(text: str) -> Score:
        return Score(Status.ERROR, float("nan"), "boom") if text == "boom" else Score(Status.OK, 1.0 if text == "right" else -1.0)


def request(group: int, needed: int, n: int = 1, max_turns: int = 1, max_tokens: int = 50) -> Request:
    ticket = Ticket(group)
    return Request(ticket, (needed, 5), n, Sampling(max_tokens=max_tokens), request_seed(3, ticket), "p", max_turns)


def produced(requests: Sequence[Request], handles: Sequence[ScriptedHandle], patience: int = 0) -> dict[Ticket, list[Judged]]:
    producer = Producer(dispatch(handles), LateVerifier(patience), retry=RETRY)  # type: ignore[arg-type]
    return producer.produce(requests, {one.ticket: PROMPT for one in requests})


@pytest.mark.parametrize("patience", [0, 3, 50])
def test_a_wrong_answer_is_told_so_and_goes_on_until_it_is_right(patience: int) -> None:
    """Also when verdicts come long after the engines have nothing left to do."""
    handle = Answering("a", 1)
    asked = request(7, needed=1, n=3, max_turns=3)  # places 0, 1, 2 need 1, 2, 3 turns
    (rollouts,) = produced([asked], [handle], patience).values()
    assert [one.completion.n_turns for one in rollouts] == [1, 2, 3]
    assert [one.reward for one in rollouts] == [1.0, 1.0, 1.0]
    first, _, last = (one.completion for one in rollouts)
    assert first.drawn_T is None
    assert first.text == "right"
    assert last.token_ids.tolist() == [2, *FED, 12, 12, *FED, 22, 22, 22]
    assert last.logprob_T.tolist() == [-1, 0, 0, -2, -2, 0, 0, -3, -3, -3]
    assert last.drawn_T is not None
    assert last.drawn_T.tolist() == [True, False, False, True, True, False, False, True, True, True]
    assert (last.n_drawn, spans(last)) == (6, [1, 2, 2, 2, 3])
    assert last.text == "wrong no! wrong no! right"
    assert last.token_ids.dtype == np.int32
    assert last.logprob_T.dtype == np.float32


def test_follow_ups_have_the_whole_exchange_what_is_left_of_the_limit_and_a_seed_of_their_own() -> None:
    class Keeping(Answering):
        taken: list[Request]

        def send(self, requests: Sequence[Request], cancel: Sequence[Ticket] = ()) -> None:
            self.taken = [*getattr(self, "taken", []), *requests]
            super().send(requests, cancel)

    handle = Keeping("a", 1)
    produced([request(7, needed=2, n=2, max_turns=3, max_tokens=20)], [handle])
    later = {(one.ticket.turn, one.ticket.place): one for one in handle.taken if one.ticket.turn}
    assert later.keys() == {(1, 0), (1, 1), (2, 1)}
    assert later[1, 1].prompt_ids == (2, 5, 1, *FED)
    assert later[2, 1].prompt_ids == (2, 5, 1, *FED, 11, 11, *FED)
    assert [later[key].sampling.max_tokens for key in ((1, 0), (2, 1))] == [20 - 3, 20 - 3 - 4]
    assert {one.n for one in later.values()} == {1}
    assert len({one.seed for one in handle.taken}) == 4
    assert {one.ticket.group for one in later.values()} == {7}


def test_a_further_turn_does_not_wait_for_the_long_completions_of_others() -> None:
    class Holding(Answering):
        """Group 1 is not answered before a later turn of group 2 has come."""

        def poll(self) -> list[Answer]:
            later = any(ticket.turn for ticket, _, _ in self.seen)
            return [self.answer(self.work.pop(t)) for t in list(self.work) if t.group == 2 or later]

    asked = [request(1, needed=1), request(2, needed=2, max_turns=2)]
    settings = replace(LOCAL, answer_timeout_s=20.0, max_restarts=0)
    producer = Producer(dispatch([Holding("a", 1)], settings), LateVerifier(3), retry=RETRY)  # type: ignore[arg-type]
    found = producer.produce(asked, {one.ticket: PROMPT for one in asked})
    assert [rollouts[0].completion.n_turns for rollouts in found.values()] == [1, 2]


def test_only_wrong_answers_with_turns_and_room_left_go_on() -> None:
    asked = [request(1, needed=9, max_turns=1), request(2, needed=9, max_turns=2), request(3, 9, max_turns=5, max_tokens=5)]
    once, twice, narrow = produced(asked, [Answering("a", 1)]).values()
    assert [one.completion.n_turns for one in (*once, *twice, *narrow)] == [1, 2, 2]
    assert [one.reward for one in (*once, *twice, *narrow)] == [-1.0, -1.0, -1.0]
    assert len(narrow[0].completion.token_ids) == 5, "1 + 2 fed + 2; two more could not be fed"
    (none,) = produced([request(4, 9, max_turns=5, max_tokens=3)], [Answering("a", 1)]).values()
    assert none[0].completion.n_turns == 1


def test_a_turn_without_a_verdict_ends_the_rollout_without_a_reward() -> None:
    class Breaking(Answering):
        def answer(self, request: Request) -> Answer:
            given = super().answer(request)
            text = "boom" if request.ticket.turn == 1 else "wrong"
            return replace(given, completions=[replace(one, text=text) for one in given.completions])

    (rollouts,) = produced([request(1, 9, max_turns=4)], [Breaking("a", 1)]).values()
    assert (rollouts[0].status, rollouts[0].completion.n_turns, rollouts[0].detail) == (Status.ERROR, 2, "boom")
    assert np.isnan(rollouts[0].reward)


def test_the_verifier_sees_each_turn_alone() -> None:
    verifier = LateVerifier()
    producer = Producer(dispatch([Answering("a", 1)]), verifier, retry=RETRY)  # type: ignore[arg-type]
    asked = request(1, needed=2, max_turns=2)
    producer.produce([asked], {asked.ticket: PROMPT})
    assert verifier.texts == ["wrong", "right"]


def test_right_is_above_the_middle_of_the_reward_range_and_the_older_version_counts() -> None:
    retry = replace(RETRY, reward=RewardSpec("exact", 0.0, 4.0))
    completion = Completion(np.array([1], np.int32), np.zeros(1, np.float32), "", FinishReason.STOP)
    asked = request(1, 1, max_turns=2)
    half = Judged(completion, Status.OK, 2.0, 4, "a")
    assert retry.follow_up(asked, 0, half) is not None
    assert retry.follow_up(asked, 0, replace(half, reward=2.1)) is None
    joined = retry.joined(half, Judged(completion, Status.OK, 3.0, 5, "b"))
    assert (joined.reward, joined.policy_version, joined.engine) == (3.0, 4, "b")
    assert retry.joined(replace(half, policy_version=6), Judged(completion, Status.OK, 3.0, 5, "b")).policy_version == 5


@pytest.mark.parametrize("seed", range(60))
def test_deaths_between_attempts_change_nothing(seed: int) -> None:
    asked = [request(i, needed=1 + i % 3, n=1 + i % 4, max_turns=1 + i % 5) for i in range(20)]
    calm = produced(asked, [Answering("a", 1)])
    handles = [Answering(f"engine-{i}", 10 * seed + i, p_death=0.15, p_twice=0.3) for i in range(1 + seed % 3)]
    rough = produced(asked, handles, patience=seed % 4)
    assert rough.keys() == calm.keys()
    for ticket, rollouts in calm.items():
        for one, other in zip(rollouts, rough[ticket], strict=True):
            assert one.completion.token_ids.tolist() == other.completion.token_ids.tolist()
            assert (one.reward, one.completion.n_turns) == (other.reward, other.completion.n_turns)
    seeds = Counter(ticket for handle in handles for ticket, _ in {(ticket, seed) for ticket, seed, _ in handle.seen})
    assert max(ticket.turn for ticket in seeds) >= 3


def test_some_of_these_deaths_hit_later_turns() -> None:
    again = []
    for seed in range(10):
        handle = Answering("a", seed, p_death=0.15)
        produced([request(i, needed=3, n=2, max_turns=3) for i in range(10)], [handle])
        taken = Counter(ticket for ticket, _, _ in handle.seen)
        again += [ticket.turn for ticket, n in taken.items() if n > 1]
    assert set(again) == {0, 1, 2}


def test_seeds_of_first_turns_are_what_they_were_and_all_others_differ() -> None:
    ticket = Ticket((5 << 32) + (1 << 20) + 3, 1, 2)
    assert request_seed(7, ticket) == 4836647496225337997
    tickets = [replace(ticket, turn=turn, place=place) for turn in range(4) for place in range(4) if turn or not place]
    assert len({request_seed(7, one) for one in tickets}) == len(tickets) == 13


TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}END\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(
    ("chat", "end", "expected"),
    [
        (False, "<eos>", "\nNo.\n"),
        (True, "<eos>", "\n<user>No.<eos>\n<assistant>"),  # the model drew the answer's own end
        (True, "|", "|\n<user>No.|\n<assistant>"),  # a template that ends messages in another way
    ],
)
def test_feedback_is_text_or_the_users_next_message(chat: bool, end: str, expected: str) -> None:
    tokenizer = character_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("END", end)
    ids = feedback_ids("\nNo.\n", tokenizer, chat)
    assert tokenizer.decode(ids) == expected
    assert ids.count(tokenizer.eos_token_id) == expected.count("<eos>")


def test_requests_of_several_turns_need_words_to_go_on_with() -> None:
    producer = Producer(Dispatcher.__new__(Dispatcher), LateVerifier())  # type: ignore[arg-type]
    with pytest.raises(CurriculaError, match="requests of several turns"):
        producer.produce([request(1, 1, max_turns=2)], {})
